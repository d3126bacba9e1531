//! What the values of a column say about a field: whether they are its values, and what has to be done to them.

use super::words::WORDS;
use crate::core::json::{Tape, pointer_part};
use crate::core::notation::Notation;
use crate::mapping::{Dates, Factor, Mapping, Numbers, Plan, Rule};
use crate::schema::{ColumnType, Schema, Validator};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How well the values of a column fit a field.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    /// The share of the values that fit; none if there are no values.
    pub(super) share: Option<f64>,
    /// The rules, by JSON pointer; without the column, which they read.
    pub(super) rules: Vec<(String, Rule)>,
    /// What a person has to decide.
    pub(super) open: Option<String>,
}

/// Formats of dates, the usual ones first.
const DATES: [&str; 24] = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y年%m月%d日",
    "%Y%m%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
    "%Y-%m",
    "%Y年%m月",
    "%Y/%m",
    "%Y年",
    "%Y%m",
    "%b %Y",
    "%B %Y",
    "%m/%Y",
    "%Y",
];

/// Formats of times; of those without a zone, a person states it.
const TIMES: [&str; 12] = [
    "%Y-%m-%dT%H:%M:%S%:z",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%Y-%m-%d %H:%M:%S%.f",
];

/// What may separate the elements of a list.
const SEPARATORS: [&str; 7] = ["、", "；", ";", "|", "，", ",", "/"];

/// The fields of a schema, each for itself.
pub(super) struct Fields<'a> {
    schema: &'a Schema,
    validator: Validator,
}

impl<'a> Fields<'a> {
    pub(super) fn of(schema: &'a Schema) -> Option<Self> {
        schema.fields_validator().ok().map(|validator| Self { schema, validator })
    }

    /// The best that can be done with a column's values for a property. `unit` is what stands in brackets in its header.
    pub(super) fn fit(&self, property: &str, values: &[String], unit: &[String]) -> Fit {
        let pointer = pointer_part(property);
        let filled: Vec<&str> = values.iter().map(|value| value.trim()).filter(|value| !is_missing(value)).collect();
        let mut best = Fit { share: None, rules: vec![(pointer.clone(), Rule::default())], open: None };
        let candidates = self.candidates(&pointer, &filled, unit);
        if filled.is_empty() {
            return candidates.into_iter().next().unwrap_or(best);
        }
        for mut candidate in candidates {
            let share = self.share(&candidate.rules, &filled);
            if best.share.is_none_or(|known| share > known + 0.001) {
                candidate.share = Some(share);
                best = candidate;
            }
        }
        best
    }

    /// The share of values that the rules make valid.
    fn share(&self, rules: &[(String, Rule)], values: &[&str]) -> f64 {
        let named = rules.iter().map(|(pointer, rule)| {
            let from = if rule.value.is_some() { Vec::new() } else { vec!["c".to_owned()] };
            (pointer.clone(), Rule { from, ..rule.clone() })
        });
        let mapping = Mapping { title: String::new(), schema: String::new(), fields: named.collect() };
        if mapping.check().is_err() {
            return 0.0;
        }
        let Ok(plan) = Plan::of(&mapping, self.schema, None, Notation::default()) else { return 0.0 };
        let (mut tape, mut made, mut out) = (Tape::default(), self.validator.tape(), Vec::new());
        let fits = |value: &&&str| {
            let record = serde_json::json!({"c": value}).to_string();
            tape.parse(record.as_bytes()).is_ok()
                && plan.apply(tape.root(), &[], &[], &mut out).is_empty()
                && made.parse(&out).is_ok()
                && self.validator.is_valid(&made)
        };
        values.iter().filter(fits).count() as f64 / values.len() as f64
    }

