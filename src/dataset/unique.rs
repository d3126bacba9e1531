//! Finds records with the same key in bounded memory: digests of the keys are sorted, in parts that go to temporary
//! files, and merged at the end.

use crate::core::json::Tape;
use crate::core::limits;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

/// A temporary file.
pub trait Temporary: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> Temporary for T {}

/// Makes temporary files.
pub type Scratch<'a> = dyn Fn() -> io::Result<Box<dyn Temporary>> + Sync + 'a;

/// Temporary files in memory.
pub fn in_memory() -> io::Result<Box<dyn Temporary>> {
    Ok(Box::new(io::Cursor::new(Vec::new())))
}

/// A key's digest (128 bits) and where its record is: a line of a file, or a record's number.
pub type Seen = (u64, u64, u64);

const SEEN_BYTES: usize = 24;
/// Keys merged between two looks whether to stop.
const STOP_CHECK_KEYS: u64 = 1 << 16;

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
    scratch: &'a Scratch<'a>,
    in_memory_max: usize,
    seen: Vec<Seen>,
    parts: Vec<BufReader<Box<dyn Temporary>>>,
    early: Option<Repeated>,
}

impl<'a> Unique<'a> {
    /// No keys. `scratch` is called when they need more memory than [`limits::KEYS_IN_MEMORY_MAX`] of them.
    pub fn new(scratch: &'a Scratch<'a>) -> Self {
        Self { scratch, in_memory_max: limits::KEYS_IN_MEMORY_MAX, seen: Vec::new(), parts: Vec::new(), early: None }
    }

    /// Adds keys.
    pub fn add(&mut self, seen: &[Seen]) -> io::Result<()> {
        self.seen.extend_from_slice(seen);
        if self.seen.len() < self.in_memory_max {
            return Ok(());
        }
        self.seen.sort_unstable();
        let same = |pair: &&[Seen]| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1);
        let repeated = self.seen.windows(2).find(same);
        self.early = self.early.or(repeated.map(|pair| Repeated { at: pair[1].2, first: pair[0].2 }));
        let mut file = BufWriter::new((self.scratch)()?);
        for (high, low, at) in self.seen.drain(..) {
            let all = [high, low, at].map(u64::to_le_bytes);
            file.write_all(all.as_flattened())?;
        }
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.parts.push(BufReader::new(file));
        Ok(())
    }

    /// A repetition that was found before the end, so that who needs no others can stop.
    pub fn early(&self) -> Option<Repeated> {
        self.early
    }

    /// The number of records whose key an earlier one has, and the first `most` of them. Fails if `stopped`.
    pub fn finish(mut self, most: usize, stopped: &dyn Fn() -> bool) -> io::Result<(u64, Vec<Repeated>)> {
        self.seen.sort_unstable();
        let mut rest = self.seen.drain(..);
        let mut heads = BinaryHeap::new();
        for (part, file) in self.parts.iter_mut().enumerate() {
            heads.extend(read(file)?.map(|seen| Reverse((seen, part))));
        }
        let in_memory = self.parts.len();
        heads.extend(rest.next().map(|seen| Reverse((seen, in_memory))));
        let (mut count, mut found) = (0, BinaryHeap::new());
        let mut first: Option<Seen> = None;
        for n in 0u64.. {
            let Some(Reverse((seen, part))) = heads.pop() else { break };
            if n.is_multiple_of(STOP_CHECK_KEYS) && stopped() {
                return Err(io::Error::other("stopped"));
            }
            let next = match self.parts.get_mut(part) {
                Some(file) => read(file)?,
                None => rest.next(),
            };
            heads.extend(next.map(|seen| Reverse((seen, part))));
            match first {
                Some(first) if (first.0, first.1) == (seen.0, seen.1) => {
                    count += 1;
                    found.push(Repeated { at: seen.2, first: first.2 });
                    if found.len() > most {
                        found.pop();
                    }
                }
                _ => first = Some(seen),
            }
        }
        Ok((count, found.into_sorted_vec()))
    }
}

/// The next key of a part; `None` at its end.
fn read(file: &mut impl Read) -> io::Result<Option<Seen>> {
    let mut bytes = [0; SEEN_BYTES];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [high, low, at] = [0, 8, 16].map(|from| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(word)
    });
    Ok(Some((high, low, at)))
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
            let mut unique = Unique { in_memory_max, ..Unique::new(&in_memory) };
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
