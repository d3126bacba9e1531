//! JSON-LD in the spellings that other connectors use, turned into the plain form of the Dataspace Protocol (DSP 2025-1,
//! "JSON-LD Context"): names without prefix, references and typed values as strings. It is not a JSON-LD processor: no
//! context is fetched or applied, and whatever has another form is left as it is, so that the reader refuses it.

use super::read_value;
use serde_json::{Map, Value};

/// Vocabularies whose terms the protocol's context writes without prefix, and the default vocabulary of Eclipse EDC, in
/// which its users' unprefixed terms end up.
const VOCABULARIES: [&str; 11] = [
    "odrl:",
    "http://www.w3.org/ns/odrl/2/",
    "dcat:",
    "http://www.w3.org/ns/dcat#",
    "dct:",
    "dcterms:",
    "http://purl.org/dc/terms/",
    "dspace:",
    "https://w3id.org/dspace/2025/1/",
    "edc:",
    "https://w3id.org/edc/v0.0.1/ns/",
];

/// A term without the prefix of a known vocabulary.
pub fn term(name: &str) -> &str {
    let plain = VOCABULARIES.iter().find_map(|vocabulary| name.strip_prefix(vocabulary));
    plain.filter(|plain| !plain.is_empty()).unwrap_or(name)
}

/// The elements of a member that holds a list, or a single element in place of it.
pub fn elements(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    }
    .iter()
}

/// The plain form. Extension members of crosspark, which may contain records, are copied unchanged.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(plain).collect()),
        Value::Object(members) => object(members),
        other => other,
    }
}

fn object(mut members: Map<String, Value>) -> Value {
    if let Some(scalar) = scalar(&members) {
        return scalar;
    }
    if members.len() == 1
        && let Some(("@list" | "@set", list @ Value::Array(_))) =
            members.iter_mut().next().map(|(n, v)| (n.as_str(), v))
    {
        return plain(list.take());
    }
    let mut read = Map::new();
    // Names without prefix come first: a prefixed name never replaces one of them. It is kept as it is, and a reader
    // that does not permit unknown members refuses it.
    let (bare, prefixed): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| term(name) == name);
    for (name, value) in bare.into_iter().chain(prefixed) {
        let name = if read.contains_key(term(&name)) { name } else { term(&name).to_owned() };
        let value = match (name.as_str(), value) {
            ("@type", Value::String(kind)) => Value::String(term(&kind).to_owned()),
            ("rightOperand", Value::String(text)) => written_list(&text).unwrap_or(Value::String(text)),
            (extension, value) if extension.starts_with("crosspark:") => value,
            (_, value) => plain(value),
        };
        read.insert(name, value);
    }
    Value::Object(read)
}

/// The value with its spelling, except that lists which EDC turned into texts are lists again: EDC itself has kept them as
/// lists.
pub fn with_lists(value: Value) -> Value {
    let member = |(name, value): (String, Value)| match value {
        Value::String(text) if term(&name) == "rightOperand" => {
            let list = written_list(&text).unwrap_or(Value::String(text));
            (name, list)
        }
        value => (name, with_lists(value)),
    };
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(with_lists).collect()),
        Value::Object(members) => Value::Object(members.into_iter().map(member).collect()),
        other => other,
    }
}

/// The text of `{"@id": TEXT}`, or of `{"@value": SCALAR}` with its type or language.
fn scalar(members: &Map<String, Value>) -> Option<Value> {
    let only = |known: &[&str]| members.keys().all(|name| known.contains(&name.as_str()));
    match (members.get("@id"), members.get("@value")) {
        (Some(id @ Value::String(_)), None) if members.len() == 1 => Some(id.clone()),
        (None, Some(value)) if only(&["@value", "@type", "@language"]) => match value {
            Value::String(_) => Some(value.clone()),
            // A number with its type is exact here: it was read strictly.
            Value::Number(_) | Value::Bool(_) => Some(Value::String(value.to_string())),
            _ => None,
        },
        _ => None,
    }
}