    /// What might be done, the simplest first.
    fn candidates(&self, pointer: &str, values: &[&str], unit: &[String]) -> Vec<Fit> {
        let plain = |rule: Rule| Fit { share: None, rules: vec![(pointer.to_owned(), rule)], open: None };
        let keyword = |name: &str| self.schema.keyword(pointer, name);
        let format = keyword("format").and_then(Value::as_str).unwrap_or_default();
        let mut found = vec![plain(Rule::default())];
        if let Some(Value::Array(allowed)) = keyword("enum") {
            return vec![table(plain(Rule::default()), allowed, values)];
        }
        match self.schema.column_type(pointer) {
            Some(ColumnType::Number) => {
                found.extend(numbers(values, unit, self.maximum(pointer)).into_iter().map(plain))
            }
            Some(ColumnType::Boolean) => {
                found.push(table(plain(Rule::default()), &[Value::Bool(true), Value::Bool(false)], values));
            }
            Some(ColumnType::String) => match format {
                "date" | "period" => {
                    found.extend(dates(&DATES, None).map(plain));
                    let to = if format == "date" { "%Y-%m-%d" } else { "%Y-%m" };
                    found.extend(dates(&TIMES, None).chain(dates(&DATES, None)).map(|rule| {
                        let date = rule.date.map(|date| Dates { to: Some(to.into()), ..date });
                        plain(Rule { date, ..rule })
                    }));
                }
                "date-time" => {
                    found.extend(dates(&TIMES[..3], None).map(plain));
                    let zoned = dates(&TIMES[3..], Some("+08:00")).map(plain);
                    let zoned = zoned.map(|fit| Fit {
                        open: Some("the zone of the times is not stated; +08:00 is China's".into()),
                        ..fit
                    });
                    found.extend(zoned);
                    found.extend(dates(&DATES, None).map(|rule| {
                        let date = rule.date.map(|date| Dates { to: Some("%Y-%m-%dT00:00:00+08:00".into()), ..date });
                        Fit {
                            open: Some("the time of day is not stated, nor its zone".into()),
                            ..plain(Rule { date, ..rule })
                        }
                    }));
                }
                "iso-3166-1" => found.push(codes(plain(Rule::default()), values, &country)),
                "iso-3166-2" => found.push(codes(plain(Rule::default()), values, &subdivision)),
                "" if keyword("pattern")
                    .and_then(Value::as_str)
                    .is_some_and(|pattern| pattern.starts_with("^[0-9]{4}(")) =>
                {
                    found.extend(dates(&DATES, None).chain(dates(&TIMES, Some("Z"))).map(|rule| {
                        let date = rule.date.map(|date| Dates { to: Some("%Y".into()), zone: None, ..date });
                        plain(Rule { date, ..rule })
                    }));
                }
                _ => {}
            },
            Some(ColumnType::Nested)
                if keyword("type").is_some_and(|kind| kind == "object")
                    && self.schema.column_type(&format!("{pointer}/amount")).is_some() =>
            {
                return self.money(pointer, values, unit);
            }
            Some(ColumnType::Nested) => found.extend(lists(values).map(plain)),
            None => {}
        }
        // Two formats that read all values differently are a question.
        let both = |format: &str| values.iter().all(|value| jiff::civil::Date::strptime(format, value).is_ok());
        if !values.is_empty() && ["%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y"].iter().any(|day| both(day) && both(&swapped(day)))
        {
            found.iter_mut().for_each(|fit| fit.open = Some("day or month first? Both can be read".into()));
        }
        found
    }

    fn maximum(&self, pointer: &str) -> Option<f64> {
        self.schema.keyword(pointer, "maximum").and_then(Value::as_f64)
    }

