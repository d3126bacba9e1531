//! An upper bound of the work that a record causes: a short schema can ask for the same value to be checked 2^40 times.

use super::SchemaError;
use crate::core::{json, limits};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Keywords whose schemas check the same value again.
const IN_PLACE: &[&str] = &["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Keywords whose schemas check items: each item by one of these.
const ITEM: &[&str] = &["items", "prefixItems"];
/// Keywords whose schemas check any item besides.
const ANY_ITEM: &[&str] = &["contains", "unevaluatedItems"];
/// Keywords whose schemas check any member besides.
const ANY_MEMBER: &[&str] = &["patternProperties", "propertyNames", "unevaluatedProperties"];

/// Fails if a record could cause more than [`limits::SCHEMA_COST_MAX`] checks on the way to one of its values, or without
/// an end.
pub fn check(schema: &Value) -> Result<(), SchemaError> {
    let count = || {
        let mut counting = Counting { root: schema, known: HashMap::new(), open: Vec::new(), steps: 0 };
        counting.work(schema, "", limits::JSON_DEPTH_MAX)
    };
    // The recursion is bounded by two depths, of the record and of references within each level.
    let counted = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, count);
        thread.ok().and_then(|thread| thread.join().ok())
    });
    let work = counted.unwrap_or_else(|| {
        let problem = "it could not be examined: there is no memory for a thread".into();
        Err(SchemaError::Invalid { pointer: String::new(), problem })
    })?;
    if work.checks > limits::SCHEMA_COST_MAX || work.below() > limits::SCHEMA_COST_MAX {
        let problem = format!(
            "its references and combinations ask for more than {} checks of one value",
            limits::SCHEMA_COST_MAX
        );
        return Err(SchemaError::Invalid { pointer: String::new(), problem });
    }
    Ok(())
}

/// Enough for the deepest recursion, several times.
const STACK_BYTES: usize = 64 << 20;

/// Checks of a value and of what is in it.
#[derive(Clone, Default)]
struct Work {
    /// Of the value itself.
    checks: u64,
    /// Of an item and of what is in it.
    item: u64,
    /// Of the members with these names, and of what is in them.
    named: BTreeMap<String, u64>,
    /// Of another member and of what is in it.
    other: u64,
}

impl Work {
    fn add(&mut self, added: &Self) {
        self.checks = self.checks.saturating_add(added.checks);
        self.item = self.item.saturating_add(added.item);
        for name in added.named.keys() {
            self.named.entry(name.clone()).or_insert(self.other);
        }
        for (name, checks) in &mut self.named {
            *checks = checks.saturating_add(*added.named.get(name).unwrap_or(&added.other));
        }
        self.other = self.other.saturating_add(added.other);
    }

    /// The most checks on the way to a value in this one.
    fn below(&self) -> u64 {
        self.named.values().copied().chain([self.item, self.other]).max().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.checks.saturating_add(self.below())
    }
}

struct Counting<'a> {
    root: &'a Value,
    known: HashMap<(*const Value, usize), Work>,
    /// Schemas that check the same value, one within the other.
    open: Vec<*const Value>,
    /// Additions so far.
    steps: usize,
}

