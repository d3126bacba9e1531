//! What a schema that is shared should have, beyond being valid: descriptions in both languages, bounds, examples.

use super::{Breaking, Schema, SchemaError, Validator, compatible};
use crate::core::json;
use serde_json::Value;

/// Formats whose texts are short by themselves.
const BOUNDED_FORMATS: &[&str] = &[
    "date",
    "date-time",
    "time",
    "duration",
    "uuid",
    "ipv4",
    "ipv6",
    "gbt-4754",
    "isin",
    "iso-3166-1",
    "iso-3166-2",
    "iso-4217",
    "lei",
    "period",
    "uscc",
];

/// A shortcoming and where it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Advice {
    /// JSON pointer into the schema.
    pub pointer: String,
    /// What is missing.
    pub problem: String,
}

/// The shortcomings of a schema.
pub fn advice(schema: &Schema) -> Vec<Advice> {
    let mut found = Vec::new();
    let value = schema.value();
    let mut say = |pointer: &str, problem: &str| {
        found.push(Advice { pointer: pointer.to_owned(), problem: problem.to_owned() });
    };
    described(value, "", &mut say);
    if value.get("x-key").is_none() {
        say("/x-key", "name the properties that tell one record from another");
    }
    if value.get("additionalProperties").is_none() {
        say("/additionalProperties", "say whether other properties are accepted; false finds misspelt ones");
    }
    for (name, property) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let pointer = format!("/properties{}", json::pointer_part(name));
        described(property, &pointer, &mut say);
        bounded(schema, property, &pointer, &mut say);
        examples(schema, property, &pointer, &mut say);
    }
    found
}

fn described(value: &Value, pointer: &str, say: &mut impl FnMut(&str, &str)) {
    let has = |value: Option<&Value>, name: &str| {
        value.and_then(|value| value.get(name)).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
    };
    for name in ["title", "description"] {
        if !has(Some(value), name) {
            say(&format!("{pointer}/{name}"), "is missing");
        }
        if !has(value.get("x-zh"), name) {
            say(&format!("{pointer}/x-zh/{name}"), "is missing: the same in Chinese");
        }
    }
}

