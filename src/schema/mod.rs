//! Shared schemas (JSON Schema 2020-12): the built-in registry, strict parsing and compiled validators.

mod advice;
mod built_in;
mod compatible;
mod content;
mod contract;
mod cost;
mod error;
mod explain;
mod formats;
mod infer;
mod lint;
mod registry;
mod validator;
mod violation;

pub use advice::{Advice, Succession, advice, may_follow, succession};
pub use built_in::{built_in, built_in_text};
pub use compatible::{Breaking, breaking};
pub use content::{Content, RULE_CONTENT, path_problem};
pub use contract::contract;
pub use error::SchemaError;
pub use explain::Language;
pub use infer::{Proposal, Question, Sketch, Spelling};
pub use registry::{CompiledSchema, SchemaRegistry};
pub use validator::{RULE_KEY, Validator};
pub use violation::Violation;

use crate::core::digest::Digest;
use crate::core::json::{self, ReadError, Tape};
use crate::core::limits;
use formats::FORMAT_DOUBLE;
use serde_json::Value;
use std::collections::HashMap;

/// A strictly parsed schema.
#[derive(Debug, Clone)]
pub struct Schema {
    id: String,
    version: String,
    digest: Digest,
    value: Value,
    /// The properties in the order in which they were written.
    properties: Vec<String>,
    /// The properties that name a record: no two records of a dataset have the same ones.
    key: Vec<String>,
    /// Whether each record describes a file.
    content: bool,
}

/// How a CSV cell of a property is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// As text.
    String,
    /// As a JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Array or object, as JSON.
    Nested,
}

