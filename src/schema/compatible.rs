//! Whether a schema accepts every record that an earlier one accepts, proven by rules. What the rules do not prove counts
//! as breaking.

use super::{RULE_CONTENT, Schema, SchemaError};
use crate::core::{json, limits};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::LazyLock;

/// A change after which records that were valid may be refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Breaking {
    /// JSON pointer into the new schema.
    pub pointer: String,
    /// The change.
    pub reason: String,
}

/// The changes of `new` for which it is not proven that every record valid under `old` is valid under `new`.
pub fn breaking(new: &Schema, old: &Schema) -> Result<Vec<Breaking>, SchemaError> {
    let mut found = compare(new.value(), old.value())?;
    let key = new.value().get("x-key");
    if key.is_some() && key != old.value().get("x-key") {
        let reason = "the key is new or has changed: records with the same key are refused".into();
        found.push(Breaking { pointer: "/x-key".into(), reason });
    }
    if new.has_content() != old.has_content() {
        let reason = "its records describe files in one of the two versions only".into();
        found.push(Breaking { pointer: format!("/{RULE_CONTENT}"), reason });
    }
    Ok(found)
}

fn compare(new: &Value, old: &Value) -> Result<Vec<Breaking>, SchemaError> {
    let same_definitions = new == old || (new.get("$defs") == old.get("$defs") && !refers_to_all(new));
    let mut proof = Proof { new, old, same_definitions, found: Vec::new(), open: HashSet::new(), steps: 0 };
    proof.covers(&Part { schema: new, pointer: String::new() }, old);
    match proof.steps > limits::COMPATIBILITY_STEPS_MAX {
        true => Err(SchemaError::Invalid { pointer: String::new(), problem: "it is too large to be compared".into() }),
        false => Ok(proof.found),
    }
}

/// A part of the new schema.
struct Part<'a> {
    schema: &'a Value,
    pointer: String,
}

impl<'a> Part<'a> {
    fn below(&self, schema: &'a Value, name: &str) -> Self {
        Self { schema, pointer: format!("{}{}", self.pointer, json::pointer_part(name)) }
    }
}

/// The schema that accepts everything.
static ANYTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// Keywords of which only equality is understood. If the new schema has none, it refuses nothing by them.
const OPAQUE: &[&str] = &[
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "contains",
    "minContains",
    "maxContains",
    "prefixItems",
    "not",
    "if",
    "then",
    "else",
    "oneOf",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

struct Proof<'a> {
    new: &'a Value,
    old: &'a Value,
    same_definitions: bool,
    found: Vec<Breaking>,
    /// Pairs under way. A schema that contains itself is covered if nothing else is found.
    open: HashSet<(*const Value, *const Value)>,
    steps: usize,
}

impl<'a> Proof<'a> {
    /// Looks for what `new` refuses and `old` accepts.
    fn covers(&mut self, new: &Part<'a>, old: &'a Value) {
        self.steps += 1;
        let pair = (std::ptr::from_ref(new.schema), std::ptr::from_ref(old));
        if self.steps > limits::COMPATIBILITY_STEPS_MAX || self.same(new.schema, old) || !self.open.insert(pair) {
            return;
        }
        // What else stands beside a reference can only accept less than its target.
        let old_target = target(self.old, old).unwrap_or(old);
        if let Some(reference) = new.schema.get("$ref") {
            // One step: what stands beside a reference on the way counts, too.
            let target = reference.as_str().and_then(|reference| self.new.pointer(reference.strip_prefix('#')?));
            match target {
                Some(schema) => self.covers(&Part { schema, pointer: new.pointer.clone() }, old_target),
                None => self.breaks(new, "$ref", format!("{reference} is not understood")),
            }
        }
        match (new.schema, old_target) {
            (_, Value::Bool(false)) | (Value::Bool(true), _) => {}
            (Value::Object(all), Value::Object(before)) => self.covers_object(new, all, old_target, before),
            (Value::Object(all), _) => {
                let before = ANYTHING.as_object().unwrap_or(all);
                self.covers_object(new, all, &ANYTHING, before);
            }
            _ => self.breaks(new, "", "is refused now".into()),
        }
        self.open.remove(&pair);
    }

    /// Whether both mean the same.
    fn same(&self, new: &Value, old: &Value) -> bool {
        new == old && (self.same_definitions || !has_reference(new))
    }

    /// Whether nothing is found. What is found is dropped.
    fn holds(&mut self, new: &Part<'a>, old: &'a Value) -> bool {
        let before = self.found.len();
        self.covers(new, old);
        let holds = self.found.len() == before;
        self.found.truncate(before);
        holds
    }

    fn breaks(&mut self, part: &Part<'a>, keyword: &str, reason: String) {
        let keyword = if keyword.is_empty() { String::new() } else { json::pointer_part(keyword) };
        self.found.push(Breaking { pointer: format!("{}{keyword}", part.pointer), reason });
    }

