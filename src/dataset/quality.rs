//! What a dataset's records have in their fields: how many, how many different ones, the smallest and largest. Counted
//! while the records are validated, at the publisher and again at the consumer. FORMATS.md, "Quality".

use super::registers::Registers;
use crate::core::json::{Kind, Node, Tape};
use crate::core::limits;
use crate::schema::Schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};
use xxhash_rust::xxh3::{xxh3_64 as hash, xxh3_64_with_seed as hash_with};

/// How much of the quality is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Nothing but the number of skipped records.
    None,
    /// Counts.
    #[default]
    Counts,
    /// Counts, and the smallest and largest number and date of each field.
    Bounds,
}

/// The quality of a dataset version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Records of the publisher's file that are left out because they are invalid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Fields in the order of the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldQuality>,
}

impl Quality {
    /// Whether it has no more fields, and no longer texts, than a catalog shows.
    pub fn is_short(&self) -> bool {
        let bound = |bound: &Option<Value>| match bound {
            None | Some(Value::Number(_)) => true,
            Some(Value::String(text)) => text.len() <= limits::TEXT_CHARS_MAX,
            Some(_) => false,
        };
        let short = |field: &FieldQuality| {
            field.field.len() <= limits::TEXT_CHARS_MAX && bound(&field.min) && bound(&field.max)
        };
        self.fields.len() <= limits::QUALITY_FIELDS_MAX && self.fields.iter().all(short)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The quality of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldQuality {
    /// Name of the property.
    pub field: String,
    /// Records in which it has a value other than null.
    pub present: u64,
    /// Different values.
    pub distinct: u64,
    /// Whether `distinct` is an estimate: within 5 percent, as a rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Smallest number, or earliest date or time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// Largest number, or latest date or time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The fields that are counted.
#[derive(Debug, Clone)]
pub struct Plan {
    fields: Vec<(String, Ordered)>,
    detail: Detail,
}

/// Whether the values of a field have an order that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ordered {
    Not,
    AsNumbers,
    /// Dates and times whose texts sort as they do.
    AsTexts,
}

impl Plan {
    /// The properties of a schema, at most [`limits::QUALITY_FIELDS_MAX`], in this detail.
    pub fn of(schema: &Schema, detail: Detail) -> Self {
        let names = schema.columns().into_iter().map(|(name, _)| name);
        Self::of_names(schema, names, detail)
    }

    /// The fields of which a manifest states something.
    pub fn stated(schema: &Schema, quality: &Quality) -> Self {
        Self::of_names(schema, quality.fields.iter().map(|field| field.field.as_str()), Detail::Bounds)
    }

    fn of_names<'a>(schema: &Schema, names: impl Iterator<Item = &'a str>, detail: Detail) -> Self {
        let ordered = |name: &str| {
            if detail != Detail::Bounds {
                return Ordered::Not;
            }
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let stated = |keyword: &str| schema.keyword(&pointer, keyword).and_then(Value::as_str);
            match (stated("type"), stated("format")) {
                (Some("number" | "integer"), _) => Ordered::AsNumbers,
                (_, Some("date" | "period")) => Ordered::AsTexts,
                _ => Ordered::Not,
            }
        };
        let most = if detail == Detail::None { 0 } else { limits::QUALITY_FIELDS_MAX };
        Self { fields: names.take(most).map(|name| (name.to_owned(), ordered(name))).collect(), detail }
    }

    /// Nothing is counted.
    pub fn nothing() -> Self {
        Self { fields: Vec::new(), detail: Detail::None }
    }

    /// An empty tally.
    pub fn tally(&self) -> Tally {
        Tally { counts: self.fields.iter().map(|_| Count::default()).collect(), shape: None, fields: Vec::new() }
    }
}

/// The tallies of several workers. Their sum does not depend on who counted what.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<Vec<Tally>>);

impl Tallies {
    /// A tally that is added when it is dropped.
    pub fn one<'a>(&'a self, plan: &Plan) -> Counting<'a> {
        Counting { tally: Some(plan.tally()), to: self }
    }

    /// The sum.
    pub fn sum(self, plan: &Plan) -> Tally {
        let mut sum = plan.tally();
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().for_each(|tally| sum.merge(tally));
        sum
    }
}

/// A worker's tally.
pub struct Counting<'a> {
    tally: Option<Tally>,
    to: &'a Tallies,
}

impl Counting<'_> {
    /// Adds the record on `tape`.
    pub fn add(&mut self, plan: &Plan, tape: &Tape, buffer: &mut Vec<u8>) {
        if let Some(tally) = &mut self.tally {
            tally.add(plan, tape, buffer);
        }
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.to.0.lock().unwrap_or_else(PoisonError::into_inner).extend(self.tally.take());
    }
}

/// Counts of the fields of a plan.
#[derive(Debug)]
pub struct Tally {
    counts: Vec<Count>,
    /// The shape of the last record, and the field of each of its members.
    shape: Option<u64>,
    fields: Vec<Option<usize>>,
}

