//! The only instantiation of the generic validator, which is expensive to compile.

use super::SchemaError;
use crate::core::json::{self, Tape, TapeJson};
use crate::core::limits;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A compiled schema.
pub struct Validator(jsonschema::Validator<TapeJson>);

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
}

/// Characters shown of a reason, which quotes the value.
const REASON_CHARS_MAX: usize = 160;

/// Characters shown of a pointer, which quotes names.
const POINTER_CHARS_MAX: usize = 500;

impl Validator {
    pub(super) fn compile(schema: &Value) -> Result<Self, SchemaError> {
        jsonschema::options_for::<TapeJson>()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map(Self)
            .map_err(|error| SchemaError::Invalid {
                pointer: error.instance_path().to_string(),
                problem: format!("{} ({})", error, error.schema_path()),
            })
    }

    /// Whether the record on `tape` conforms to the schema.
    pub fn is_valid(&self, tape: &Tape) -> bool {
        self.0.is_valid(tape.root())
    }

    /// The violations of the record on `tape`; empty if it conforms.
    pub fn validate(&self, tape: &Tape) -> Vec<Violation> {
        let errors = self.0.iter_errors(tape.root());
        errors
            .take(limits::VIOLATIONS_RECORD_MAX)
            .map(|error| Violation {
                pointer: shorten(&format!("{}{}", error.instance_path(), property(error.kind())), POINTER_CHARS_MAX),
                rule: error.kind().keyword().to_owned(),
                reason: shorten(&error.to_string(), REASON_CHARS_MAX),
            })
            .collect()
    }
}

/// The property that is missing or not allowed, as the last part of a pointer: such an error concerns its object, but
/// people look for the property.
fn property(kind: &ValidationErrorKind) -> String {
    let name = match kind {
        ValidationErrorKind::Required { property } => property.as_str(),
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected.first().map(String::as_str),
        _ => None,
    };
    name.map(json::pointer_part).unwrap_or_default()
}

fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let (head, tail) = (chars_max / 4, chars_max * 3 / 4);
    let skip = text.chars().count() - tail;
    text.chars().take(head).chain("… ".chars()).chain(text.chars().skip(skip)).collect()
}