/// A list of operands that EDC (until 0.15) turned into a text: `[{"@value":"a"},{"@value":"b"}]`.
fn written_list(text: &str) -> Option<Value> {
    if !text.starts_with('[') {
        return None;
    }
    let Value::Array(list) = read_value(text.as_bytes()).ok()? else { return None };
    let read: Option<Vec<Value>> = list.iter().map(|one| scalar(one.as_object()?)).collect();
    read.filter(|read| !read.is_empty()).map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn spellings() {
        for (written, read) in [
            (json!({"odrl:permission": []}), json!({"permission": []})),
            (json!({"http://www.w3.org/ns/odrl/2/action": {"@id": "odrl:use"}}), json!({"action": "odrl:use"})),
            (json!({"@type": "odrl:Offer", "edc:name": "x"}), json!({"@type": "Offer", "name": "x"})),
            (json!({"rightOperand": {"@value": "5", "@type": "xsd:integer"}}), json!({"rightOperand": "5"})),
            (json!({"rightOperand": {"@value": 5, "@type": "xsd:integer"}}), json!({"rightOperand": "5"})),
            (json!({"rightOperand": {"@list": [{"@value": "a"}, "b"]}}), json!({"rightOperand": ["a", "b"]})),
            (json!({"hasPolicy": {"@set": [{"@id": "a"}]}}), json!({"hasPolicy": ["a"]})),
            (json!({"rightOperand": "[{\"@value\":\"a\"},{\"@value\":\"b\"}]"}), json!({"rightOperand": ["a", "b"]})),
            (json!({"dct:title": {"@value": "Daten", "@language": "de"}}), json!({"title": "Daten"})),
            // A prefixed name does not replace a plain one, and the second of two prefixed ones keeps its name.
            (json!({"edc:name": 1, "name": 2}), json!({"edc:name": 1, "name": 2})),
            (json!({"dcat:x": 1, "dct:x": 2}), json!({"x": 1, "dct:x": 2})),
            // Whatever is not one of these forms stays.
            (json!({"target": {"@id": "a", "more": 1}}), json!({"target": {"@id": "a", "more": 1}})),
            (json!({"rightOperand": "[x]"}), json!({"rightOperand": "[x]"})),
            (json!({"rightOperand": "[]"}), json!({"rightOperand": "[]"})),
            (json!({"other": "[{\"@value\":\"a\"}]"}), json!({"other": "[{\"@value\":\"a\"}]"})),
            (json!({"acme:permission": []}), json!({"acme:permission": []})),
            (json!({"odrl:": 1}), json!({"odrl:": 1})),
            (
                json!({"crosspark:samples": [{"odrl:a": {"@value": 1}}]}),
                json!({"crosspark:samples": [{"odrl:a": {"@value": 1}}]}),
            ),
        ] {
            assert_eq!(plain(written.clone()), read, "{written}");
        }
    }

    #[test]
    fn spelling_is_kept() {
        let text = "[{\"@value\":\"a\"}]";
        let written =
            json!({"odrl:constraint": [{"leftOperand": "odrl:purpose", "odrl:rightOperand": text}], "x": text});
        let read = json!({"odrl:constraint": [{"leftOperand": "odrl:purpose", "odrl:rightOperand": ["a"]}], "x": text});
        assert_eq!(with_lists(written), read);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            "[a-c]",
            "(odrl|dcat|edc|acme):[a-c]",
            Just("@id".to_owned()),
            Just("@value".to_owned()),
            Just("@list".to_owned()),
            Just("rightOperand".to_owned()),
        ];
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            Just(json!("[{\"@value\":\"a\"}]")),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// No member is lost: each keeps its name or gets the plain one, unless the whole object is one scalar or list.
        #[test]
        fn nothing_is_lost(value in any_json()) {
            let read = plain(value.clone());
            if let (Value::Object(before), Value::Object(after)) = (&value, &read) {
                prop_assert_eq!(before.len(), after.len());
                for name in before.keys() {
                    prop_assert!(after.contains_key(name) || after.contains_key(term(name)));
                }
            }
        }
    }
}