impl Tally {
    /// Adds the record on `tape`.
    pub fn add(&mut self, plan: &Plan, tape: &Tape, buffer: &mut Vec<u8>) {
        if plan.fields.is_empty() {
            return;
        }
        if self.shape.is_none() || self.shape != tape.shape() {
            self.learn(plan, tape);
        }
        for (at, value) in self.fields.iter().zip(tape.root().values()) {
            if let Some(at) = *at
                && value.kind() != Kind::Null
            {
                self.counts[at].add(value, plan.fields[at].1, buffer);
            }
        }
    }

    /// Finds the field of each member.
    fn learn(&mut self, plan: &Plan, tape: &Tape) {
        let mut last = std::mem::take(&mut self.fields).into_iter();
        let field = |(name, _): (&str, Node<'_>)| {
            // Mostly the one of the last record.
            let same = last.next().flatten().filter(|at| plan.fields[*at].0 == name);
            same.or_else(|| plan.fields.iter().position(|(planned, _)| planned == name))
        };
        self.fields = tape.root().members().map(field).collect();
        self.shape = tape.shape();
    }

    /// Adds the counts of other records of the same plan.
    pub fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(into, from)| into.merge(from));
    }

    /// The quality of the fields.
    pub fn finish(self, plan: &Plan) -> Vec<FieldQuality> {
        let of = |((name, _), count): (&(String, Ordered), Count)| count.finish(name, plan.detail == Detail::Bounds);
        plan.fields.iter().zip(self.counts).map(of).collect()
    }
}

/// The first field of which the manifest states something else than was found, in words.
pub fn difference(stated: &[FieldQuality], found: &[FieldQuality]) -> Option<(String, String)> {
    let same = |one: &FieldQuality, other: &FieldQuality| {
        let near = one.distinct.abs_diff(other.distinct) <= if one.estimated { other.distinct / 20 } else { 0 };
        let bound = |one: &Option<Value>, other: &Option<Value>| one.is_none() || number(one) == number(other);
        let whole = one.min.is_some() == one.max.is_some() && one.estimated == other.estimated;
        one.present == other.present && whole && near && bound(&one.min, &other.min) && bound(&one.max, &other.max)
    };
    let words = |one: Option<&FieldQuality>| match one {
        Some(one) => serde_json::to_string(one).unwrap_or_default(),
        None => "nothing".to_owned(),
    };
    let mut seen = HashSet::new();
    stated.iter().find_map(|one| {
        let other = found.iter().find(|other| other.field == one.field);
        let good = seen.insert(&one.field) && other.is_some_and(|other| same(one, other));
        (!good).then(|| (words(Some(one)), words(other)))
    })
}

/// A bound in a form in which equal numbers are equal.
fn number(bound: &Option<Value>) -> Option<String> {
    let bound = bound.as_ref()?;
    Some(bound.as_f64().map_or_else(|| bound.to_string(), |number| number.to_string()))
}

/// Different values that are counted one by one; beyond, their number is estimated.
const EXACT_MAX: usize = 256;
/// The values as 64-bit hashes (XXH3), and an estimate of their number after they outgrow a set.
#[derive(Debug, Default)]
struct Count {
    present: u64,
    last: Option<u64>,
    few: HashSet<u64, BuildHasherDefault<Same>>,
    registers: Option<Registers>,
    numbers: Option<(f64, f64)>,
    texts: Option<(String, String)>,
}

/// The values of the set are hashes already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are written");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Count {
    fn add(&mut self, value: Node<'_>, ordered: Ordered, buffer: &mut Vec<u8>) {
        self.present += 1;
        let hash = hash_of(value, buffer);
        // Many fields have one value in many records.
        if self.last.replace(hash) == Some(hash) {
            return;
        }
        self.add_hash(hash);
        match (ordered, value.kind()) {
            (Ordered::AsNumbers, Kind::Number) => {
                let number: f64 = value.text().parse().unwrap_or_default();
                let (low, high) = self.numbers.unwrap_or((number, number));
                self.numbers = Some((low.min(number), high.max(number)));
            }
            (Ordered::AsTexts, Kind::String) => self.add_text(value.text()),
            _ => {}
        }
    }

    fn add_text(&mut self, text: &str) {
        match &mut self.texts {
            None => self.texts = Some((text.to_owned(), text.to_owned())),
            Some((low, _)) if text < low.as_str() => text.clone_into(low),
            Some((_, high)) if text > high.as_str() => text.clone_into(high),
            Some(_) => {}
        }
    }

    fn add_hash(&mut self, hash: u64) {
        match &mut self.registers {
            Some(registers) => registers.add(hash),
            None => {
                self.few.insert(hash);
                if self.few.len() > EXACT_MAX {
                    self.estimate();
                }
            }
        }
    }

    /// Goes on with an estimate.
    fn estimate(&mut self) -> &mut Registers {
        let few = std::mem::take(&mut self.few);
        let registers = self.registers.get_or_insert_default();
        few.into_iter().for_each(|hash| registers.add(hash));
        registers
    }

    fn merge(&mut self, other: Self) {
        self.present += other.present;
        match other.registers {
            Some(others) => {
                self.estimate().merge(&others);
            }
            None => other.few.into_iter().for_each(|hash| self.add_hash(hash)),
        }
        if let Some((low, high)) = other.numbers {
            let (own_low, own_high) = self.numbers.unwrap_or((low, high));
            self.numbers = Some((own_low.min(low), own_high.max(high)));
        }
        if let Some((low, high)) = other.texts {
            self.add_text(&low);
            self.add_text(&high);
        }
    }

    fn finish(self, name: &str, with_bounds: bool) -> FieldQuality {
        let number = |value: f64| match value.fract() == 0.0 && value.abs() < 1e15 {
            true => Value::from(value as i64),
            false => Value::from(value),
        };
        let numbers = self.numbers.map(|(low, high)| (number(low), number(high)));
        let bounds = numbers.or_else(|| self.texts.map(|(low, high)| (low.into(), high.into())));
        let (min, max) = bounds.filter(|_| with_bounds).unzip();
        let (distinct, estimated) = match &self.registers {
            Some(registers) => (registers.estimate().min(self.present as f64) as u64, true),
            None => (self.few.len() as u64, false),
        };
        FieldQuality { field: name.to_owned(), present: self.present, distinct, estimated, min, max }
    }
}

