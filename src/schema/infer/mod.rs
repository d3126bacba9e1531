//! From records to a schema: what a file shows of its fields, as a proposal that people complete.
//!
//! No value of the file gets into the proposal, except the values of a field that has only a few.

mod field;
mod names;
mod proposal;

pub use proposal::{Proposal, Question};

use crate::core::json::{Kind, Node, Tape, number};
use crate::core::limits;
use field::Field;
pub use field::Spelling;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// What is known of a file's records.
pub struct Sketch {
    /// How values are to be read that are all text, as in a CSV file.
    cells: Option<Box<dyn Spelling>>,
    records: u64,
    /// In the order in which they were first seen.
    fields: Vec<(String, Field)>,
    keys: Keys,
    /// Lines whose numbers no field can hold.
    impossible: Vec<(u64, String)>,
}

impl Sketch {
    /// An empty sketch of records with these columns, whose values are all text.
    pub fn of_columns(names: &[String], cells: Box<dyn Spelling>) -> Self {
        let fields = names.iter().map(|name| (name.clone(), Field::default())).collect();
        Self { cells: Some(cells), fields, ..Self::of_objects() }
    }

    /// An empty sketch of JSON objects.
    pub fn of_objects() -> Self {
        Self { cells: None, records: 0, fields: Vec::new(), keys: Keys::default(), impossible: Vec::new() }
    }

    /// Adds the record on `tape`, which stands on this line.
    pub fn add(&mut self, tape: &Tape, line: u64) {
        self.records += 1;
        let mut next = 0;
        for (name, value) in tape.root().members() {
            if let Some(reason) =
                field::impossible(tape, value).filter(|_| self.impossible.len() <= limits::VIOLATIONS_RECORD_MAX)
            {
                self.impossible.push((line, format!("{name}: {reason}")));
            }
            let Some(at) = self.position(name, next) else { continue };
            self.fields[at].1.add(tape, value, self.cells.as_deref(), 0);
            next = at + 1;
        }
        self.keys.add(&self.fields, tape.root(), self.cells.as_deref());
    }

    /// The index of a field, which is added if it is new. Records mostly have their fields in the same order.
    fn position(&mut self, name: &str, next: usize) -> Option<usize> {
        if self.fields.get(next).is_some_and(|(known, _)| known == name) {
            return Some(next);
        }
        let known = self.fields.iter().position(|(known, _)| known == name);
        known.or_else(|| {
            let room = self.fields.len() < limits::INFERRED_FIELDS_MAX;
            room.then(|| self.fields.push((name.to_owned(), Field::default())))?;
            Some(self.fields.len() - 1)
        })
    }

    /// The number of records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Lines with numbers that no schema can describe, and why.
    pub fn impossible(&self) -> &[(u64, String)] {
        &self.impossible
    }
}

/// Which fields, or first fields together, tell one record from another.
#[derive(Default)]
struct Keys {
    hasher: RandomState,
    seen: u64,
    /// By field: the values so far; `None` after two records had the same.
    single: Vec<Option<HashSet<u64>>>,
    /// By number of first fields, from two.
    first: Vec<Option<HashSet<u64>>>,
}

/// Most first fields that are tried together.
const FIRST_MAX: usize = 4;

impl Keys {
    fn add(&mut self, fields: &[(String, Field)], record: Node<'_>, cells: Option<&dyn Spelling>) {
        let mut buffer = Vec::new();
        let mut together = Vec::new();
        let value = |name: &str| record.members().find(|(member, _)| *member == name).map(|(_, value)| value);
        for (n, (name, _)) in fields.iter().enumerate() {
            if n >= self.single.len() {
                // A field that appears late is missing in the records before it.
                self.single.push((self.seen == 0).then(HashSet::new));
            }
            buffer.clear();
            match value(name) {
                Some(cell)
                    if cell.kind() == Kind::String && cells.is_some_and(|cells| cells.is_missing(cell.text())) => {}
                // A number or truth value in a cell is one however it is written.
                Some(cell) if cell.kind() == Kind::String => {
                    let text = cells.and_then(|cells| cells.number(cell.text())).unwrap_or(cell.text().to_owned());
                    let plain = number::canonical(&text).unwrap_or_else(|_| text.to_ascii_lowercase());
                    buffer.extend_from_slice(plain.as_bytes());
                    buffer.push(b'"');
                }
                Some(value) => value.write_canonical(&mut buffer),
                None => {}
            }
            let is_missing = buffer.is_empty() || !fields[n].1.may_be_part_of_key();
            count(&mut self.single[n], self.hasher.hash_one(&buffer), is_missing);
            if n < FIRST_MAX {
                together.extend_from_slice(&buffer);
                together.push(0);
            }
            if (1..FIRST_MAX).contains(&n) {
                if n > self.first.len() {
                    self.first.push((self.seen == 0).then(HashSet::new));
                }
                count(&mut self.first[n - 1], self.hasher.hash_one(&together), false);
            }
        }
        self.seen += 1;
        if self.seen.is_multiple_of(1_024) {
            self.make_room();
        }
    }

