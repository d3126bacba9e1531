//! The filter of a catalog request (DSP 2025-1, "Catalog Request Message", does not define its language). FORMATS.md,
//! "Catalog filter": a list of conditions `{"property", "operator", "value"}`, all of which must hold; or the query
//! object of Eclipse EDC, which EDC sends in every catalog request.

use super::Offered;
use crate::core::json::ld;
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// A catalog filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    conditions: Vec<Condition>,
    /// Only datasets changed after this number, which is the `crosspark:change` of an earlier response.
    pub since: Option<u64>,
    /// Part of the list that EDC's query asks for.
    pub part: Option<Part>,
}

/// Part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Number of datasets before it.
    pub offset: usize,
    /// Largest number of datasets in it.
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    /// The property contains this text, ignoring case.
    Contains(Property, String),
    /// The property equals one of these texts.
    Is(Property, BTreeSet<String>),
    /// Published at this time or later.
    Since(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Property {
    Dataset,
    Title,
    Description,
    Schema,
    Theme,
    Licence,
}

impl Property {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" | "@id" => Self::Dataset,
            "title" | "name" => Self::Title,
            "description" => Self::Description,
            "schema" => Self::Schema,
            "theme" => Self::Theme,
            "license" => Self::Licence,
            _ => return None,
        })
    }
}

/// The text in a pattern `%text%`.
fn inner_text(pattern: &str) -> Option<&str> {
    let inner = pattern.strip_prefix('%')?.strip_suffix('%')?;
    (!inner.contains(['%', '_'])).then_some(inner)
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
    /// Parses the `filter` of a catalog request, in plain form ([`ld::plain`]).
    pub fn read(filter: Option<&Value>) -> Result<Self, FilterError> {
        let (mut read, mut conditions) = (Self::default(), 0);
        for element in ld::elements(filter) {
            let is_query = element.get("@type").and_then(Value::as_str) == Some("QuerySpec");
            conditions += if is_query { read.add_query(element)? } else { read.add_condition(element)? };
            if conditions > limits::FILTER_CONDITIONS_MAX {
                return Err(FilterError(format!("more than {} conditions", limits::FILTER_CONDITIONS_MAX)));
            }
        }
        Ok(read)
    }

    fn add_condition(&mut self, condition: &Value) -> Result<usize, FilterError> {
        let raw = serde_json::from_value(condition.clone());
        let Raw { property, operator, value } = raw.map_err(|error| {
            FilterError(format!("a condition is {{\"property\", \"operator\", \"value\"}}, all strings ({error})"))
        })?;
        let condition = match (Property::named(&property), property.as_str(), operator.as_str()) {
            (Some(property), _, "contains") => Condition::Contains(property, value.to_lowercase()),
            (Some(property), _, "eq") => Condition::Is(property, [value].into()),
            (None, "issued", "gteq") => {
                Condition::Since(Timestamp::parse(&value).map_err(|error| FilterError(error.to_string()))?)
            }
            (None, "crosspark:change", "gt") => {
                let change = value.parse().map_err(|_| FilterError("`crosspark:change` must be a number".into()))?;
                self.since = Some(change);
                return Ok(1);
            }
            _ => {
                return Err(FilterError(format!(
                    "`{property}` `{operator}`; use id, title, description, schema, theme, license with contains or \
                     eq; issued with gteq; crosspark:change with gt"
                )));
            }
        };
        self.conditions.push(condition);
        Ok(1)
    }

    /// EDC's QuerySpec. Its order is ignored: datasets are listed by their ids.
    fn add_query(&mut self, query: &Value) -> Result<usize, FilterError> {
        let number = |name: &str, default: usize| match query.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|n| n.try_into().ok());
                number.ok_or_else(|| FilterError(format!("`{name}` must be a number from 0")))
            }
        };
        let part = Part { offset: number("offset", 0)?, limit: number("limit", usize::MAX)? };
        if part.offset > limits::CATALOG_DATASETS_MAX {
            return Err(FilterError(format!("`offset` is larger than {}", limits::CATALOG_DATASETS_MAX)));
        }
        self.part = Some(part);
        let criteria: Vec<&Value> = ld::elements(query.get("filterExpression")).collect();
        for criterion in &criteria {
            self.add_criterion(criterion)?;
        }
        Ok(criteria.len())
    }

    fn add_criterion(&mut self, criterion: &Value) -> Result<(), FilterError> {
        let text = |name: &str| criterion.get(name).and_then(Value::as_str).unwrap_or_default();
        let (left, operator) = (ld::term(text("operandLeft").trim_matches('\'')), text("operator"));
        let right: Option<Vec<String>> =
            ld::elements(criterion.get("operandRight")).map(|one| one.as_str().map(str::to_owned)).collect();
        let condition = match (Property::named(left), operator, right.as_deref()) {
            (Some(property), "=", Some([value])) => Condition::Is(property, [value.clone()].into()),
            (Some(property), "in", Some(values)) if values.len() <= limits::POLICY_OPERANDS_MAX => {
                Condition::Is(property, values.iter().cloned().collect())
            }
            (Some(property), "ilike", Some([pattern])) if inner_text(pattern).is_some() => {
                Condition::Contains(property, inner_text(pattern).unwrap_or_default().to_lowercase())
            }
            _ => {
                return Err(FilterError(format!(
                    "`{left}` `{operator}`; use id, title, name, description, schema, theme, license with = or in, \
                     or with ilike and a text between two %"
                )));
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// Whether a dataset meets all conditions; `since` is applied elsewhere.
    pub fn passes(&self, offered: &Offered) -> bool {
        let text = |property: Property| match property {
            Property::Dataset => offered.dataset.as_str(),
            Property::Title => offered.title.as_str(),
            Property::Description => &offered.description,
            Property::Schema => offered.schema.as_ref().map_or("", |schema| &schema.id),
            Property::Theme => offered.about.theme.as_ref().map_or("", |text| text.as_str()),
            Property::Licence => offered.about.licence.as_ref().map_or("", |text| text.as_str()),
        };
        self.conditions.iter().all(|condition| match condition {
            Condition::Contains(property, part) => text(*property).to_lowercase().contains(part),
            Condition::Is(property, values) => values.contains(text(*property)),
            Condition::Since(at) => offered.published.is_some_and(|published| published >= *at),
        })
    }
}
