//! Names and titles of fields. What the shared schemas call a field is known in both languages.

use crate::schema::built_in;
use serde_json::Value;

/// A field's name and its titles; an empty title is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Property name.
    pub name: String,
    /// English title.
    pub english: String,
    /// Chinese title.
    pub chinese: String,
}

/// Words that tables of parks have besides those of the shared schemas: name, English, Chinese.
const MORE: &[(&str, &str, &str)] = &[
    ("birth_date", "Date of birth", "出生日期"),
    ("building", "Building", "楼宇"),
    ("city", "City", "城市"),
    ("contact", "Contact", "联系人"),
    ("created", "Created", "创建时间"),
    ("date", "Date", "日期"),
    ("department", "Department", "部门"),
    ("district", "District", "区县"),
    ("email", "Email", "邮箱"),
    ("floor", "Floor", "楼层"),
    ("gender", "Gender", "性别"),
    ("legal_representative", "Legal representative", "法定代表人"),
    ("month", "Month", "月份"),
    ("number", "Number", "序号"),
    ("output_value", "Output value", "产值"),
    ("person", "Name of a person", "姓名"),
    ("phone", "Telephone", "联系电话"),
    ("profit", "Profit", "利润"),
    ("province", "Province", "省份"),
    ("quantity", "Quantity", "数量"),
    ("registered_capital", "Registered capital", "注册资本"),
    ("remark", "Remark", "说明"),
    ("rent", "Rent", "租金"),
    ("room", "Room", "房间号"),
    ("tax", "Tax", "税收"),
    ("total", "Total", "合计"),
    ("year", "Year", "年份"),
    // Other words for the same.
    ("enterprise", "Company name", "企业名称"),
    ("enterprise", "Company", "公司名称"),
    ("enterprise", "Organisation", "单位名称"),
    ("uscc", "Credit code", "信用代码"),
    ("phone", "Phone", "电话"),
    ("rent", "Monthly rent", "月租"),
    ("room", "Flat", "房号"),
    ("month", "Month", "月"),
    ("year", "Year", "年"),
    ("year", "Year", "年度"),
    ("number", "No.", "编码"),
];

/// The known names with their titles.
pub struct Vocabulary(Vec<Named>);

impl Vocabulary {
    /// The words of the shared schemas, and some more.
    pub fn new() -> Self {
        let mut known = Vec::new();
        for schema in built_in() {
            for (name, _) in schema.columns() {
                let part =
                    |of: Option<&Value>| of.and_then(|of| of.get("title")?.as_str()).unwrap_or_default().to_owned();
                let property = schema.property(name);
                let (english, chinese) = (part(Some(property)), part(property.get("x-zh")));
                if !english.is_empty() && !chinese.is_empty() {
                    known.push(Named { name: name.to_owned(), english, chinese });
                }
            }
        }
        let more = MORE.iter().map(|(name, english, chinese)| Named {
            name: (*name).to_owned(),
            english: (*english).to_owned(),
            chinese: (*chinese).to_owned(),
        });
        known.extend(more);
        Self(known)
    }

    fn by_name(&self, name: &str) -> Option<&Named> {
        self.0.iter().find(|known| known.name == name)
    }

    fn by_title(&self, title: &str) -> Option<&Named> {
        self.0.iter().find(|known| known.chinese == title || known.english.eq_ignore_ascii_case(title))
    }

    /// The names of JSON members, which stay as they are.
    pub fn of_member(&self, name: &str) -> Named {
        let known = self.by_name(name).or_else(|| self.by_title(name));
        let is_ascii = name.is_ascii();
        let (english, chinese) = match known {
            Some(known) => (known.english.clone(), known.chinese.clone()),
            None if is_ascii => (sentence(name), String::new()),
            None => (String::new(), name.to_owned()),
        };
        Named { name: name.to_owned(), english, chinese }
    }