    fn covers_object(&mut self, part: &Part<'a>, new: &'a Members, whole: &'a Value, old: &'a Members) {
        let types = types_of(old);
        self.types(part, new, &types);
        self.values(part, new, old);
        if types.contains(&"number") || types.contains(&"integer") {
            self.bounds(part, new, old);
        }
        if types.contains(&"string") {
            self.sizes(part, new, old, ["minLength", "maxLength"]);
            self.equal(part, new, old, &["pattern", "format"]);
        }
        if types.contains(&"array") {
            self.arrays(part, new, old);
        }
        if types.contains(&"object") {
            self.objects(part, new, old);
        }
        self.equal(part, new, old, OPAQUE);
        if new.contains_key("contains") && new.get("minContains") != old.get("minContains") {
            self.breaks(part, "contains", "the number of items that it asks for has changed".into());
        }
        for name in ["unevaluatedProperties", "unevaluatedItems"].into_iter().filter(|name| new.contains_key(*name)) {
            // It depends on all that stands beside it, and that has changed.
            self.breaks(part, name, "stands beside changes: what it refuses is not understood".into());
        }
        self.combined(part, new, whole, old);
    }

    fn types(&mut self, part: &Part<'a>, new: &Members, old: &[&str]) {
        if !new.contains_key("type") {
            return;
        }
        let accepted = stated_types(new);
        let accepts = |name: &str| accepted.contains(&name) || (name == "integer" && accepted.contains(&"number"));
        let refused: Vec<&str> = old.iter().copied().filter(|name| !accepts(name)).collect();
        if !refused.is_empty() {
            self.breaks(part, "type", format!("refuses values of the type {} now", refused.join(", ")));
        }
    }

    fn values(&mut self, part: &Part<'a>, new: &Members, old: &Members) {
        for name in ["enum", "const"].into_iter().filter(|name| new.contains_key(*name)) {
            let Some(before) = listed(old) else {
                self.breaks(part, name, "accepts only certain values now".into());
                continue;
            };
            let accepted: HashSet<Vec<u8>> = list_of(new, name).into_iter().map(json::to_canonical).collect();
            self.steps += accepted.len() + before.len();
            let gone = before.into_iter().filter(|value| !accepted.contains(&json::to_canonical(value)));
            let gone: Vec<String> = gone.map(ToString::to_string).collect();
            if !gone.is_empty() {
                self.breaks(part, name, format!("refuses {} now", gone.join(", ")));
            }
        }
    }

    fn bounds(&mut self, part: &Part<'a>, new: &Members, old: &Members) {
        let number = |schema: &Members, name: &str| schema.get(name).and_then(Value::as_f64);
        for (closed, open, sign) in [("minimum", "exclusiveMinimum", 1.0), ("maximum", "exclusiveMaximum", -1.0)] {
            for (name, is_open) in [(closed, false), (open, true)] {
                let Some(limit) = number(new, name) else { continue };
                let known = number(old, closed).is_some_and(|before| match is_open {
                    true => before * sign > limit * sign,
                    false => before * sign >= limit * sign,
                });
                let known = known || number(old, open).is_some_and(|before| before * sign >= limit * sign);
                let fits = |n: f64| if is_open { n * sign > limit * sign } else { n * sign >= limit * sign };
                let fit = listed(old).is_some_and(|all| all.iter().filter_map(|value| value.as_f64()).all(fits));
                if !known && !fit {
                    self.breaks(part, name, format!("refuses numbers beyond {limit} now"));
                }
            }
        }
        if let Some(step) = number(new, "multipleOf") {
            let whole = |n: f64| n.fract() == 0.0 && n.abs() < 9e15;
            let divides = |before: f64| before == step || (whole(before) && whole(step) && before % step == 0.0);
            if !number(old, "multipleOf").is_some_and(divides) {
                self.breaks(part, "multipleOf", format!("refuses numbers that are no multiples of {step} now"));
            }
        }
    }

    fn sizes(&mut self, part: &Part<'a>, new: &Members, old: &Members, [least, most]: [&str; 2]) {
        let size = |schema: &Members, name: &str| schema.get(name).and_then(Value::as_f64);
        // Sizes of the listed values, for texts.
        let texts = listed(old).filter(|_| least == "minLength").unwrap_or_default();
        let lengths = || texts.iter().filter_map(|value| value.as_str()).map(|text| text.chars().count() as f64);
        let (shortest, longest) = (lengths().reduce(f64::min), lengths().reduce(f64::max));
        if let Some(limit) = size(new, least)
            && shortest.or(size(old, least)).unwrap_or(0.0) < limit
        {
            self.breaks(part, least, format!("refuses what is smaller than {limit} now"));
        }
        if let Some(limit) = size(new, most)
            && longest.or(size(old, most)).unwrap_or(f64::INFINITY) > limit
        {
            self.breaks(part, most, format!("refuses what is larger than {limit} now"));
        }
    }