impl Schema {
    /// Parses a schema: 2020-12, with `$id`, `x-version` (semantic) and no unknown keywords.
    pub fn parse(text: &[u8]) -> Result<Self, SchemaError> {
        if text.len() > limits::SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong);
        }
        let value = json::read_value(text)?;
        lint::lint(&value)?;
        cost::check(&value)?;
        let schema = Self::read(text, value)?;
        schema.validator().map(|_| schema)
    }

    /// A schema that was checked when it was kept or built in.
    pub fn checked_before(text: &[u8]) -> Result<Self, SchemaError> {
        Self::read(text, json::read_value(text)?)
    }

    fn read(text: &[u8], value: Value) -> Result<Self, SchemaError> {
        let invalid =
            |pointer: &str, problem: &str| SchemaError::Invalid { pointer: pointer.into(), problem: problem.into() };
        let text_of = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if text_of("$schema").as_deref() != Some("https://json-schema.org/draft/2020-12/schema") {
            return Err(invalid("/$schema", "must be https://json-schema.org/draft/2020-12/schema"));
        }
        let id = text_of("$id").filter(|id| id.contains(':') && id.chars().count() <= limits::SCHEMA_ID_CHARS_MAX);
        let id = id.ok_or_else(|| invalid("/$id", "must be a stable URI"))?;
        let version = text_of("x-version").filter(|version| is_semantic(version));
        let version = version.ok_or_else(|| invalid("/x-version", "must be a semantic version, as in 1.0.0"))?;
        let digest = Digest::labelled("crosspark/schema/v1", &[&json::to_canonical(&value)]);
        let (key, content) = (key_of(&value)?, content::stated(&value)?);
        Ok(Self { id, version, digest, value, properties: written_order(text)?, key, content })
    }

    /// The `$id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The semantic version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256("crosspark/schema/v1" || 0x00 || JCS(schema)).
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The schema as JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The version's numbers.
    fn order(&self) -> Vec<u32> {
        version_order(&self.version)
    }

    /// The title in English and Chinese, as far as there is one; or the `$id`.
    pub fn title(&self) -> String {
        let title = |value: Option<&Value>| value?.get("title")?.as_str().map(str::to_owned);
        let titles = [title(Some(&self.value)), title(self.value.get("x-zh"))];
        let titles: Vec<String> = titles.into_iter().flatten().collect();
        if titles.is_empty() { self.id.clone() } else { titles.join(" / ") }
    }

    /// The properties that name a record; none, if no key is stated.
    pub fn key(&self) -> &[String] {
        &self.key
    }

    /// Whether each record describes a file, which is delivered beside the records.
    pub fn has_content(&self) -> bool {
        self.content
    }

    /// A property.
    pub fn property(&self, name: &str) -> &Value {
        self.value.get("properties").and_then(|all| all.get(name)).unwrap_or(&Value::Null)
    }

    /// Compiles a validator.
    pub fn validator(&self) -> Result<Validator, SchemaError> {
        let validator = Validator::compile(&self.value)?.with_key(self.key.clone()).with_doubles(self.doubles());
        Ok(validator.with_content(self.content))
    }

    /// The properties that hold binary doubles.
    fn doubles(&self) -> Vec<String> {
        let is_double =
            |name: &&String| self.resolved(self.property(name)).get("format") == Some(&FORMAT_DOUBLE.into());
        self.properties.iter().filter(is_double).cloned().collect()
    }

    /// The properties by their names and titles.
    pub fn titles(&self) -> Titles<'_> {
        type ByTitle<'a> = HashMap<String, Option<&'a str>>;
        let (mut by_title, mut folded_titles) = (ByTitle::new(), ByTitle::new());
        for name in &self.properties {
            let property = self.property(name);
            let resolved = self.resolved(property);
            // A title of its own comes before that of the definition, which several properties may share.
            let english = title_of(Some(property)).or_else(|| title_of(Some(resolved)));
            let chinese = title_of(property.get("x-zh")).or_else(|| title_of(resolved.get("x-zh")));
            for title in [Some(name.as_str()), english, chinese].into_iter().flatten() {
                for (titles, title) in [(&mut by_title, title.to_owned()), (&mut folded_titles, folded(title))] {
                    let known = titles.entry(title).or_insert(Some(name));
                    if *known != Some(name) {
                        *known = None;
                    }
                }
            }
        }
        Titles { columns: self.columns().into_iter().collect(), by_title, folded: folded_titles }
    }

    /// The titles of a property in English and Chinese.
    pub fn property_titles(&self, name: &str) -> Vec<String> {
        let property = self.property(name);
        let titles = [title_of(Some(property)), title_of(property.get("x-zh"))];
        titles.into_iter().flatten().map(str::to_owned).collect()
    }

    /// Likewise, on one line.
    pub fn property_title(&self, name: &str) -> Option<String> {
        let titles = self.property_titles(name);
        (!titles.is_empty()).then(|| titles.join(" / "))
    }

    /// Whether every record has this property.
    pub fn requires(&self, name: &str) -> bool {
        self.value.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
    }

    /// Compiles a validator of single properties: none is required.
    pub fn fields_validator(&self) -> Result<Validator, SchemaError> {
        let mut value = self.value.clone();
        if let Some(members) = value.as_object_mut() {
            let of_fields = ["$schema", "$id", "type", "properties", "$defs", "additionalProperties"];
            members.retain(|name, _| of_fields.contains(&name.as_str()));
        }
        Ok(Validator::compile(&value)?.with_doubles(self.doubles()))
    }

    /// How a cell of the field at a JSON pointer is read; `None` if the schema has no such field.
    pub fn column_type(&self, pointer: &str) -> Option<ColumnType> {
        self.field(pointer).map(|field| column_type(&self.value, field))
    }

    /// Whether a marker of a missing value cannot be a value of the field at a JSON pointer itself.
    pub fn may_miss(&self, pointer: &str) -> bool {
        let format = self.keyword(pointer, "format").and_then(Value::as_str);
        self.column_type(pointer) != Some(ColumnType::String)
            || matches!(format, Some("date" | "date-time" | "period" | "time"))
    }

    /// The properties that may be columns of a CSV file, in the order in which the schema was written.
    pub fn columns(&self) -> Vec<(&str, ColumnType)> {
        let kind = |name: &str| Some(column_type(&self.value, self.value.get("properties")?.get(name)?));
        self.properties.iter().filter_map(|name| Some((name.as_str(), kind(name)?))).collect()
    }
}

