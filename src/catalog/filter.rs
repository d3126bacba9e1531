//! The filter of a catalog request (DSP 2025-1, "Catalog Request Message", does not define its language). FORMATS.md,
//! "Catalog filter": a list of conditions `{"property", "operator", "value"}`, all of which must hold.

use super::Offered;
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A catalog filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    conditions: Vec<Condition>,
    /// Only datasets changed after this number, which is the `crosspark:change` of an earlier response.
    pub since: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    /// The property contains this text, ignoring case.
    Contains(Property, String),
    /// The property equals this text.
    Is(Property, String),
    /// Published at this time or later.
    Since(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Property {
    Title,
    Description,
    Schema,
    Theme,
    Licence,
}

/// A filter that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter is not supported: {0}")]
pub struct FilterError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    property: String,
    operator: String,
    value: String,
}

impl Filter {
    /// Parses the `filter` of a catalog request.
    pub fn read(conditions: &[Value]) -> Result<Self, FilterError> {
        if conditions.len() > limits::FILTER_CONDITIONS_MAX {
            return Err(FilterError(format!("more than {} conditions", limits::FILTER_CONDITIONS_MAX)));
        }
        let mut filter = Self::default();
        for condition in conditions {
            let raw = serde_json::from_value(condition.clone());
            let Raw { property, operator, value } = raw.map_err(|error| {
                FilterError(format!("a condition is {{\"property\", \"operator\", \"value\"}}, all strings ({error})"))
            })?;
            filter.add(&property, &operator, value)?;
        }
        Ok(filter)
    }

    fn add(&mut self, property: &str, operator: &str, value: String) -> Result<(), FilterError> {
        let text = match property {
            "title" => Some(Property::Title),
            "description" => Some(Property::Description),
            "schema" => Some(Property::Schema),
            "theme" => Some(Property::Theme),
            "license" => Some(Property::Licence),
            _ => None,
        };
        let condition = match (text, property, operator) {
            (Some(property), _, "contains") => Condition::Contains(property, value.to_lowercase()),
            (Some(property), _, "eq") => Condition::Is(property, value),
            (None, "issued", "gteq") => {
                Condition::Since(Timestamp::parse(&value).map_err(|error| FilterError(error.to_string()))?)
            }
            (None, "crosspark:change", "gt") => {
                let change = value.parse().map_err(|_| FilterError("`crosspark:change` must be a number".into()))?;
                self.since = Some(change);
                return Ok(());
            }
            _ => {
                return Err(FilterError(format!(
                    "`{property}` `{operator}`; use title, description, schema, theme, license with contains or \
                     eq; issued with gteq; crosspark:change with gt"
                )));
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// Whether a dataset meets all conditions; `since` is applied elsewhere.
    pub fn passes(&self, offered: &Offered) -> bool {
        let text = |property: Property| match property {
            Property::Title => offered.title.as_str(),
            Property::Description => &offered.description,
            Property::Schema => offered.schema.as_ref().map_or("", |schema| &schema.id),
            Property::Theme => offered.about.theme.as_ref().map_or("", |text| text.as_str()),
            Property::Licence => offered.about.licence.as_ref().map_or("", |text| text.as_str()),
        };
        self.conditions.iter().all(|condition| match condition {
            Condition::Contains(property, part) => text(*property).to_lowercase().contains(part),
            Condition::Is(property, value) => text(*property) == value,
            Condition::Since(at) => offered.published.is_some_and(|published| published >= *at),
        })
    }
}