impl<'a> Counting<'a> {
    /// The work of a schema for a value that contains `depth` more levels.
    fn work(&mut self, schema: &'a Value, pointer: &str, depth: usize) -> Result<Work, SchemaError> {
        let Some(members) = schema.as_object().filter(|_| depth > 0) else {
            return Ok(Work { checks: 1, ..Work::default() });
        };
        let name = (std::ptr::from_ref(schema), depth);
        if let Some(known) = self.known.get(&name) {
            return Ok(known.clone());
        }
        let invalid =
            |problem: &str| Err(SchemaError::Invalid { pointer: pointer.to_owned(), problem: problem.into() });
        if self.open.contains(&name.0) {
            return invalid("refers to itself without an end");
        }
        if self.open.len() >= limits::JSON_DEPTH_MAX {
            return invalid("refers through too many schemas");
        }
        self.open.push(name.0);
        // Lists and objects are compared one by one.
        let listed = members.get("enum").and_then(Value::as_array).into_iter().flatten();
        let nested = listed.filter(|value| value.is_array() || value.is_object()).count() as u64;
        let mut work = Work { checks: 1 + nested, ..Work::default() };
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|target| self.root.pointer(target));
            let Some(target) = target else { return invalid(&format!("`{reference}` refers to nothing")) };
            let added = self.work(target, pointer, depth)?;
            self.add(&mut work, &added)?;
        }
        for (keyword, part, at) in parts(members, IN_PLACE) {
            let added = self.work(part, &format!("{pointer}/{keyword}{at}"), depth)?;
            self.add(&mut work, &added)?;
        }
        // What checks the members begins anew: it may contain this schema.
        let open = std::mem::take(&mut self.open);
        let below = self.contents(members, pointer, depth - 1)?;
        self.add(&mut work, &below)?;
        self.open = open;
        self.open.pop();
        self.known.insert(name, work.clone());
        Ok(work)
    }

    fn add(&mut self, work: &mut Work, added: &Work) -> Result<(), SchemaError> {
        self.steps += 1 + added.named.len() + work.named.len();
        if self.steps > limits::SCHEMA_STEPS_MAX {
            let problem = "its references are too many to be followed".into();
            return Err(SchemaError::Invalid { pointer: String::new(), problem });
        }
        work.add(added);
        Ok(())
    }

    /// The work for what is in a value.
    fn contents(&mut self, members: &'a Map<String, Value>, pointer: &str, depth: usize) -> Result<Work, SchemaError> {
        let mut all = |keywords: &'static [&'static str]| -> Result<Vec<u64>, SchemaError> {
            let parts = parts(members, keywords).into_iter();
            parts
                .map(|(keyword, part, at)| Ok(self.work(part, &format!("{pointer}/{keyword}{at}"), depth)?.total()))
                .collect()
        };
        let sum = |all: Vec<u64>| all.into_iter().fold(0, u64::saturating_add);
        let largest = |all: Vec<u64>| all.into_iter().max().unwrap_or(0);
        let item = largest(all(ITEM)?).saturating_add(sum(all(ANY_ITEM)?));
        let any = sum(all(ANY_MEMBER)?);
        let other = sum(all(&["additionalProperties"])?).saturating_add(any);
        let mut named = BTreeMap::new();
        for (name, part) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let pointer = format!("{pointer}/properties{}", json::pointer_part(name));
            named.insert(name.clone(), self.work(part, &pointer, depth)?.total().saturating_add(any));
        }
        Ok(Work { checks: 0, item, named, other })
    }
}

/// The schemas of these keywords, with their keyword and place.
fn parts<'a>(
    members: &'a Map<String, Value>,
    keywords: &'static [&'static str],
) -> Vec<(&'static str, &'a Value, String)> {
    let mut found = Vec::new();
    for keyword in keywords {
        match members.get(*keyword) {
            Some(Value::Array(list)) => {
                found.extend(list.iter().enumerate().map(|(n, part)| (*keyword, part, format!("/{n}"))));
            }
            Some(Value::Object(parts)) if ["patternProperties", "dependentSchemas"].contains(keyword) => {
                found.extend(parts.iter().map(|(name, part)| (*keyword, part, json::pointer_part(name))));
            }
            Some(part) => found.push((*keyword, part, String::new())),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn work_without_measure_is_refused() {
        let doubling = |place: fn(Value) -> Value| {
            let mut definitions = json!({"d20": {"type": "object"}});
            for n in 0..20 {
                let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
                definitions[format!("d{n}")] = place(json!({"allOf": [next, next]}));
            }
            json!({"$ref": "#/$defs/d0", "$defs": definitions})
        };
        let mut chain = json!({"$ref": "#/$defs/d0", "$defs": {"d10000": true}});
        for n in 0..10_000 {
            chain["$defs"][format!("d{n}")] = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        }
        let wide: Map<String, Value> = (0..10_000).map(|n| (format!("p{n}"), json!({"$ref": "#"}))).collect();
        for (schema, part) in [
            (json!({"$ref": "#"}), "without an end"),
            (json!({"allOf": [{"$ref": "#"}]}), "without an end"),
            (
                json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
                "without an end",
            ),
            (json!({"$ref": "#/$defs/none"}), "refers to nothing"),
            (json!({"properties": {"a": {"$ref": "#x"}}}), "refers to nothing"),
            (chain, "too many schemas"),
            (json!({"properties": wide}), "too many to be followed"),
            (doubling(|inner| inner), "more than"),
            (doubling(|inner| json!({"properties": {"a": inner}})), "more than"),
            (doubling(|inner| json!({"items": inner})), "more than"),
            (
                json!({"$defs": {"t": {"properties": {"a": {"allOf": [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/t"}]}}}}, "$ref": "#/$defs/t"}),
                "more than",
            ),
        ] {
            let error = check(&schema).unwrap_err().to_string();
            assert!(error.contains(part), "{schema}: {error}");
        }
        let many: Map<String, Value> = (0..9_000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
        for schema in [
            json!({"properties": many}),
            json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}),
            json!({"items": {"$ref": "#"}, "properties": {"next": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}}),
            json!(true),
        ] {
            check(&schema).unwrap();
        }
        crate::schema::built_in().iter().for_each(|schema| check(schema.value()).unwrap());
    }
}