    /// An amount with its currency.
    fn money(&self, pointer: &str, values: &[&str], unit: &[String]) -> Vec<Fit> {
        let all =
            values.iter().copied().chain(unit.iter().map(String::as_str)).collect::<Vec<_>>().join(" ").to_lowercase();
        let known = [
            ("美元", "USD"),
            ("usd", "USD"),
            ("$", "USD"),
            ("€", "EUR"),
            ("eur", "EUR"),
            ("£", "GBP"),
            ("gbp", "GBP"),
            ("元", "CNY"),
            ("¥", "CNY"),
            ("cny", "CNY"),
        ];
        let currency = known.iter().find(|(sign, _)| all.contains(sign)).map(|(_, code)| *code);
        let open = currency.is_none().then(|| "which currency?".to_owned());
        let value = Some(Value::String(currency.unwrap_or("CNY").into()));
        let mut rules = vec![Rule::default()];
        rules.extend(numbers(values, unit, None));
        let fit = |rule: Rule| {
            let currency = Rule { value: value.clone(), ..Rule::default() };
            let rules = vec![(format!("{pointer}/amount"), rule), (format!("{pointer}/currency"), currency)];
            Fit { share: None, rules, open: open.clone() }
        };
        rules.into_iter().map(fit).collect()
    }
}

/// Whether a text in brackets is a unit.
pub(super) fn is_unit(text: &str) -> bool {
    let text = text.trim().trim_start_matches("单位").trim_start_matches(['：', ':']).to_lowercase();
    WORDS.units.iter().any(|(unit, _)| *unit == text)
}

fn swapped(format: &str) -> String {
    format.replace("%d", "%x").replace("%m", "%d").replace("%x", "%m")
}

fn is_missing(value: &str) -> bool {
    matches!(
        value.to_lowercase().as_str(),
        "" | "n/a" | "na" | "null" | "none" | "-" | "--" | "无" | "/" | "—" | "nan" | ".."
    )
}

