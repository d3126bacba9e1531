//! Violations in the words of people: the field's title and the rule, in English and Chinese.

use super::{RULE_CONTENT, RULE_KEY, Schema};
use serde_json::Value;

/// A language of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Schema {
    /// The titles of the field at a JSON pointer, without its place in a list; empty for the record itself.
    pub fn field_title(&self, pointer: &str, language: Language) -> Option<&str> {
        let part = pointer.split('/').rfind(|part| !part.bytes().all(|b| b.is_ascii_digit()) && *part != "*")?;
        let up_to = pointer.rfind(part)? + part.len();
        let field = self.field(&pointer[..up_to])?;
        let titled = match language {
            Language::English => Some(field),
            Language::Chinese => field.get("x-zh"),
        };
        titled?.get("title")?.as_str()
    }

    /// What the schema says of the field at a JSON pointer.
    pub(super) fn field(&self, pointer: &str) -> Option<&Value> {
        let mut found = self.value();
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            let resolved = self.resolved(found);
            let inside = |keyword: &str| resolved.get(keyword);
            found = inside("properties")
                .and_then(|properties| properties.get(&name))
                .or_else(|| inside("items"))
                .or_else(|| inside("additionalProperties").filter(|other| other.is_object()))?;
        }
        Some(found)
    }

    /// The schema that a reference leads to, or the schema itself.
    pub(super) fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
        target.and_then(|pointer| self.value().pointer(pointer)).unwrap_or(schema)
    }

    /// The value of a keyword for the field at a JSON pointer.
    pub fn keyword(&self, pointer: &str, name: &str) -> Option<&Value> {
        let field = self.field(pointer)?;
        field.get(name).or_else(|| self.resolved(field).get(name))
    }

    /// A rule of a field in Chinese.
    pub fn rule_in_chinese(&self, pointer: &str, rule: &str) -> String {
        let stated = || match self.keyword(pointer, rule) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => list.iter().map(plain).collect::<Vec<_>>().join("、"),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        match rule {
            "required" => "缺少必填字段".into(),
            "additionalProperties" | "unevaluatedProperties" => "模式中没有这个字段".into(),
            "type" => format!("类型应为 {}", stated()),
            "enum" => format!("只能填：{}", stated()),
            "const" => format!("只能是 {}", stated()),
            "pattern" => format!("写法应符合 {}", stated()),
            "minimum" => format!("不得小于 {}", stated()),
            "maximum" => format!("不得大于 {}", stated()),
            "exclusiveMinimum" => format!("必须大于 {}", stated()),
            "exclusiveMaximum" => format!("必须小于 {}", stated()),
            "multipleOf" => format!("必须是 {} 的倍数", stated()),
            "minLength" => format!("至少 {} 个字符", stated()),
            "maxLength" => format!("最多 {} 个字符", stated()),
            "minItems" => format!("至少 {} 项", stated()),
            "maxItems" => format!("最多 {} 项", stated()),
            "minProperties" => format!("至少 {} 个成员", stated()),
            "maxProperties" => format!("最多 {} 个成员", stated()),
            "propertyNames" => "成员名的写法不对".into(),
            "uniqueItems" => "列表中有重复项".into(),
            "format" => format_in_chinese(&stated()).into(),
            RULE_KEY => "与前面记录的键相同".into(),
            RULE_CONTENT => "没有写明文件的路径、大小或摘要，或路径在某些系统上不可用".into(),
            "json" => "不是合格的 JSON 对象".into(),
            "csv" => "CSV 行的格式不对".into(),
            other => format!("不符合规则 {other}"),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn format_in_chinese(format: &str) -> &'static str {
    match format {
        "date" => "应为日期，如 2024-03-05",
        "date-time" => "应为含时区的时间，如 2024-03-05T09:00:00+08:00",
        "decimal" => "应为十进制数，如 -1234.50",
        "gbt-4754" => "应为 GB/T 4754 行业代码，如 I65、6513",
        "iri" | "uri" => "应为网址，如 https://例子.中国/",
        "isin" => "ISIN 的写法或校验位不对",
        "iso-3166-1" => "应为 ISO 3166-1 两字母国家代码，如 CN",
        "iso-3166-2" => "应为 ISO 3166-2 行政区代码，如 CN-BJ",
        "iso-4217" => "应为 ISO 4217 三字母货币代码，如 CNY",
        "lei" => "LEI 的写法或校验位不对",
        "period" => "应为年、季度或月份，如 2024、2024-Q1、2024-01",
        "text" => "没有可见文字，或含有不可见的控制字符",
        "ucum" => "应为 UCUM 单位代码，如 kW.h、{人}",
        "uscc" => "统一社会信用代码的长度、字符或校验码不对",
        _ => "格式不对",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::built_in;

    #[test]
    fn fields_and_rules_have_words() {
        let schema = &built_in()[0];
        let title = |pointer: &str, language| schema.field_title(pointer, language).unwrap_or_default().to_owned();
        for (pointer, english, chinese) in [
            ("/uscc", "Unified social credit code", "统一社会信用代码"),
            ("/products/3", "Products", "产品"),
            ("/products/*", "Products", "产品"),
            ("", "", ""),
            ("/unknown", "", ""),
        ] {
            assert_eq!(
                (title(pointer, Language::English), title(pointer, Language::Chinese)),
                (english.into(), chinese.into())
            );
        }
        for (pointer, rule, expected) in [
            ("/uscc", "format", "统一社会信用代码的长度、字符或校验码不对"),
            ("/status", "enum", "只能填：resident、registered-only、left、dissolved"),
            ("/research_share", "maximum", "不得大于 1"),
            ("/employees", "type", "类型应为 integer"),
            ("/products/0", "minLength", "至少 1 个字符"),
            ("", "x-key", "与前面记录的键相同"),
        ] {
            assert_eq!(schema.rule_in_chinese(pointer, rule), expected, "{pointer} {rule}");
        }
        // Every rule of the tables has words of its own.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/tables");
        for schema in built_in().iter().filter(|schema| schema.value()["x-zh"].is_object()) {
            let name = schema.id().rsplit(':').next().unwrap();
            let table: Value =
                serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
            for row in table["bad"].as_array().unwrap().iter() {
                let (pointer, rule) = (row["pointer"].as_str().unwrap(), row["rule"].as_str().unwrap());
                let words = schema.rule_in_chinese(pointer, rule);
                assert!(
                    !words.starts_with("不符合规则") && words != "格式不对" && !words.ends_with(' '),
                    "{row}: {words}"
                );
            }
        }
    }
}
