//! Details of log entries.

use serde_json::{Map, Value};

/// Details with one member.
pub fn detail(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

/// The members of a JSON object literal.
pub fn details(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => detail("value", other),
    }
}