fn title_of(part: Option<&Value>) -> Option<&str> {
    part?.get("title")?.as_str().filter(|title| !title.is_empty())
}

fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The properties of a schema by their names and titles.
pub struct Titles<'a> {
    columns: HashMap<&'a str, ColumnType>,
    /// `None` if several properties have the title.
    by_title: HashMap<String, Option<&'a str>>,
    /// Names and titles without regard to case.
    folded: HashMap<String, Option<&'a str>>,
}

impl Titles<'_> {
    /// The property that a column of this header holds: it is its name, or its title in English or Chinese, without regard to
    /// case and the spaces around it.
    pub fn column(&self, header: &str) -> Option<(&str, ColumnType)> {
        let by_name = self.columns.get_key_value(header);
        let of = |name: Option<&Option<&'_ str>>| self.columns.get_key_value((*name?)?);
        let by_title = || of(self.by_title.get(header.trim()));
        by_name.or_else(by_title).or_else(|| of(self.folded.get(&folded(header)))).map(|(name, kind)| (*name, *kind))
    }
}

fn written_order(text: &[u8]) -> Result<Vec<String>, SchemaError> {
    let mut tape = Tape::default();
    tape.parse(text).map_err(ReadError::from)?;
    let properties = tape.root().members().find(|(name, _)| *name == "properties");
    let names = properties.into_iter().flat_map(|(_, properties)| properties.members());
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

/// The properties that `x-key` names.
fn key_of(schema: &Value) -> Result<Vec<String>, SchemaError> {
    let Some(stated) = schema.get("x-key") else { return Ok(Vec::new()) };
    let invalid = |problem: &str| SchemaError::Invalid { pointer: "/x-key".into(), problem: problem.into() };
    let names: Option<Vec<&str>> = stated.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| invalid("must be a list of property names"))?;
    let known = |name: &str| schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    match names.iter().find(|name| !known(name)) {
        Some(name) => Err(invalid(&format!("the schema has no property `{name}`"))),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

/// How a column of this property is read; its definition may be elsewhere in the schema.
fn column_type(schema: &Value, property: &Value) -> ColumnType {
    let target = property.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    if let Some(found) = target.and_then(|pointer| schema.pointer(pointer)).filter(|found| found.get("$ref").is_none())
    {
        return column_type(schema, found);
    }
    let types: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let has = |name: &str| types.contains(&name);
    if has("string") || types.is_empty() {
        ColumnType::String
    } else if has("number") || has("integer") {
        ColumnType::Number
    } else if has("boolean") {
        ColumnType::Boolean
    } else {
        ColumnType::Nested
    }
}

/// The numbers of a semantic version, by which versions are ordered.
pub fn version_order(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

fn is_semantic(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok_and(|n| n.to_string() == *part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn schema(extra: Value) -> Result<Schema, SchemaError> {
        let mut value = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:x", "x-version": "1.0.0",
            "type": "object"
        });
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Schema::parse(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn built_in_schemas_are_strict() {
        for (record, rule) in [
            (r#"{"area":"CHN","period":"2024-02","value":1.5}"#, ""),
            (r#"{"area":"CHN","period":"2024-13","value":1.5}"#, "format"),
            (r#"{"area":"CHN","period":"2024","value":"1.5"}"#, "type"),
            (r#"{"area":"CHN","value":1.5}"#, "required"),
            (r#"{"area":"CHN","period":"2024","value":1,"extra":1}"#, "additionalProperties"),
        ] {
            let validator = built_in()[2].validator().unwrap();
            let mut tape = Tape::default();
            tape.parse(record.as_bytes()).unwrap();
            let found = validator.validate(&tape);
            assert_eq!(found.first().map_or("", |v| v.rule.as_str()), rule, "{record}: {found:?}");
        }
    }

    #[test]
    fn formats_are_asserted() {
        let validator =
            schema(json!({"properties": {"d": {"type": "string", "format": "date"}}})).unwrap().validator().unwrap();
        let mut tape = Tape::default();
        tape.parse(br#"{"d":"2024-99-99"}"#).unwrap();
        let found = validator.validate(&tape);
        assert_eq!((found[0].pointer.as_str(), found[0].rule.as_str()), ("/d", "format"));
    }

    #[test]
    fn misspelt_or_dangerous_schemas_are_refused() {
        for (extra, part) in [
            (json!({"propertys": {}}), "/propertys"),
            (json!({"properties": {"a": {"minlength": 1}}}), "/properties/a/minlength"),
            (json!({"$ref": "https://elsewhere.example/schema"}), "elsewhere"),
            (json!({"properties": {"a": {"format": "telephone"}}}), "telephone"),
            (json!({"properties": {"a": {"pattern": "(?=x)"}}}), "pattern"),
            (json!({"x-version": "1"}), "/x-version"),
            (json!({"$id": "x"}), "/$id"),
            (json!({"title": "a\u{202e}b"}), "/title"),
            (json!({"x-zh": {"title": "甲".repeat(201)}}), "/x-zh"),
            (json!({"properties": {"x-problem": {}}}), "reserved"),
            (json!({"properties": {"a": {"x-zh": {"title": "甲\u{2067}"}}}}), "/properties/a/x-zh"),
            (json!({"properties": {"a\u{202e}": {}}}), "invisible"),
            (json!({"properties": {"a": {"type": "string", "format": "double"}}}), "/properties/a/format"),
            // References that others would read differently.
            (json!({"properties": {"a": {"$id": "urn:test:y"}}}), "/properties/a/$id"),
            (json!({"properties": {"a": {"$defs": {}}}}), "/properties/a/$defs"),
            (json!({"x-foo": {}, "properties": {"a": {"$ref": "#/x-foo"}}}), "/properties/a/$ref"),
            (json!({"$defs": {"A": {}}, "properties": {"a": {"$ref": "#/$defs/%41"}}}), "/properties/a/$ref"),
            (json!({"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}}), "/properties/a/$ref"),
        ] {
            let error = schema(extra.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{extra}: {error}");
        }
        assert!(
            schema(json!({"properties": {"propertys": {"const": {"minlength": 1}}}})).is_ok(),
            "property names and constant values are not keywords"
        );
    }

    fn any_instance() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..12).prop_map(Value::from),
            (-30i64..120).prop_map(|n| Value::from(n as f64 / 4.0)),
            "[ab\u{e9}\u{1f600}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[abc]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The validator gives the same result on the tape as on a tree.
        #[test]
        fn the_tape_validates_like_a_tree(instance in any_instance()) {
            let keywords = [
                json!({"uniqueItems": true}), json!({"items": {"uniqueItems": true}}), json!({"enum": [1, "a", [1], {"a": 1}, 2.5]}),
                json!({"const": {"a": [1, 2.0]}}), json!({"minLength": 2}), json!({"type": "integer"}), json!({"multipleOf": 0.5}),
                json!({"properties": {"a": {"type": "number", "minimum": 2}, "b": {"type": "array"}}, "required": ["a"]}),
                json!({"additionalProperties": {"type": ["string", "null"]}}), json!({"propertyNames": {"pattern": "^a"}}),
                json!({"contains": {"type": "string"}}), json!({"oneOf": [{"type": "number"}, {"maximum": 3}]}),
                json!({"unevaluatedProperties": false, "properties": {"a": true}}), json!({"maxProperties": 1}),
            ];
            let mut tape = Tape::default();
            tape.parse(&serde_json::to_vec(&instance).unwrap()).unwrap();
            for keyword in keywords {
                let ours = Validator::compile(&keyword).unwrap();
                let theirs = jsonschema::options().should_validate_formats(true).build(&keyword).unwrap();
                prop_assert_eq!(ours.is_valid(&tape), theirs.is_valid(&instance), "{} {}", keyword, instance);
                prop_assert_eq!(ours.validate(&tape).is_empty(), theirs.is_valid(&instance));
            }
        }
    }
}
