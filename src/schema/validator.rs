//! The only instantiation of the generic validator, which is expensive to compile.

use super::content::Content;
use super::error::SchemaError;
use super::formats::{self, FORMAT_DOUBLE, FORMATS};
use super::violation::{Violation, shorten};
use crate::core::json::{self, Tape, TapeJson};
use crate::core::limits;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError};
use serde_json::Value;
use std::sync::Arc;

/// A compiled schema.
pub struct Validator {
    rules: jsonschema::Validator<TapeJson>,
    key: Vec<String>,
    doubles: Arc<[String]>,
    content: bool,
}

/// The rule of a record whose key another one has.
pub const RULE_KEY: &str = "x-key";

/// Characters shown of a reason, which quotes the value.
const REASON_CHARS_MAX: usize = 160;

/// Characters shown of a pointer, which quotes names.
const POINTER_CHARS_MAX: usize = 500;

impl Validator {
    pub(super) fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let options = jsonschema::options_for::<TapeJson>()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex());
        let with_ours =
            FORMATS.iter().fold(options.with_format(FORMAT_DOUBLE, |_: &str| true), |options, (name, check)| {
                options.with_format(*name, move |text: &str| check(text).is_ok())
            });
        with_ours
            .build(schema)
            .map(|rules| Self { rules, key: Vec::new(), doubles: Arc::default(), content: false })
            .map_err(|error| SchemaError::Invalid {
                pointer: error.instance_path().to_string(),
                problem: format!("{} ({})", error, error.schema_path()),
            })
    }

    pub(super) fn with_key(self, key: Vec<String>) -> Self {
        Self { key, ..self }
    }

    pub(super) fn with_doubles(self, mut doubles: Vec<String>) -> Self {
        doubles.sort();
        Self { doubles: doubles.into(), ..self }
    }

    pub(super) fn with_content(self, content: bool) -> Self {
        Self { content, ..self }
    }

    /// Whether each record describes a file.
    pub fn has_content(&self) -> bool {
        self.content
    }

    /// Why the record on `tape` describes no file, if it must describe one.
    fn no_file(&self, tape: &Tape) -> Option<Violation> {
        if self.content { Content::of(tape).err() } else { None }
    }

    /// A tape for records, which reads the properties that hold binary doubles as such.
    pub fn tape(&self) -> Tape {
        Tape::with_doubles(self.doubles.clone())
    }

    /// The properties that name a record; no two records of a dataset have the same ones.
    pub fn key(&self) -> &[String] {
        &self.key
    }

    /// The violation of a record whose key another one has, which stands at `first`, such as "line 5".
    pub fn repeats(&self, first: &str) -> Violation {
        let pointer = match self.key.as_slice() {
            [one] => json::pointer_part(one),
            _ => String::new(),
        };
        Violation::new(pointer, RULE_KEY, format!("{first} has the same {}", self.key.join(", ")))
    }

    /// Whether the record on `tape` conforms to the schema.
    pub fn is_valid(&self, tape: &Tape) -> bool {
        self.rules.is_valid(tape.root()) && self.no_file(tape).is_none()
    }

    /// A violation of the record on `tape`, found without looking for the others.
    pub fn first(&self, tape: &Tape) -> Option<Violation> {
        match self.rules.validate(tape.root()) {
            Err(error) => violations(&error).into_iter().next(),
            Ok(()) => self.no_file(tape),
        }
    }

    /// The violations of the record on `tape`; empty if it conforms.
    pub fn validate(&self, tape: &Tape) -> Vec<Violation> {
        let errors = self.rules.iter_errors(tape.root());
        let found: Vec<Violation> =
            errors.flat_map(|error| violations(&error)).take(limits::VIOLATIONS_RECORD_MAX).collect();
        if found.is_empty() { self.no_file(tape).into_iter().collect() } else { found }
    }
}

/// One violation for each property that is missing or not allowed: such an error concerns its object, but people look
/// for the property.
fn violations(error: &ValidationError<'_>) -> Vec<Violation> {
    let at = |property: &str, reason: &str| {
        let pointer = shorten(&format!("{}{property}", error.instance_path()), POINTER_CHARS_MAX);
        Violation::new(pointer, error.kind().keyword(), shorten(reason, REASON_CHARS_MAX))
    };
    let of_value = |reason: &str| match error.instance().as_ref() {
        Value::String(text) => at("", reason).of(text),
        value @ (Value::Number(_) | Value::Bool(_)) => at("", reason).of(&value.to_string()),
        _ => at("", reason),
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().map(json::pointer_part).unwrap_or_default();
            vec![at(&property, &error.to_string())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let names = unexpected.iter().take(limits::VIOLATIONS_RECORD_MAX);
            names.map(|name| at(&json::pointer_part(name), &format!("the schema has no property {name:?}"))).collect()
        }
        ValidationErrorKind::Format { format } => {
            let ours = error.instance().as_str().and_then(|text| formats::problem(format, text));
            match ours {
                Some(problem) => vec![of_value(&format!("{}: {problem}", error.instance()))],
                None => vec![of_value(&error.to_string())],
            }
        }
        _ => vec![of_value(&error.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_property_has_a_violation() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "b": {}},
                            "additionalProperties": false});
        let validator = Validator::compile(&schema).unwrap();
        let found = |record: &str| {
            let mut tape = Tape::default();
            tape.parse(record.as_bytes()).unwrap();
            let violations = validator.validate(&tape);
            violations.into_iter().map(|v| (v.pointer, v.rule, v.reason)).collect::<Vec<_>>()
        };
        let pointers = |record: &str| found(record).into_iter().map(|(pointer, ..)| pointer).collect::<Vec<_>>();
        assert_eq!(pointers("{}"), ["/a", "/b"]);
        assert_eq!(pointers(r#"{"a":1,"b":2,"c":3,"d/e":4}"#), ["/c", "/d~1e"]);
        assert_eq!(
            found(r#"{"a":1,"b":2,"c":3}"#),
            [("/c".into(), "additionalProperties".into(), "the schema has no property \"c\"".into())]
        );
        let many: String = (0..100).map(|i| format!(r#","x{i}":1"#)).collect();
        assert_eq!(found(&format!(r#"{{"a":1,"b":2{many}}}"#)).len(), limits::VIOLATIONS_RECORD_MAX);
    }
}