/// Equal values have equal hashes. FORMATS.md, "Quality".
fn hash_of(value: Node<'_>, buffer: &mut Vec<u8>) -> u64 {
    match value.kind() {
        Kind::String => hash(value.text().as_bytes()),
        Kind::Number => hash(value.text().as_bytes()) ^ 1,
        Kind::Array => value.elements().fold(3, |so_far, item| hash_with(&hash_of(item, buffer).to_le_bytes(), so_far)),
        _ => {
            buffer.clear();
            value.write_canonical(buffer);
            hash(buffer) ^ 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan() -> Plan {
        let fields = [("id", Ordered::Not), ("n", Ordered::AsNumbers), ("at", Ordered::AsTexts)];
        let fields = fields.map(|(name, ordered)| (name.to_owned(), ordered)).to_vec();
        Plan { fields, detail: Detail::Bounds }
    }

    fn count(records: &[String], parts: usize) -> Vec<FieldQuality> {
        let (plan, mut whole) = (plan(), plan().tally());
        for part in records.chunks(records.len().div_ceil(parts).max(1)) {
            let (mut tally, mut tape) = (plan.tally(), Tape::default());
            for record in part {
                tape.parse(record.as_bytes()).unwrap();
                tally.add(&plan, &tape, &mut Vec::new());
            }
            whole.merge(tally);
        }
        whole.finish(&plan)
    }

    #[test]
    fn estimates_are_near() {
        for distinct in [1u64, 10, 256, 257, 5_000, 20_000, 200_000] {
            let records: Vec<String> =
                (0..distinct * 2).map(|n| format!(r#"{{"id":"e-{}","n":{n}}}"#, n % distinct)).collect();
            let found = count(&records, 7);
            let error = found[0].distinct.abs_diff(distinct) as f64 / distinct as f64;
            assert!(error < 0.05 && found[0].estimated == (distinct > 256), "{distinct}: {:?}", found[0]);
            assert!(error == 0.0 || distinct > 256);
            assert_eq!((found[0].present, found[2].present), (distinct * 2, 0));
        }
    }

    #[test]
    fn the_hash_is_fixed() {
        // XXH3_64bits of the empty text and of "a", of the reference implementation 0.8.
        assert_eq!((hash(b""), hash(b"a")), (0x2d06_8005_38d3_94c2, 0xe6c6_32b6_1e96_4e1f));
    }

    proptest! {
        /// The parts of a file are counted to the same result as the whole.
        #[test]
        fn in_any_parts_the_same(
            values in prop::collection::vec((0u32..400, -5i32..5, prop::option::of("20[0-9]{2}-0[1-9]")), 1..600),
            parts in 1usize..9,
        ) {
            let record = |(id, n, at): &(u32, i32, Option<String>)| {
                let at = at.as_ref().map_or_else(|| "null".to_owned(), |at| format!("\"{at}\""));
                // Several shapes, some of the same size.
                match id % 5 {
                    0 => format!(r#"{{"n":{n},"at":{at},"id":{id}}}"#),
                    1 => format!(r#"{{"other":7,"id":{id},"n":{n},"at":{at}}}"#),
                    _ => format!(r#"{{"id":{id},"at":{at},"n":{n}}}"#),
                }
            };
            let records: Vec<String> = values.iter().map(record).collect();
            let found = count(&records, parts);
            prop_assert_eq!(&found, &count(&records, 1));
            let ids: HashSet<u32> = values.iter().map(|(id, ..)| *id).collect();
            prop_assert!(found[0].estimated || found[0].distinct == ids.len() as u64);
            prop_assert_eq!(&found[1].min, &values.iter().map(|(_, n, _)| Value::from(*n)).min_by_key(|n| n.as_i64()));
            prop_assert_eq!(&found[2].max, &values.iter().filter_map(|(_, _, at)| at.clone()).max().map(Value::from));
            prop_assert_eq!(difference(&found, &found), None);
            let mut other = found.clone();
            other[1].present += 1;
            prop_assert!(difference(&other, &found).is_some());
        }
    }
}
