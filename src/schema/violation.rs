//! What is wrong with a record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a record does not conform to the schema, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Violation {
    /// JSON pointer (RFC 6901) into the record; empty for the record itself.
    pub pointer: String,
    /// The schema keyword, or `json` or `csv` if the text itself is malformed.
    pub rule: String,
    /// Explanation for people.
    pub reason: String,
    /// The wrong value, shortened, if it is a text, number or truth value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Violation {
    /// A violation without a value.
    pub fn new(pointer: impl Into<String>, rule: &str, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), rule: rule.to_owned(), reason: reason.into(), value: None }
    }

    /// The same violation by this value.
    pub fn of(self, value: &str) -> Self {
        Self { value: Some(shorten(value, VALUE_CHARS_MAX)), ..self }
    }
}

/// Characters shown of a value.
const VALUE_CHARS_MAX: usize = 40;

/// A text without its middle, if it is too long.
pub(super) fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let (head, tail) = (chars_max / 4, chars_max * 3 / 4);
    let skip = text.chars().count() - tail;
    text.chars().take(head).chain("… ".chars()).chain(text.chars().skip(skip)).collect()
}