    /// Gives up the last ones, if all together are too many.
    fn make_room(&mut self) {
        let mut room = limits::INFERRED_KEYS_MAX;
        for values in self.first.iter_mut().chain(&mut self.single) {
            let size = values.as_ref().map_or(0, HashSet::len);
            match room.checked_sub(size) {
                Some(rest) => room = rest,
                None => *values = None,
            }
        }
    }

    /// The fields that tell the records apart: one that is called an identifier, one that is a text or a time, or else the
    /// first ones together. Other whole numbers are mostly measurements.
    fn key(&self, fields: &[(String, Field)]) -> Vec<String> {
        let alone = |n: &usize| self.single[*n].is_some() && fields[*n].1.may_be_key();
        let candidates: Vec<usize> = (0..self.single.len()).filter(alone).collect();
        let named = candidates.iter().find(|n| names::is_identifier(&fields[**n].0));
        let other = || candidates.iter().find(|n| fields[**n].1.is_text() || names::is_time(&fields[**n].0));
        if let Some(n) = named.or_else(other) {
            return vec![fields[*n].0.clone()];
        }
        let together = self.first.iter().position(Option::is_some).map_or(0, |n| n + 2);
        let together = &fields[..together.min(fields.len())];
        let good = together.iter().all(|(_, field)| field.may_be_part_of_key());
        together.iter().filter(|_| good).map(|(name, _)| name.clone()).collect()
    }
}

fn count(values: &mut Option<HashSet<u64>>, value: u64, is_missing: bool) {
    if values.as_mut().is_some_and(|known| is_missing || !known.insert(value)) {
        *values = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            (-1e6f64..1e6).prop_map(Value::from),
            prop_oneof![Just(0.1), Just(1e300), Just(-5e-324)].prop_map(Value::from),
            "[ab\\u{e9}\\u{1f600}\\u{200b} ]{0,3}".prop_map(Value::from),
            prop::sample::select(vec![
                "2024-02-29",
                "2024-Q1",
                "2024",
                "CN",
                "CN-BJ",
                "CNY",
                "2024-02-29T10:00:00Z",
                "http://a.example/b",
                "https://例子.中国/",
                "::1",
                "127.0.0.1",
                "91110108551385082Q",
                "7H6GLXDRUGQFU57RNE97",
                "",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[abc]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_record() -> impl Strategy<Value = Map<String, Value>> {
        let name = prop::sample::select(vec!["id", "country", "x", "a b", "企业名称", "价格", "~/"]);
        prop::collection::btree_map(name, any_value(), 0..6)
            .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    proptest! {
        /// The proposal is a schema, and every record is valid under it.
        #[test]
        fn what_was_seen_is_valid(records in prop::collection::vec(any_record(), 1..12)) {
            let (mut sketch, mut tape) = (Sketch::of_objects(), Tape::of_doubles());
            for (n, record) in records.iter().enumerate() {
                tape.parse(&serde_json::to_vec(record).unwrap()).unwrap();
                sketch.add(&tape, n as u64 + 1);
            }
            let proposal = sketch.proposal("urn:test:x", "X");
            let schema = Schema::parse(proposal.text.as_bytes());
            prop_assert!(schema.is_ok(), "{:?} {}", schema.err(), proposal.text);
            let schema = schema.unwrap();
            let validator = schema.validator().unwrap();
            let (mut tape, mut keys) = (validator.tape(), HashSet::new());
            for record in &records {
                tape.parse(&serde_json::to_vec(record).unwrap()).unwrap();
                prop_assert_eq!(validator.validate(&tape), [], "{} {}", json!(record), proposal.text);
                let key: Vec<Option<&Value>> = validator.key().iter().map(|name| record.get(name)).collect();
                prop_assert!(key.is_empty() || keys.insert(json!(key).to_string()), "{} {}", json!(record), proposal.text);
            }
        }
    }
}
