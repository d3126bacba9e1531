//! Finds records with the same key in bounded memory: digests of the keys are sorted.

use super::sorted::Sorted;
pub use super::sorted::{Scratch, Seen, Temporary, in_memory};
use crate::core::json::Tape;
use crate::core::limits;
use std::collections::BinaryHeap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;

/// Computes digests of keys. They are seeded at random, so that nobody can prepare keys with the same one.
#[derive(Clone, Default)]
pub struct KeyHasher(RandomState, RandomState);

impl KeyHasher {
    /// The key of the record on `tape`. A field that is missing is part of the key.
    pub fn seen(&self, tape: &Tape, key: &[String], at: u64, buffer: &mut Vec<u8>) -> Seen {
        buffer.clear();
        for name in key {
            if let Some((_, value)) = tape.root().members().find(|(member, _)| member == name) {
                value.write_canonical(buffer);
            }
            // No JSON text contains this byte.
            buffer.push(0);
        }
        (self.0.hash_one(&buffer), self.1.hash_one(&buffer), at)
    }
}

/// A record whose key an earlier record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repeated {
    /// Where the record is.
    pub at: u64,
    /// Where the first record with this key is.
    pub first: u64,
}

/// The keys seen so far.
pub struct Unique<'a> {
    keys: Sorted<'a>,
    early: Option<Repeated>,
}

impl<'a> Unique<'a> {
    /// No keys. `scratch` is called when they need more memory than [`limits::KEYS_IN_MEMORY_MAX`] of them.
    pub fn new(scratch: &'a Scratch<'a>) -> Self {
        Self { keys: Sorted::new(scratch, limits::KEYS_IN_MEMORY_MAX), early: None }
    }

    /// Adds keys.
    pub fn add(&mut self, seen: &[Seen]) -> io::Result<()> {
        let same = |pair: &&[Seen]| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1);
        let early = &mut self.early;
        self.keys.add(seen, |part| {
            let repeated = part.windows(2).find(same);
            *early = early.or(repeated.map(|pair| Repeated { at: pair[1].2, first: pair[0].2 }));
        })
    }

    /// A repetition that was found before the end, so that who needs no others can stop.
    pub fn early(&self) -> Option<Repeated> {
        self.early
    }

    /// The number of records whose key an earlier one has, and the first `most` of them. Fails if `stopped`.
    pub fn finish(self, most: usize, stopped: &dyn Fn() -> bool) -> io::Result<(u64, Vec<Repeated>)> {
        let (mut count, mut found) = (0, BinaryHeap::new());
        let mut first: Option<Seen> = None;
        self.keys.merge(stopped, |seen| match first {
            Some(first) if (first.0, first.1) == (seen.0, seen.1) => {
                count += 1;
                found.push(Repeated { at: seen.2, first: first.2 });
                if found.len() > most {
                    found.pop();
                }
            }
            _ => first = Some(seen),
        })?;
        Ok((count, found.into_sorted_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// In any number of parts, the same repetitions are found as by a map.
        #[test]
        fn as_by_a_map(keys in prop::collection::vec(0u8..40, 0..120), in_memory_max in 1usize..50, most in 0usize..10) {
            let hasher = KeyHasher::default();
            let mut unique = Unique { keys: Sorted::new(&in_memory, in_memory_max), early: None };
            let (mut known, mut expected) = (HashMap::new(), Vec::new());
            for (at, key) in keys.iter().enumerate() {
                let (at, mut tape) = (at as u64, Tape::default());
                tape.parse(format!("{{\"other\":{at},\"id\":{key}}}").as_bytes()).unwrap();
                unique.add(&[hasher.seen(&tape, &["id".into()], at, &mut Vec::new())]).unwrap();
                match known.get(key) {
                    Some(first) => expected.push(Repeated { at, first: *first }),
                    None => drop(known.insert(*key, at)),
                }
            }
            let (count, found) = unique.finish(most, &|| false).unwrap();
            prop_assert_eq!(count as usize, expected.len());
            prop_assert_eq!(found, expected.into_iter().take(most).collect::<Vec<_>>());
        }
    }
}
