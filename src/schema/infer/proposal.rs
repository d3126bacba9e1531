//! The proposal: a schema as text, with its fields in the order of the file, and what people must decide.

use super::Sketch;
use super::field::Field;
use super::names::{Named, Vocabulary};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

/// Something that the file does not show.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Question {
    /// JSON pointer into the proposal.
    pub pointer: String,
    /// What people must decide.
    pub question: String,
}

/// A proposal for a schema.
pub struct Proposal {
    /// The schema, JSON.
    pub text: String,
    /// What people must decide before others use it.
    pub open: Vec<Question>,
}

/// An object whose members keep their order.
struct Ordered(Vec<(String, Part)>);

enum Part {
    Value(Value),
    Object(Ordered),
}

impl Ordered {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), Part::Value(value.into())));
    }

    fn add_object(&mut self, name: &str, object: Ordered) {
        self.0.push((name.to_owned(), Part::Object(object)));
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, part) in &self.0 {
            match part {
                Part::Value(value) => map.serialize_entry(name, value)?,
                Part::Object(object) => map.serialize_entry(name, object)?,
            }
        }
        map.end()
    }
}

impl Sketch {
    /// A schema under which every record of the file is valid, and what it leaves open.
    pub fn proposal(&self, id: &str, title: &str) -> Proposal {
        let mut open = Vec::new();
        if !id.starts_with("did:") {
            let question = "a park's own schema is its id, a slash and a name: did:web:park-a.example/rents".into();
            open.push(Question { pointer: "/$id".into(), question });
        }
        let names = self.names();
        let mut ask = |pointer: &str, question: String| open.push(Question { pointer: pointer.to_owned(), question });
        let (mut properties, mut required) = (Ordered(Vec::new()), Vec::new());
        for ((source, field), named) in self.fields.iter().zip(&names) {
            let pointer = format!("/properties/{}", named.name);
            properties.add_object(&named.name, property(source, field, named));
            if field.is_in_all(self.records) {
                required.push(named.name.clone());
            }
            questions(source, field, named, &mut |question| ask(&pointer, question));
        }
        let key = self.keys.key(&self.fields);
        let key: Vec<&String> = key
            .iter()
            .filter_map(|source| Some(&names[self.fields.iter().position(|(known, _)| known == source)?].name))
            .collect();
        match key.as_slice() {
            [] => ask("/x-key", "no field, nor the first ones together, tells the records apart".into()),
            _ => {
                let names: Vec<&str> = key.iter().map(|name| name.as_str()).collect();
                let names = names.join(", ");
                ask("/x-key", format!("no two records of this file have the same {names}; is that so in all files?"));
            }
        }
        let mut schema = Ordered(Vec::new());
        schema.add("$schema", "https://json-schema.org/draft/2020-12/schema");
        schema.add("$id", id);
        schema.add("x-version", "1.0.0");
        let (english, chinese) = if title.is_ascii() { (title, "") } else { ("", title) };
        described(&mut schema, english, chinese);
        schema.add("type", "object");
        if !key.is_empty() {
            schema.add("x-key", json!(key));
        }
        if !required.is_empty() {
            schema.add("required", json!(required));
        }
        schema.add("additionalProperties", false);
        schema.add_object("properties", properties);
        let text = serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n";
        Proposal { text, open }
    }

    fn names(&self) -> Vec<Named> {
        let vocabulary = Vocabulary::new();
        let headers: Vec<String> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        let mut names: Vec<Named> = Vec::new();
        for (n, header) in headers.iter().enumerate() {
            let named = match self.cells.is_some() {
                true => vocabulary.of_column(header, n + 1, &headers, &names),
                false => vocabulary.of_member(header),
            };
            names.push(named);
        }
        names
    }
}

/// Titles and descriptions in both languages, empty where people fill them in.
fn described(part: &mut Ordered, english: &str, chinese: &str) {
    part.add("title", english);
    part.add("description", "");
    let mut in_chinese = Ordered(Vec::new());
    in_chinese.add("title", chinese);
    in_chinese.add("description", "");
    part.add_object("x-zh", in_chinese);
}

fn property(source: &str, field: &Field, named: &Named) -> Ordered {
    let mut property = Ordered(Vec::new());
    described(&mut property, &named.english, &named.chinese);
    let mut keywords = field.keywords(source);
    for name in ["type", "format", "enum", "minimum", "maximum", "minLength", "maxLength"] {
        if let Some(value) = keywords.remove(name) {
            property.add(name, value);
        }
    }
    property.0.extend(keywords.into_iter().map(|(name, value)| (name, Part::Value(value))));
    property
}

/// What the file does not show of a field.
fn questions(source: &str, field: &Field, named: &Named, ask: &mut impl FnMut(String)) {
    if field.is_empty() {
        ask("it has no value in this file: state its type".into());
    }
    if named.name.starts_with("field_") {
        ask(format!("an English name for `{source}`; keep `{source}` as the Chinese title, by which the file is read"));
    } else if named.english.is_empty() {
        ask("an English title".into());
    }
    if field.is_listed(source) {
        ask("these are the values of this file: are there others, and does none of them name a person?".into());
    }
    if field.is_cut() {
        ask("it has more members or levels than are described here".into());
    }
    if let Some(spelling) = field.other_spelling() {
        ask(format!("{spelling}; as it is, it is a text"));
    }
    let is_money = ["元", "CNY", "RMB", "USD", "EUR", "$", "€", "¥"].iter().any(|unit| source.contains(unit));
    if source.contains(['(', '（', '%']) && !is_money {
        ask(format!("the unit in `{source}` as `x-unit` (UCUM)"));
    }
}