/// Texts and lists have a largest size.
fn bounded(schema: &Schema, property: &Value, pointer: &str, say: &mut impl FnMut(&str, &str)) {
    let resolved = schema.resolved(property);
    let stated = |name: &str| property.get(name).or_else(|| resolved.get(name));
    let is = |kind: &str| match stated("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let short = || stated("format").and_then(Value::as_str).is_some_and(|format| BOUNDED_FORMATS.contains(&format));
    if is("string") && !["maxLength", "enum", "const", "pattern"].iter().any(|name| stated(name).is_some()) && !short()
    {
        say(&format!("{pointer}/maxLength"), "is missing: a text has a largest length");
    }
    if is("array") && stated("maxItems").is_none() {
        say(&format!("{pointer}/maxItems"), "is missing: a list has a largest size");
    }
    if stated("pattern").is_some() && stated("examples").is_none() {
        say(&format!("{pointer}/examples"), "are missing: people understand a pattern by an example");
    }
}

/// Examples are valid.
fn examples(schema: &Schema, property: &Value, pointer: &str, say: &mut impl FnMut(&str, &str)) {
    let resolved = schema.resolved(property);
    let stated = property.get("examples").or_else(|| resolved.get("examples")).and_then(Value::as_array);
    let Some(all) = stated else { return };
    let Some(validator) = alone(schema, property) else {
        return say(&format!("{pointer}/examples"), "cannot be checked: the property refers to the whole schema");
    };
    for (n, example) in all.iter().enumerate() {
        if !accepts(&validator, example) {
            say(&format!("{pointer}/examples/{n}"), "is not valid");
        }
    }
}

/// Collects the definitions that a part of the schema uses.
fn reachable(schema: &Schema, part: &Value, found: &mut serde_json::Map<String, Value>) {
    match part {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/$defs/"));
            let name = name.map(|name| name.replace("~1", "/").replace("~0", "~"));
            if let Some(name) = name.filter(|name| !found.contains_key(name))
                && let Some(definition) = schema.value().get("$defs").and_then(|all| all.get(&name))
            {
                found.insert(name, definition.clone());
                reachable(schema, definition, found);
            }
            members.values().for_each(|inner| reachable(schema, inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| reachable(schema, inner, found)),
        _ => {}
    }
}

/// Whether a schema may follow another one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Succession {
    /// Changes after which records that were valid may be refused.
    pub breaking: Vec<Breaking>,
    /// Why the version is wrong for them; `None` if it fits.
    pub problem: Option<String>,
}

/// The predecessor's examples that the schema refuses.
fn refused_examples(new: &Schema, old: &Schema) -> Vec<Breaking> {
    let mut found = Vec::new();
    for (name, property) in old.value().get("properties").and_then(Value::as_object).into_iter().flatten() {
        let resolved = old.resolved(property);
        let stated = property.get("examples").or_else(|| resolved.get("examples")).and_then(Value::as_array);
        let (now, before) = (alone(new, new.property(name)), alone(old, property));
        let (Some(all), Some(now), Some(before)) = (stated, now, before) else { continue };
        for example in all.iter().filter(|example| accepts(&before, example) && !accepts(&now, example)) {
            let pointer = format!("/properties{}", json::pointer_part(name));
            found.push(Breaking { pointer, reason: format!("the example {example} is refused") });
        }
    }
    found
}

/// A validator of one property by itself.
fn alone(schema: &Schema, property: &Value) -> Option<Validator> {
    let mut alone = property.clone();
    let mut definitions = serde_json::Map::new();
    reachable(schema, property, &mut definitions);
    alone.as_object_mut()?.insert("$defs".into(), definitions.into());
    Validator::compile(&alone).ok()
}

fn accepts(validator: &Validator, example: &Value) -> bool {
    let mut tape = json::Tape::default();
    tape.parse(example.to_string().as_bytes()).is_ok() && validator.is_valid(&tape)
}

/// Compares a schema with its predecessor, by rules and by the predecessor's examples. After a breaking change, the major version must be larger (Semantic
/// Versioning 2.0.0, section 8).
pub fn succession(new: &Schema, old: &Schema) -> Result<Succession, SchemaError> {
    let mut breaking = compatible::breaking(new, old)?;
    breaking.extend(refused_examples(new, old));
    let (before, after) = (old.order(), new.order());
    let problem = if new.id() != old.id() {
        Some(format!("they are different schemas: {} and {}", old.id(), new.id()))
    } else if after == before && new.digest() != old.digest() {
        Some(format!("version {} exists with other content: the version must be larger", old.version()))
    } else if after < before {
        Some(format!("the version must be larger than {}", old.version()))
    } else if !breaking.is_empty() && after.first() == before.first() {
        let next = before.first().map_or(1, |major| major + 1);
        Some(format!("records that were valid may be refused: this is version {next}.0.0"))
    } else {
        None
    };
    Ok(Succession { breaking, problem })
}

/// Fails unless a schema may follow another one: after a breaking change, `accepted` must be given.
pub fn may_follow(new: &Schema, old: &Schema, accepted: bool) -> Result<(), String> {
    let Succession { breaking, problem } = succession(new, old).map_err(|error| error.to_string())?;
    let first = breaking.first().map(|first| format!("{}: {}", first.pointer, first.reason));
    match (problem, first) {
        (Some(problem), Some(first)) => Err(format!("{problem} ({first})")),
        (Some(problem), None) => Err(problem),
        (None, Some(first)) if !accepted => Err(format!(
            "records that {} accepts may be refused ({first}): give --breaking if this is intended",
            old.version()
        )),
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::built_in;
    use serde_json::json;

    #[test]
    fn the_shared_schemas_lack_nothing() {
        for schema in built_in().iter().filter(|schema| schema.value()["x-zh"].is_object()) {
            assert_eq!(advice(schema), [], "{}", schema.id());
        }
    }

    #[test]
    fn shortcomings_are_named() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:x", "x-version": "1.0.0",
            "title": "X", "type": "object", "properties": {
                "a": {"title": "A", "description": "A.", "x-zh": {"title": "甲", "description": "甲。"}, "type": "string"},
                "b": {"type": "array", "examples": [1]},
                "c": {"type": "string", "pattern": "^x$"},
            },
        });
        let schema = Schema::parse(&serde_json::to_vec(&schema).unwrap()).unwrap();
        let found: Vec<String> = advice(&schema).into_iter().map(|advice| advice.pointer).collect();
        for pointer in [
            "/description",
            "/x-zh/title",
            "/x-key",
            "/additionalProperties",
            "/properties/a/maxLength",
            "/properties/b/maxItems",
            "/properties/b/examples/0",
            "/properties/b/title",
            "/properties/c/examples",
        ] {
            assert!(found.contains(&pointer.to_owned()), "{pointer}: {found:?}");
        }
        assert!(!found.contains(&"/properties/a/title".to_owned()));
    }

    #[test]
    fn versions_say_what_changed() {
        let schema = |version: &str, kind: &str| {
            let value = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:x", "x-version": version,
                "properties": {"a": {"type": kind}},
            });
            Schema::parse(&serde_json::to_vec(&value).unwrap()).unwrap()
        };
        let old = schema("1.9.0", "integer");
        for (new, part) in [
            (schema("1.10.0", "number"), None),
            (schema("1.9.0", "number"), Some("version 1.9.0 exists with other content")),
            (schema("1.10.0", "string"), Some("version 2.0.0")),
            (schema("2.0.0", "string"), None),
            (schema("1.9.0", "integer"), None),
        ] {
            let problem = succession(&new, &old).unwrap().problem;
            assert_eq!(problem.is_some(), part.is_some(), "{problem:?}");
            assert!(part.is_none_or(|part| problem.unwrap().contains(part)));
        }
    }
}
