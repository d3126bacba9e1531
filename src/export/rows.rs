//! Which records are written: conditions such as `area=CHN and period>=2015`.

use super::cells::{Cell, Holds, unknown};
use crate::core::json::{Tape, number};
use crate::core::limits;
use crate::schema::Schema;
use jiff::Timestamp;
use std::cmp::Ordering;
use std::str::FromStr;

/// Conditions that all hold; none at all holds for every record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows(Vec<Condition>);

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    property: String,
    operator: Operator,
    value: String,
    /// The value as the property's values are compared, if not as a text.
    than: Than,
}

/// With what a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Than {
    #[default]
    Text,
    Number(f64),
    Instant(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// A text has the value in it.
    Contains,
}

/// Longer ones first.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::Unequal),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Contains),
];

impl FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut found = Vec::new();
        while !rest.is_empty() {
            if found.len() == limits::CONDITIONS_MAX {
                return Err(format!("at most {} conditions", limits::CONDITIONS_MAX));
            }
            let (condition, after) = condition(rest)?;
            found.push(condition);
            rest = after;
        }
        Ok(Self(found))
    }
}

/// The first condition, and what follows it.
fn condition(text: &str) -> Result<(Condition, &str), String> {
    let shape = || format!("`{text}` is not a condition, such as area=CHN or value>=10; join several with and");
    let at = text.find(['=', '!', '<', '>', '~']).filter(|at| *at > 0).ok_or_else(shape)?;
    let (property, rest) = text.split_at(at);
    let (sign, operator) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(shape)?;
    let rest = rest[sign.len()..].trim_start();
    let (value, after) = if rest.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let value = values.next().and_then(Result::ok).ok_or_else(shape)?;
        let after = rest[values.byte_offset()..].trim_start();
        let after = after
            .get(..4)
            .filter(|word| word.eq_ignore_ascii_case("and "))
            .map(|word| &after[word.len()..])
            .or_else(|| after.is_empty().then_some(after))
            .ok_or_else(shape)?;
        (value, after)
    } else {
        // Whatever the case of the word.
        let and = rest.to_ascii_lowercase().find(" and ");
        let (value, after) = and.map_or((rest, ""), |at| (&rest[..at], &rest[at + 5..]));
        // As other languages write them: here, it would be a part of the value.
        if value.starts_with(['=', '<', '>', '~', '\'']) {
            return Err(format!("`{value}` in `{text}`: write one of = != < <= > >= ~, and quotes as in name=\"=1\""));
        }
        if value.to_ascii_lowercase().contains(" or ") {
            return Err(format!("`{text}`: conditions are joined with and, not with or; a text with or needs quotes"));
        }
        (value.trim().to_owned(), after)
    };
    let property = property.trim().to_owned();
    Ok((Condition { property, operator: *operator, value, than: Than::Text }, after.trim_start()))
}

impl Rows {
    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds the properties. Fails if there is no such property, or a value cannot be one of it.
    pub(super) fn resolve(&mut self, schema: &Schema) -> Result<(), String> {
        for condition in &mut self.0 {
            let kinds = schema.columns();
            let kind = kinds.iter().find(|(name, _)| *name == condition.property).map(|(_, kind)| *kind);
            let kind = kind.ok_or_else(|| unknown(schema, &condition.property))?;
            let holds = Holds::of(schema, &condition.property, kind);
            let (property, value) = (&condition.property, &condition.value);
            condition.than = match holds {
                _ if condition.operator == Operator::Contains => Than::Text,
                Holds::Whole | Holds::Number => {
                    let lexeme = number::scan(value.as_bytes(), 0).is_ok_and(|end| end == value.len());
                    let exact = lexeme && number::canonical(value).is_ok();
                    let parsed = value.parse().ok().filter(|_| exact);
                    Than::Number(parsed.ok_or_else(|| format!("{property} holds numbers, and `{value}` is none"))?)
                }
                Holds::Time => {
                    let wrong =
                        || format!("{property} holds times, and `{value}` is none, such as 2024-03-05T09:00:00Z");
                    Than::Instant(instant(value).ok_or_else(wrong)?)
                }
                _ => Than::Text,
            };
        }
        Ok(())
    }

    /// Whether all conditions hold for a record. A property without a value is unequal to all, and nothing else.
    pub(super) fn has(&self, tape: &Tape) -> bool {
        self.0.iter().all(|condition| condition.holds(&Cell::at(tape, &condition.property)))
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    text.to_ascii_uppercase().parse().ok()
}

impl Condition {
    fn holds(&self, cell: &Cell<'_>) -> bool {
        if matches!(cell, Cell::Nothing) {
            return self.operator == Operator::Unequal;
        }
        let order = match (self.than, cell) {
            (Than::Number(number), Cell::Number(lexeme)) => {
                lexeme.parse::<f64>().ok().and_then(|own| own.partial_cmp(&number))
            }
            (Than::Instant(other), Cell::Text(text)) => instant(text).map(|own| own.cmp(&other)),
            _ => Some(cell.text().cmp(&self.value)),
        };
        match self.operator {
            Operator::Equal => order == Some(Ordering::Equal),
            Operator::Unequal => order != Some(Ordering::Equal),
            Operator::Less => order == Some(Ordering::Less),
            Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Operator::Greater => order == Some(Ordering::Greater),
            Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Operator::Contains => cell.text().contains(&self.value),
        }
    }
}
