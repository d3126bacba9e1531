//! Mappings: how the columns of a file, or the members of its JSON objects, become the fields of a schema. A mapping is a
//! TOML file that people write or complete; what it does to a value stands in it, and nothing else is done.

mod apply;
mod dates;
mod plan;
mod rule;
mod suggest;

pub use apply::RULE_MAPPING;
pub use dates::Dates;
pub use plan::{Answer, Plan};
pub use rule::{Factor, Join, Numbers, Rule};
pub use suggest::{Column, Confidence, Suggestion, suggest, toml};

use crate::core::digest::Digest;
use crate::core::json;
use crate::core::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the records of a file become records of a schema. FORMATS.md, "Mapping".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// `$id` of the schema whose records it makes; of any schema if it is empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// The rule of each field that is filled, by the name of the property or by JSON pointer.
    pub fields: BTreeMap<String, Rule>,
}

/// Why a mapping cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// It is not a mapping in TOML.
    #[error("{0}")]
    Syntax(String),
    /// A rule cannot be meant.
    #[error("fields.{field}: {problem}")]
    Rule {
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// It does not belong to this schema or this file.
    #[error("{0}")]
    Other(String),
}

impl MappingError {
    fn rule(field: &str, problem: impl Into<String>) -> Self {
        Self::Rule { field: field.to_owned(), problem: problem.into() }
    }
}

impl Mapping {
    /// Reads a TOML text.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        if text.len() > limits::MAPPING_BYTES_MAX {
            let most = limits::MAPPING_BYTES_MAX;
            let own = text.len();
            let problem = format!("a mapping has at most {most} bytes, this has {own}: is it one?");
            return Err(MappingError::Syntax(problem));
        }
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mapping: Self = toml::from_str(text).map_err(|error| MappingError::Syntax(error.to_string()))?;
        mapping.check()?;
        Ok(mapping)
    }

    /// Fails unless each rule can be followed. A mapping that did not come through [`Mapping::parse`] needs this.
    pub fn check(&self) -> Result<(), MappingError> {
        if self.fields.is_empty() || self.fields.len() > limits::MAPPING_FIELDS_MAX {
            let most = limits::MAPPING_FIELDS_MAX;
            return Err(MappingError::Other(format!("a mapping has rules for 1 to {most} fields")));
        }
        let wrong = |(field, rule): (&String, &Rule)| Some(MappingError::rule(field, rule.check().err()?));
        if let Some(wrong) = self.fields.iter().find_map(wrong) {
            return Err(wrong);
        }
        match json::to_canonical(self).len() {
            0..=limits::MAPPING_BYTES_MAX => Ok(()),
            _ => Err(MappingError::Other(format!("a mapping may have {} bytes", limits::MAPPING_BYTES_MAX))),
        }
    }

    /// SHA-256("crosspark/mapping/v1" || 0x00 || JCS(mapping)).
    pub fn digest(&self) -> Digest {
        Digest::labelled("crosspark/mapping/v1", &[&json::to_canonical(self)])
    }

    /// The pointer of the field that is read from this column as the file writes it, if there is one.
    pub fn field_of(&self, header: &str) -> Option<String> {
        let reads =
            |(_, rule): &(&String, &Rule)| rule.is_as_written() && rule.from.iter().any(|name| is_column(name, header));
        self.fields.iter().find(reads).map(|(field, _)| pointer_of(field))
    }

    /// Whether a rule reads a column with this header.
    pub fn reads(&self, header: &str) -> bool {
        self.fields.values().flat_map(Rule::columns).any(|name| is_column(name, header))
    }

    /// The programs in jq, in the order of their fields.
    pub fn programs(&self) -> Vec<&str> {
        self.fields.values().filter_map(|rule| rule.jq.as_deref()).collect()
    }
}

/// The JSON pointer of a field, which a mapping may name as a property.
fn pointer_of(field: &str) -> String {
    if field.starts_with('/') { field.to_owned() } else { format!("/{}", field.replace('~', "~0").replace('/', "~1")) }
}

/// Whether a column with this header is the one that a rule names: without regard to case and the spaces around it.
fn is_column(name: &str, header: &str) -> bool {
    let (name, header) = (name.trim(), header.trim());
    name == header || name.to_lowercase() == header.to_lowercase()
}

#[cfg(test)]
mod tests;
