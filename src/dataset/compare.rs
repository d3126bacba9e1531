//! Compares two versions of a dataset.

use super::changes::Changes;
use super::open::{OpenError, Package};
use super::sorted::{Scratch, Sorted};
use super::unique::KeyHasher;
use crate::core::json::Tape;
use crate::core::limits;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek};

/// Compares the records of two versions by `key`, in bounded memory. Digests stand for keys and records; they are seeded at
/// random, so that nobody can prepare two with the same one.
pub fn compare<R: Read + Seek + Send>(
    (since, before): (u64, &mut Package<R>),
    after: &mut Package<R>,
    key: &[String],
    scratch: &Scratch<'_>,
) -> Result<Changes, OpenError> {
    let (hasher, records) = (KeyHasher::default(), RandomState::new());
    let mut sorted = Sorted::new(scratch, limits::KEYS_IN_MEMORY_MAX);
    // The last bit tells the versions apart.
    for (side, package) in [(0, before), (1, after)] {
        let (mut tape, mut buffer, mut seen) = (Tape::of_doubles(), Vec::new(), Vec::new());
        package.read(|text| {
            seen.clear();
            for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                tape.parse(line).map_err(io::Error::other)?;
                let digest = records.hash_one(line) & !1 | side;
                seen.push(hasher.seen(&tape, key, digest, &mut buffer));
            }
            sorted.add(&seen, |_| ())
        })?;
    }
    let mut found = Changes { since, ..Changes::default() };
    let mut last: Option<(u64, u64, u64)> = None;
    let single = |found: &mut Changes, (_, _, digest): (u64, u64, u64)| match digest & 1 {
        0 => found.removed += 1,
        _ => found.added += 1,
    };
    sorted
        .merge(&|| false, |seen| match last.take() {
            // A key stands once in each version.
            Some(other) if (other.0, other.1) == (seen.0, seen.1) => {
                found.changed += u64::from(other.2 | 1 != seen.2 | 1)
            }
            Some(other) => {
                single(&mut found, other);
                last = Some(seen);
            }
            None => last = Some(seen),
        })
        .map_err(OpenError::Sink)?;
    if let Some(other) = last {
        single(&mut found, other);
    }
    Ok(found)
}
