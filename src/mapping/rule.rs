//! The rule of one field.

use super::dates::{self, Dates};
use crate::core::json::{Tape, number};
use crate::core::limits;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Where the value of a field comes from (one of `from`, `join`, `value`, `jq`), and what is done to it, in this order.
/// In a file, a rule may also be the name of a column alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Rule {
    /// The column, or the member of the JSON object, or a JSON pointer into it. Of several, the first one that the file has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Several columns, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// The same value in every record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// A jq program over the whole record, which has one result or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jq: Option<String>,
    /// Whether spaces around a text are removed. Around numbers, dates and truth values they never matter.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trim: bool,
    /// Texts that stand for a missing value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What separates the elements of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// What each text becomes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub table: BTreeMap<String, Value>,
    /// What a text becomes that the table does not have; without it, such a text is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Value>,
    /// How dates and times are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<Dates>,
    /// How numbers are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Numbers>,
    /// The value where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// Columns that are joined; those without a value are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The columns.
    pub columns: Vec<String>,
    /// What stands between them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub with: String,
}

/// How numbers are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Numbers {
    /// By what each number is multiplied, exactly: 10000 if the column is in 万元 and the field in yuan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<Factor>,
    /// What may stand before or after a number, and by what the number is then multiplied: `{"万" = 10000, "¥" = 1}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, Factor>,
    /// What separates decimals in this column, if not what does in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<char>,
    /// What separates groups of three digits in this column, if not what does in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
}

/// A number by which others are multiplied, with its exact decimal value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Factor(String);

impl Factor {
    /// The number as JSON writes it.
    pub fn lexeme(&self) -> &str {
        &self.0
    }

    /// A number in decimal.
    pub fn parse(text: &str) -> Option<Self> {
        // A zero would make all values the same.
        let digits = text.split(['e', 'E']).next().unwrap_or_default();
        let is_zero = !digits.bytes().any(|b| matches!(b, b'1'..=b'9'));
        let is_number = number::scan(text.as_bytes(), 0).is_ok_and(|end| end == text.len());
        (is_number && !is_zero).then(|| Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A float of a few digits is written as it was.
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            Value::Number(number) if is_as_written(&number) => number.to_string(),
            Value::Number(_) => return Err(de::Error::custom("a number with so many digits needs quotes")),
            _ => String::new(),
        };
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom("expected a number other than zero, such as 10000 or \"0.01\""))
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": ["string", "number"]})
    }
}

/// A rule as it is written out.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(deserialize_with = "one_or_several")]
    #[schemars(with = "OneOrSeveral")]
    from: Vec<String>,
    join: Option<Join>,
    value: Option<Value>,
    jq: Option<String>,
    trim: bool,
    missing: Vec<String>,
    split: Option<String>,
    table: BTreeMap<String, Value>,
    otherwise: Option<Value>,
    date: Option<Dates>,
    number: Option<Numbers>,
    default: Option<Value>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenDates {
    #[serde(deserialize_with = "one_or_several")]
    #[schemars(with = "OneOrSeveral")]
    formats: Vec<String>,
    to: Option<String>,
    zone: Option<String>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described")]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described")]
enum RuleForm {
    Column(String),
    Rule(Box<Written>),
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described")]
enum DatesForm {
    Formats(OneOrSeveral),
    Dates(WrittenDates),
}

impl JsonSchema for Rule {
    fn schema_name() -> Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RuleForm::json_schema(generator)
    }
}

impl JsonSchema for Dates {
    fn schema_name() -> Cow<'static, str> {
        "Dates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DatesForm::json_schema(generator)
    }
}

/// Texts in short form, a list of them, or the long form: so that an error says what is wrong with the long form, which
/// an untagged enum would not.
struct Short<T> {
    expected: &'static str,
    of_texts: fn(Vec<String>) -> T,
    of_map: Option<fn(Written) -> T>,
    of_dates: Option<fn(WrittenDates) -> T>,
}

impl<'de, T> Visitor<'de> for Short<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.of_texts)(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok((self.of_texts)(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let map = MapAccessDeserializer::new(map);
        match (self.of_map, self.of_dates) {
            (Some(of), _) => Written::deserialize(map).map(of),
            (_, Some(of)) => WrittenDates::deserialize(map).map(of),
            _ => Err(de::Error::custom(format!("expected {}", self.expected))),
        }
    }
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let expected = "a text or a list of texts";
    deserializer.deserialize_any(Short { expected, of_texts: |texts| texts, of_map: None, of_dates: None })
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let of_map = |written: Written| {
            let Written { from, join, value, jq, trim, missing, split, table, otherwise, date, number, default } =
                written;
            Self { from, join, value, jq, trim, missing, split, table, otherwise, date, number, default }
        };
        deserializer.deserialize_any(Short {
            expected: "the name of a column or a rule",
            of_texts: |from| Self { from, ..Self::default() },
            of_map: Some(of_map),
            of_dates: None,
        })
    }
}

impl<'de> Deserialize<'de> for Dates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Short {
            expected: "a format such as %Y-%m-%d, or a table with `formats`",
            of_texts: |formats| Self { formats, ..Self::default() },
            of_map: None,
            of_dates: Some(|written| Self { formats: written.formats, to: written.to, zone: written.zone }),
        })
    }
}