    /// The name for a column. Its header is a title, so that the file can be read by it, unless the header is the name.
    pub fn of_column(&self, header: &str, number: usize, headers: &[String], taken: &[Named]) -> Named {
        let title = header.trim();
        if is_name(header) {
            let named = self.of_member(header);
            // A title that is another column's header would make that column ambiguous.
            let free =
                |title: String| if headers.iter().any(|other| other.trim() == title) { String::new() } else { title };
            return Named { english: free(named.english), chinese: free(named.chinese), ..named };
        }
        let bare = title.split(['(', '（', '[', '【', '/']).next().unwrap_or(title).trim();
        let known = self.by_title(bare);
        let name = match known {
            Some(known) => known.name.clone(),
            None if title.is_ascii() => snake_case(bare),
            None => String::new(),
        };
        let name = if name.is_empty() { format!("field_{number}") } else { name };
        let is_taken =
            |name: &str| taken.iter().any(|other| other.name == name) || headers.iter().any(|other| other == name);
        let name = if is_taken(&name) { format!("{name}_{number}") } else { name };
        let mut named = Named {
            name,
            english: known.map(|known| known.english.clone()).unwrap_or_default(),
            chinese: known.map(|known| known.chinese.clone()).unwrap_or_default(),
        };
        if title.is_ascii() { &mut named.english } else { &mut named.chinese }.clone_from(&title.to_owned());
        let other = if title.is_ascii() { &mut named.chinese } else { &mut named.english };
        if headers.iter().any(|header| header.trim() == other)
            || taken.iter().any(|one| one.chinese == *other || one.english == *other)
        {
            other.clear();
        }
        named
    }
}

/// Whether a header can be a property's name as it is.
fn is_name(header: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    header.starts_with(|c: char| c.is_ascii_lowercase()) && header.chars().all(plain)
}

/// `Country Name` as `country_name`.
fn snake_case(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_end_matches('_');
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("n_{name}") } else { name.to_owned() }
}

/// `area_name` as `Area name`.
fn sentence(name: &str) -> String {
    let text = name.replace(['_', '-'], " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Whether a field of this name may have a format whose codes look like other words: HR is a department and a country.
pub fn may_be(name: &str, format: &str) -> bool {
    let words: &[&str] = match format {
        "iso-3166-1" => &["country", "nation", "origin", "国"],
        "iso-4217" => &["currency", "货币", "币"],
        _ => return true,
    };
    let name = name.to_lowercase();
    words.iter().any(|word| name.contains(word))
}

/// Whether a field's name says that it is a time.
pub fn is_time(name: &str) -> bool {
    let lower = name.to_lowercase();
    let words = ["date", "day", "month", "period", "quarter", "time", "week", "year"];
    let mut parts = lower.split(|c: char| !c.is_ascii_alphanumeric());
    parts.any(|part| words.contains(&part)) || name.contains(['年', '月', '日', '期'])
}

/// Whether a field's name says that it identifies records.
pub fn is_identifier(name: &str) -> bool {
    let lower = name.to_lowercase();
    let words = ["id", "code", "no", "number", "key", "uscc", "symbol"];
    let parts: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.iter().any(|word| parts.contains(word))
        || ["编号", "代码", "编码", "序号", "号码"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_get_names_and_stay_titles() {
        let headers: Vec<String> = [
            "企业名称",
            "统一社会信用代码",
            "面积（平方米）",
            "Country Name",
            "GDP (USD)",
            "绿化率",
            "value",
            "Value",
            "2019",
        ]
        .map(str::to_owned)
        .to_vec();
        let (vocabulary, mut taken) = (Vocabulary::new(), Vec::new());
        for (n, header) in headers.iter().enumerate() {
            let named = vocabulary.of_column(header, n + 1, &headers, &taken);
            assert!([&named.name, &named.english, &named.chinese].contains(&header), "{named:?}");
            taken.push(named);
        }
        let names: Vec<&str> = taken.iter().map(|named| named.name.as_str()).collect();
        assert_eq!(
            names,
            ["enterprise", "uscc", "area_m2", "country_name", "gdp", "field_6", "value", "value_8", "n_2019"]
        );
        assert_eq!(taken[1].english, "Unified social credit code");
        assert_eq!((taken[5].english.as_str(), taken[5].chinese.as_str()), ("", "绿化率"));
        assert_eq!(taken[6].english, "", "`Value` is the header of another column");
    }
}
