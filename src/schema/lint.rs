//! Strict schema check: a misspelt keyword would silently permit everything, so it is an error with its location.

use super::SchemaError;
use super::formats::FORMAT_DOUBLE;
use crate::core::limits;
use crate::core::visible::is_override;
use serde_json::Value;

/// Kind of value of a keyword: schemas or plain values.
enum Holds {
    Value,
    Schema,
    SchemaList,
    SchemaMap,
}

/// The keywords of JSON Schema 2020-12 (core, applicator, unevaluated, validation, meta-data, format, content).
fn keyword(name: &str) -> Option<Holds> {
    Some(match name {
        "$schema" | "$id" | "$ref" | "$comment" | "type" | "const" | "enum" | "multipleOf" | "maximum"
        | "exclusiveMaximum" | "minimum" | "exclusiveMinimum" | "maxLength" | "minLength" | "pattern" | "maxItems"
        | "minItems" | "uniqueItems" | "maxContains" | "minContains" | "maxProperties" | "minProperties"
        | "required" | "dependentRequired" | "title" | "description" | "default" | "deprecated" | "readOnly"
        | "writeOnly" | "examples" | "format" | "contentEncoding" | "contentMediaType" => Holds::Value,
        "not"
        | "if"
        | "then"
        | "else"
        | "items"
        | "contains"
        | "additionalProperties"
        | "propertyNames"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Holds::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Holds::SchemaList,
        "$defs" | "properties" | "patternProperties" | "dependentSchemas" => Holds::SchemaMap,
        // Dynamic references are rejected: they would make a schema's meaning depend on the including schema.
        _ if name.starts_with("x-") => Holds::Value,
        _ => return None,
    })
}

/// The member or column with the reason why a record was left out of a publication.
const RESERVED: &str = "x-problem";

/// Rejects unknown keywords and references to other schemas.
pub fn lint(schema: &Value) -> Result<(), SchemaError> {
    walk(schema, "", 0)
}

fn walk(schema: &Value, pointer: &str, depth: usize) -> Result<(), SchemaError> {
    let invalid = |pointer: String, problem: String| Err(SchemaError::Invalid { pointer, problem });
    if depth > limits::JSON_DEPTH_MAX {
        return invalid(pointer.to_owned(), "nested too deeply".into());
    }
    let members = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(members) => members,
        _ => return invalid(pointer.to_owned(), "a schema must be an object, true or false".into()),
    };
    for (name, value) in members {
        let here = format!("{pointer}/{}", escape(name));
        let Some(holds) = keyword(name) else {
            return invalid(here, format!("`{name}` is not a JSON Schema 2020-12 keyword; extensions begin with x-"));
        };
        if name == "$ref" && !value.as_str().is_some_and(is_internal) {
            return invalid(here, format!("{value} is not understood; references are # and #/$defs/NAME"));
        }
        // They would change what the references below mean.
        if depth > 0 && ["$id", "$schema", "$defs"].contains(&name.as_str()) {
            return invalid(here, format!("`{name}` stands only at the top"));
        }
        let titles = [Some(value).filter(|_| name == "title"), value.get("title").filter(|_| name == "x-zh")];
        let mut titles = titles.into_iter().flatten().filter_map(Value::as_str);
        if titles.any(|title| title.chars().count() > limits::TEXT_CHARS_MAX) {
            return invalid(here, format!("a title has at most {} characters", limits::TEXT_CHARS_MAX));
        }
        if matches!(name.as_str(), "title" | "description" | "x-zh") && has_override(value) {
            return invalid(here, "it contains a character that changes the order in which others are shown".into());
        }
        if name == "format" && value == FORMAT_DOUBLE && members.get("type") != Some(&Value::from("number")) {
            return invalid(here, "`double` is the format of properties of type number".into());
        }
        match (holds, value) {
            (Holds::Value, _) => {}
            (Holds::Schema, value) => walk(value, &here, depth + 1)?,
            (Holds::SchemaList, Value::Array(list)) => {
                for (i, one) in list.iter().enumerate() {
                    walk(one, &format!("{here}/{i}"), depth + 1)?;
                }
            }
            (Holds::SchemaMap, Value::Object(map)) => {
                for (key, one) in map {
                    if name == "properties" && depth == 0 && key == RESERVED {
                        return invalid(here, format!("`{key}` is reserved for the reasons beside rejected records"));
                    }
                    if key.contains(is_override) || key.chars().any(char::is_control) {
                        return invalid(here, format!("the name {key:?} contains an invisible character"));
                    }
                    walk(one, &format!("{here}/{}", escape(key)), depth + 1)?;
                }
            }
            (Holds::SchemaList, _) => return invalid(here, "must be a list of schemas".into()),
            (Holds::SchemaMap, _) => return invalid(here, "must be an object of schemas".into()),
        }
    }
    Ok(())
}

/// Whether a text, or one within it, has directional overrides.
fn has_override(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(is_override),
        Value::Object(members) => members.values().any(has_override),
        _ => false,
    }
}

/// Whether a reference leads to the whole schema or to one of its definitions. Percent-encoded names (RFC 6901 section 6)
/// are not among them.
fn is_internal(reference: &str) -> bool {
    let name = reference.strip_prefix("#/$defs/");
    reference == "#" || name.is_some_and(|name| !name.is_empty() && !name.contains(['/', '%']))
}

/// A name as a reference token of a JSON pointer (RFC 6901 section 3).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