fn dates<'f>(formats: &'f [&'f str], zone: Option<&str>) -> impl Iterator<Item = Rule> + 'f {
    let zone = zone.map(str::to_owned);
    formats.iter().map(move |format| {
        let date = Dates { formats: vec![(*format).to_owned()], to: None, zone: zone.clone() };
        Rule { date: Some(date), ..Rule::default() }
    })
}

/// Splits at what separates most.
fn lists(values: &[&str]) -> impl Iterator<Item = Rule> + use<> {
    let used = SEPARATORS.iter().filter(|separator| values.iter().any(|value| value.contains(**separator)));
    let mut used: Vec<String> = used.map(|separator| (*separator).to_owned()).collect();
    used.push("；".into());
    used.into_iter().map(|separator| Rule { split: Some(separator), ..Rule::default() })
}

/// Numbers with units, groups, decimal commas, or of another size than the field's.
fn numbers(values: &[&str], unit: &[String], maximum: Option<f64>) -> Vec<Rule> {
    let words = &WORDS.units;
    let factor = |text: &str| {
        let text = text.trim().trim_start_matches("单位").trim_start_matches(['：', ':']).to_lowercase();
        words.iter().find(|(unit, _)| *unit == text).and_then(|(_, factor)| Factor::parse(factor))
    };
    let of_header = unit.iter().find_map(|text| factor(text)).filter(|factor| factor.lexeme() != "1");
    let is_share = maximum == Some(1.0);
    let mut units: BTreeMap<String, Factor> = BTreeMap::new();
    for value in values {
        let number: String = value.chars().filter(|c| c.is_ascii_digit() || ".,-+ ".contains(*c)).collect();
        let rest = value.replace(number.trim(), "");
        let known = words.iter().find(|(unit, _)| *unit == rest.trim().to_lowercase());
        if let Some((_, factor)) = known.filter(|_| !rest.trim().is_empty()) {
            // A percentage of a field that is no share stays what it is.
            let factor = if rest.trim() == "%" && !is_share { "1" } else { factor };
            units.extend(Factor::parse(factor).map(|factor| (rest.trim().to_owned(), factor)));
        }
    }
    let with = |decimal, thousands, factor: &Option<Factor>| {
        let number = Numbers { factor: factor.clone(), units: units.clone(), decimal, thousands };
        let number = Some(number).filter(|number| *number != Numbers::default());
        Rule { number, ..Rule::default() }
    };
    let mut found = Vec::new();
    let size = of_header.filter(|factor| is_share || factor.lexeme() != "0.01");
    for factor in
        [size, is_share.then(|| Factor::parse("0.01")).flatten()].into_iter().flatten().map(Some).chain([None])
    {
        for (decimal, thousands) in [(None, None), (Some('.'), Some(',')), (Some(','), Some('.')), (Some(','), None)] {
            found.push(with(decimal, thousands, &factor));
        }
    }
    // A mean of 100 in a field of 10.
    if maximum == Some(10.0) {
        found.push(with(None, None, &Factor::parse("0.1")));
        found.push(with(None, None, &Factor::parse("2")));
        found.rotate_right(2);
    }
    // Without a unit, the plain number is tried before a hundredth of it.
    if unit.is_empty() && units.is_empty() {
        let scaled = found.len() - 4;
        found.rotate_left(scaled);
    }
    found
}

/// A table from the values of a column to those of an enumeration.
fn table(fit: Fit, allowed: &[Value], values: &[&str]) -> Fit {
    let plain = |text: &str| text.trim().to_lowercase().replace(['_', ' '], "-");
    let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of = |value: &str| {
        let same = allowed.iter().find(|allowed| plain(&text_of(allowed)) == plain(value));
        let meanings = WORDS.values.iter().filter(|line| line.iter().any(|word| plain(word) == plain(value)));
        same.cloned().or_else(|| {
            let known: Vec<&String> = meanings.flatten().collect();
            allowed.iter().find(|allowed| known.iter().any(|word| plain(word) == plain(&text_of(allowed)))).cloned()
        })
    };
    let distinct: BTreeSet<&str> = values.iter().copied().collect();
    let (known, unknown): (Vec<&str>, Vec<&str>) = distinct.into_iter().partition(|value| of(value).is_some());
    if known.iter().all(|value| of(value).is_some_and(|of| of == *value)) && unknown.is_empty() {
        return fit;
    }
    let table: BTreeMap<String, Value> =
        known.iter().filter_map(|value| Some(((*value).to_owned(), of(value)?))).collect();
    let open = (!unknown.is_empty()).then(|| {
        let names: Vec<String> = allowed.iter().map(text_of).collect();
        format!("what are {}? One of {}", unknown.join(", "), names.join(", "))
    });
    let rules = fit.rules.into_iter().map(|(pointer, rule)| (pointer, Rule { table: table.clone(), ..rule })).collect();
    Fit { share: None, rules, open }
}

/// A table from names to codes.
fn codes(fit: Fit, values: &[&str], code: &dyn Fn(&str) -> Option<String>) -> Fit {
    let distinct: BTreeSet<&str> = values.iter().copied().collect();
    let table: BTreeMap<String, Value> =
        distinct.iter().filter_map(|value| Some(((*value).to_owned(), Value::String(code(value)?)))).collect();
    let rules = fit.rules.into_iter().map(|(pointer, rule)| (pointer, Rule { table: table.clone(), ..rule })).collect();
    let open = (!table.is_empty()).then(|| "the table has the values of the first records only".to_owned());
    Fit { share: None, rules, open }
}

fn plain_name(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

fn country(text: &str) -> Option<String> {
    let upper = text.trim().to_uppercase();
    let of_list = rust_iso3166::from_alpha2(&upper).or_else(|| rust_iso3166::from_alpha3(&upper));
    let of_list = of_list.map(|country| country.alpha2.to_owned());
    let named = || {
        let plain = plain_name(text);
        let listed = rust_iso3166::ALL.iter().find(|country| plain_name(country.name) == plain);
        listed.map(|country| country.alpha2.to_owned())
    };
    of_list.or_else(|| WORDS.countries.get(&plain_name(text)).cloned()).or_else(named)
}

fn subdivision(text: &str) -> Option<String> {
    let text = text.trim();
    if rust_iso3166::iso3166_2::from_code(&text.to_uppercase()).is_some() {
        return Some(text.to_uppercase());
    }
    let plain = plain_name(text);
    let by_name = |(name, code): (&String, &String)| plain.starts_with(name.as_str()).then(|| code.clone());
    WORDS.subdivisions.iter().find_map(by_name)
}
