//! Rules for the Dataspace Protocol messages that a node sends: general rules, and the specification's JSON Schemas if
//! `CROSSPARK_DSP_SCHEMAS` names a folder that contains them (`tests/tck/run` takes them from the conformance kit).

use super::CONTEXT;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

/// The specification's schemas by `$id`.
static SCHEMAS: OnceLock<HashMap<String, Value>> = OnceLock::new();

fn schemas() -> &'static HashMap<String, Value> {
    SCHEMAS.get_or_init(|| {
        let mut found = HashMap::new();
        match std::env::var("CROSSPARK_DSP_SCHEMAS") {
            Ok(folder) => read(Path::new(&folder), &mut found),
            Err(_) => eprintln!("skipped: the specification's JSON Schemas (CROSSPARK_DSP_SCHEMAS names no folder)"),
        }
        found
    })
}

fn read(folder: &Path, found: &mut HashMap<String, Value>) {
    for path in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "json") {
            let mut schema: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            mend(&mut schema);
            found.insert(schema["$id"].as_str().unwrap().to_owned(), schema);
        }
    }
}

/// Corrects `"items": "string"` in some of the schemas, which is not a valid schema.
fn mend(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("items").is_some_and(Value::is_string) {
                members.insert("items".into(), serde_json::json!({"type": "string"}));
            }
            members.values_mut().for_each(mend);
        }
        Value::Array(list) => list.iter_mut().for_each(mend),
        _ => {}
    }
}

struct Known;

impl jsonschema::Retrieve for Known {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        schemas().get(uri.as_str()).cloned().ok_or_else(|| format!("there is no schema {uri}").into())
    }
}

/// Converts `ContractRequestMessage` to `contract-request-message`.
fn dashed(kind: &str) -> String {
    let mut out = String::new();
    for c in kind.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The rules that a sent message breaks.
pub fn broken(sent: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(kind) = sent["@type"].as_str() else { return vec![format!("without @type: {sent}")] };
    let context = sent["@context"].as_array();
    if !context.is_some_and(|list| list.iter().all(Value::is_string) && list.iter().any(|entry| entry == CONTEXT)) {
        wrong.push("@context".to_owned());
    }
    walk(sent, kind, &mut wrong);
    let process = kind.starts_with("Contract") || kind.starts_with("Transfer");
    let opens = sent["callbackAddress"].is_string();
    for name in ["consumerPid", "providerPid"] {
        if process && !opens && !sent[name].is_string() {
            wrong.push(format!("{name} is missing"));
        }
    }
    let file = dashed(kind);
    let schema = schemas().iter().find(|(id, _)| id.ends_with(&format!("/{file}-schema.json")));
    if let Some((_, schema)) = schema {
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft201909).with_retriever(Known);
        let validator = options.build(schema).unwrap();
        wrong.extend(validator.iter_errors(sent).map(|error| format!("{}: {error}", error.instance_path())));
    }
    wrong.into_iter().map(|wrong| format!("{kind}: {wrong}: {sent}")).collect()
}

/// Checks that no list is empty and no right operand is a number.
fn walk(value: &Value, place: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Array(list) if list.is_empty() => wrong.push(format!("{place} is empty")),
        Value::Array(list) => list.iter().for_each(|one| walk(one, place, wrong)),
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| !name.starts_with("crosspark:")) {
                if name == "rightOperand" && value.is_number() {
                    wrong.push("a bare number".to_owned());
                }
                walk(value, name, wrong);
            }
        }
        _ => {}
    }
}