    fn arrays(&mut self, part: &Part<'a>, new: &'a Members, old: &'a Members) {
        self.sizes(part, new, old, ["minItems", "maxItems"]);
        let unique = |schema: &Members| schema.get("uniqueItems") == Some(&Value::Bool(true));
        let at_most_one = old.get("maxItems").and_then(Value::as_f64).is_some_and(|most| most <= 1.0);
        if unique(new) && !unique(old) && !at_most_one {
            self.breaks(part, "uniqueItems", "refuses repeated items now".into());
        }
        if let Some(items) = new.get("items") {
            // These are the items after those of `prefixItems`.
            let alike = new.get("prefixItems") == old.get("prefixItems");
            let before = old.get("items").filter(|_| alike).unwrap_or(&ANYTHING);
            self.covers(&part.below(items, "items"), before);
        }
    }

    fn objects(&mut self, part: &Part<'a>, new: &'a Members, old: &'a Members) {
        self.sizes(part, new, old, ["minProperties", "maxProperties"]);
        let before: HashSet<&str> = list_of(old, "required").into_iter().filter_map(Value::as_str).collect();
        let required = list_of(new, "required").into_iter().filter_map(Value::as_str);
        for name in required.filter(|name| !before.contains(name)) {
            self.breaks(part, "required", format!("requires `{name}` now"));
        }
        let (patterns, others) = (old.get("patternProperties"), old.get("additionalProperties").unwrap_or(&ANYTHING));
        let properties = |schema: &'a Members| schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties(new).into_iter().flatten() {
            // A pattern may have accepted the name.
            let unstated = if patterns.is_some() { &ANYTHING } else { others };
            let before = properties(old).and_then(|all| all.get(name)).unwrap_or(unstated);
            let parent = part.below(property, "properties");
            self.covers(&parent.below(property, name), before);
        }
        if let Some(rest) = new.get("additionalProperties") {
            let rest = part.below(rest, "additionalProperties");
            let alike = patterns.is_none() || patterns == new.get("patternProperties");
            self.covers(&rest, if alike { others } else { &ANYTHING });
            let stated = |name: &str| properties(new).is_some_and(|all| all.contains_key(name));
            for (name, property) in properties(old).into_iter().flatten().filter(|(name, _)| !stated(name)) {
                if !self.holds(&rest, property) {
                    self.breaks(part, "properties", format!("refuses what `{name}` held now"));
                }
            }
        }
    }

    fn equal(&mut self, part: &Part<'a>, new: &Members, old: &Members, names: &[&str]) {
        for name in names {
            let equal = |value: &Value| old.get(*name).is_some_and(|before| self.same(value, before));
            if new.get(*name).is_some_and(|value| !equal(value)) {
                self.breaks(part, name, "is new or has changed; that it refuses no more is not proven".into());
            }
        }
    }

    fn combined(&mut self, part: &Part<'a>, new: &'a Members, whole: &'a Value, old: &'a Members) {
        let list = |schema: &'a Members, name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
        for (n, one) in list(new, "allOf").enumerate() {
            let same = list(old, "allOf").any(|before| self.same(one, before));
            let one = part.below(one, "allOf").below(one, &n.to_string());
            if !same {
                self.covers(&one, whole);
            }
        }
        let choices: Vec<Part<'a>> = list(new, "anyOf").map(|choice| part.below(choice, "anyOf")).collect();
        if choices.is_empty() || choices.iter().any(|choice| self.holds(choice, whole)) {
            return;
        }
        let before: Vec<&'a Value> = list(old, "anyOf").chain(list(old, "oneOf")).collect();
        let covered = |one: &&'a Value| choices.iter().any(|choice| self.holds(choice, one));
        if before.is_empty() || !before.iter().all(covered) {
            self.breaks(part, "anyOf", "some choice of before is not among the choices".into());
        }
    }
}

type Members = Map<String, Value>;

/// The schema that a reference leads to.
fn target<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let mut found = schema;
    for _ in 0..limits::JSON_DEPTH_MAX {
        let Some(reference) = found.get("$ref") else { return Some(found) };
        found = root.pointer(reference.as_str()?.strip_prefix('#')?)?;
    }
    None
}

fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.contains_key("$ref") || members.values().any(has_reference),
        Value::Array(list) => list.iter().any(has_reference),
        _ => false,
    }
}

/// Whether some reference leads to the whole schema.
fn refers_to_all(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.get("$ref").is_some_and(|to| to == "#") || members.values().any(refers_to_all)
        }
        Value::Array(list) => list.iter().any(refers_to_all),
        _ => false,
    }
}

/// The elements of a keyword's list; the value itself if it is none.
fn list_of<'a>(schema: &'a Members, name: &str) -> Vec<&'a Value> {
    match schema.get(name) {
        Some(Value::Array(list)) if name != "const" => list.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

/// The only values that a schema accepts, if it lists them.
fn listed(schema: &Members) -> Option<Vec<&Value>> {
    ["const", "enum"].into_iter().find(|name| schema.contains_key(*name)).map(|name| list_of(schema, name))
}

fn stated_types(schema: &Members) -> Vec<&str> {
    list_of(schema, "type").into_iter().filter_map(Value::as_str).collect()
}

/// The types that a value may have.
fn types_of(schema: &Members) -> Vec<&str> {
    match listed(schema) {
        Some(values) => values.into_iter().map(type_of).collect(),
        None if schema.contains_key("type") => stated_types(schema),
        None => TYPES.to_vec(),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