impl Rule {
    /// The rule that takes a column as it is.
    pub fn of_column(name: &str) -> Self {
        Self { from: vec![name.to_owned()], ..Self::default() }
    }

    /// Whether it takes a column as it is.
    pub(super) fn is_plain(&self) -> bool {
        Self { from: self.from.clone(), ..Self::default() } == *self
    }

    /// Whether numbers and missing values are read from it as the file writes them.
    pub(super) fn is_as_written(&self) -> bool {
        let own = |numbers: &Numbers| numbers.decimal.is_some() || !numbers.units.is_empty();
        self.table.is_empty() && self.split.is_none() && self.date.is_none() && !self.number.as_ref().is_some_and(own)
    }

    /// The columns and members that it reads.
    pub fn columns(&self) -> impl Iterator<Item = &String> {
        self.from.iter().chain(self.join.iter().flat_map(|join| &join.columns))
    }

    /// Fails, saying what is wrong, unless it can be followed.
    pub(super) fn check(&self) -> Result<(), String> {
        let sources = [!self.from.is_empty(), self.join.is_some(), self.value.is_some(), self.jq.is_some()];
        if sources.iter().filter(|stated| **stated).count() != 1 {
            return Err("state one of from, join, value and jq".into());
        }
        if self.join.as_ref().is_some_and(|join| join.columns.is_empty()) {
            return Err("join needs columns".into());
        }
        let columns = self.columns().count();
        if columns > limits::RULE_COLUMNS_MAX {
            return Err(format!("a rule reads at most {} columns", limits::RULE_COLUMNS_MAX));
        }
        if self.missing.len() > limits::RULE_UNITS_MAX {
            return Err(format!("at most {} texts stand for a missing value", limits::RULE_UNITS_MAX));
        }
        let alone = Self { value: self.value.clone(), ..Self::default() };
        if self.value.is_some() && *self != alone {
            return Err("value is the same in every record; nothing else is done to it".into());
        }
        if !self.table.is_empty() && (self.date.is_some() || self.number.is_some()) {
            return Err("a table says what each text becomes; state no date or number beside it".into());
        }
        if self.jq.as_ref().is_some_and(|program| program.len() > limits::JQ_PROGRAM_BYTES_MAX) {
            return Err(format!("a jq program may have {} bytes", limits::JQ_PROGRAM_BYTES_MAX));
        }
        if self.split.as_ref().is_some_and(String::is_empty) {
            return Err("split needs a text that separates the elements".into());
        }
        if self.otherwise.is_some() && self.table.is_empty() {
            return Err("otherwise needs a table".into());
        }
        if self.date.is_some() && self.number.is_some() {
            return Err("a value is a date or a number, not both".into());
        }
        let constants = [&self.value, &self.otherwise, &self.default].into_iter().flatten().chain(self.table.values());
        // As the TOML library hands them over.
        if constants.clone().any(|value| value.get("$__toml_private_datetime").is_some()) {
            return Err("write a date as a text, in quotes".into());
        }
        constants.into_iter().try_for_each(exact)?;
        self.date.as_ref().map_or(Ok(()), dates::check)?;
        self.number.as_ref().map_or(Ok(()), Numbers::check)
    }
}

/// Whether a number that was read as a double has the value that was written: it has if it has few digits.
fn is_as_written(number: &serde_json::Number) -> bool {
    !number.is_f64() || number.to_string().bytes().filter(u8::is_ascii_digit).count() <= DOUBLE_DIGITS
}

/// Digits that every double keeps.
const DOUBLE_DIGITS: usize = 15;

/// Fails if a record cannot hold a constant as it was written.
fn exact(constant: &Value) -> Result<(), String> {
    match constant {
        Value::Number(number) if !is_as_written(number) => {
            return Err(format!("the number {number} has more than {DOUBLE_DIGITS} digits"));
        }
        Value::Array(items) => items.iter().try_for_each(exact)?,
        Value::Object(members) => members.values().try_for_each(exact)?,
        _ => {}
    }
    let text = serde_json::to_vec(constant).map_err(|error| error.to_string())?;
    Tape::default().parse(&text).map_err(|error| error.problem)
}

impl Numbers {
    fn check(&self) -> Result<(), String> {
        if self.decimal.is_some_and(|decimal| !matches!(decimal, '.' | ',')) {
            return Err("decimal is a point or a comma".into());
        }
        if self
            .thousands
            .is_some_and(|thousands| !matches!(thousands, ',' | '.' | '\'' | '’' | ' ' | '\u{A0}' | '\u{202F}'))
        {
            return Err("thousands is a comma, point, apostrophe or space".into());
        }
        if self.units.len() > limits::RULE_UNITS_MAX {
            return Err(format!("at most {} units", limits::RULE_UNITS_MAX));
        }
        let digits = |unit: &str| unit.trim().is_empty() || unit.chars().any(|c| c.is_ascii_digit());
        match self.units.keys().find(|unit| digits(unit)) {
            Some(unit) => Err(format!("`{unit}` is not a unit: give a text without digits, such as 万 or %")),
            None => Ok(()),
        }
    }
}
