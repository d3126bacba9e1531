//! A schema as a data contract in the Open Data Contract Standard, v3.1.0, which the tools of data teams read.

use super::Schema;
use serde_json::{Map, Value, json};

/// Version of the standard.
const API_VERSION: &str = "v3.1.0";

/// Levels that are described: a schema may refer to itself.
const DEPTH_MAX: usize = 4;

/// The data contract of a schema.
pub fn contract(schema: &Schema) -> Value {
    let value = schema.value();
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = schema.id().rsplit([':', '/']).next().unwrap_or_default();
    let mut object = Map::new();
    object.insert("name".into(), name.into());
    object.insert("physicalType".into(), "file".into());
    describe(&mut object, value);
    object.insert("logicalType".into(), "object".into());
    let properties = schema.columns().into_iter().map(|(name, _)| schema_property(schema, name));
    object.insert("properties".into(), properties.collect());
    json!({
        "apiVersion": API_VERSION, "kind": "DataContract", "id": schema.id(), "version": schema.version(),
        "status": "active", "name": text("title"), "description": {"purpose": text("description")},
        "customProperties": [{"property": "crosspark:schema", "value": schema.digest()}],
        "schema": [object],
    })
}

fn schema_property(schema: &Schema, name: &str) -> Value {
    let required = schema.value().get("required").and_then(Value::as_array);
    let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
    let mut property = of(schema, schema.property(name), 0);
    property.insert("name".into(), name.into());
    property.insert("required".into(), is_required.into());
    if let Some(at) = schema.key.iter().position(|part| part == name) {
        property.insert("primaryKey".into(), true.into());
        property.insert("primaryKeyPosition".into(), (at + 1).into());
        if schema.key.len() == 1 {
            property.insert("unique".into(), true.into());
        }
    }
    property.into()
}

/// Title and description, and what the standard has no member for.
fn describe(into: &mut Map<String, Value>, part: &Value) {
    let text = |of: Option<&Value>, name: &str| of.and_then(|of| of.get(name)?.as_str()).map(str::to_owned);
    for (member, keyword) in [("businessName", "title"), ("description", "description")] {
        if let Some(text) = text(Some(part), keyword) {
            into.insert(member.into(), text.into());
        }
    }
    let chinese = part.get("x-zh");
    let more = [
        ("title:zh", text(chinese, "title")),
        ("description:zh", text(chinese, "description")),
        ("unit:ucum", text(Some(part), "x-unit")),
        ("term", text(Some(part), "x-term")),
    ];
    let more = more.into_iter().filter_map(|(name, value)| Some(json!({"property": name, "value": value?})));
    let more: Vec<Value> = more.collect();
    if !more.is_empty() {
        into.insert("customProperties".into(), more.into());
    }
}

/// What the standard says of a value: its type, its bounds, its values.
fn of(schema: &Schema, part: &Value, depth: usize) -> Map<String, Value> {
    let resolved = schema.resolved(part);
    let stated = |name: &str| part.get(name).or_else(|| resolved.get(name));
    let mut property = Map::new();
    describe(&mut property, resolved);
    describe(&mut property, part);
    let kind = match stated("type") {
        Some(Value::String(one)) => one.as_str(),
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).find(|one| *one != "null").unwrap_or_default()
        }
        _ => "",
    };
    let format = stated("format").and_then(Value::as_str).unwrap_or_default();
    let (logical, keywords): (&str, &[&str]) = match (kind, format) {
        ("string", "date") => ("date", &[]),
        ("string", "date-time") => ("timestamp", &[]),
        ("integer", _) => ("integer", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
        ("number", _) => ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
        ("boolean", _) => ("boolean", &[]),
        ("array", _) => ("array", &["minItems", "maxItems", "uniqueItems"]),
        ("object", _) => ("object", &["minProperties", "maxProperties", "required"]),
        _ => ("string", &["minLength", "maxLength", "pattern", "format"]),
    };
    property.insert("logicalType".into(), logical.into());
    let mut options: Map<String, Value> =
        keywords.iter().filter_map(|name| Some(((*name).to_owned(), stated(name)?.clone()))).collect();
    if logical == "date" {
        options.insert("format".into(), "yyyy-MM-dd".into());
    }
    if !options.is_empty() {
        property.insert("logicalTypeOptions".into(), options.into());
    }
    if let Some(examples) = stated("examples").filter(|examples| examples.is_array()) {
        property.insert("examples".into(), examples.clone());
    }
    if let Some(values) = stated("enum") {
        let check =
            json!({"type": "library", "metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0});
        property.insert("quality".into(), json!([check]));
    }
    if logical == "array" {
        let items = stated("items").filter(|items| items.is_object() && depth < DEPTH_MAX);
        property.insert(
            "items".into(),
            items.map_or_else(|| json!({"logicalType": "string"}), |items| of(schema, items, depth + 1).into()),
        );
    }
    if let Some(members) =
        resolved.get("properties").and_then(Value::as_object).filter(|_| logical == "object" && depth < DEPTH_MAX)
    {
        let members = members.iter().map(|(name, member)| {
            let mut member = of(schema, member, depth + 1);
            member.insert("name".into(), name.as_str().into());
            Value::from(member)
        });
        property.insert("properties".into(), members.collect());
    }
    property
}
