//! Tells the valid records of a source from the others, so that the valid ones can be published without them.

use super::assemble::{self, AssembleError, Chunk, Decoded, Job};
use super::ordered;
use super::unique::{KeyHasher, Seen, Unique};
use crate::core::limits;
use crate::schema::Violation;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

/// The records of a source.
#[derive(Debug)]
pub struct Selection {
    /// All records.
    pub records: u64,
    /// The violations of the invalid ones, by line.
    pub rejected: BTreeMap<u64, Vec<Violation>>,
}

/// A worker's result for one chunk.
struct Worked {
    bytes: usize,
    records: u64,
    rejected: Vec<(u64, Vec<Violation>)>,
    keys: Vec<Seen>,
}

/// Reads chunks from `source` and validates all records. Of records with the same key the first one is valid. Fails if
/// more than [`limits::SKIPPED_MAX`] are invalid.
pub fn select(
    job: &Job<'_>,
    mut source: impl FnMut() -> io::Result<Option<Chunk>> + Send,
) -> Result<Selection, AssembleError> {
    let (hasher, mut unique) = (KeyHasher::default(), Unique::new(job.scratch));
    let mut found = Selection { records: 0, rejected: BTreeMap::new() };
    let worker = || {
        let (mut tape, mut buffer) = (job.validator.tape(), Vec::new());
        let (hasher, validator) = (hasher.clone(), job.validator);
        Ok(move |chunk: Chunk| {
            let (mut records, mut rejected, mut keys) = (0, Vec::new(), Vec::new());
            let mut record = |record: Decoded<'_>| {
                records += 1;
                let line = record.line;
                let violations = assemble::check_whole(&mut tape, record, validator, &mut buffer);
                if !violations.is_empty() {
                    rejected.push((line, violations));
                } else if !validator.key().is_empty() {
                    keys.push(hasher.seen(&tape, validator.key(), line, &mut buffer));
                }
            };
            job.decoder.decode(&chunk, &mut record);
            Worked { bytes: chunk.bytes.len(), records, rejected, keys }
        })
    };
    let sink = |worked: Worked| {
        job.progress.fetch_add(worked.bytes as u64, Ordering::Relaxed);
        found.records += worked.records;
        found.rejected.extend(worked.rejected);
        unique.add(&worked.keys).map_err(AssembleError::Sink)?;
        few(found.rejected.len())
    };
    ordered::run(job.threads, || source().map_err(AssembleError::Source), worker, sink)?;
    let most = limits::SKIPPED_MAX + 1;
    let (_, repeated) = unique.finish(most, &|| false).map_err(AssembleError::Sink)?;
    for one in repeated {
        found.rejected.insert(one.at, vec![job.validator.repeats(&format!("line {}", one.first))]);
    }
    few(found.rejected.len())?;
    if found.records == 0 { Err(AssembleError::Empty) } else { Ok(found) }
}

fn few(rejected: usize) -> Result<(), AssembleError> {
    match rejected > limits::SKIPPED_MAX {
        true => Err(AssembleError::TooLarge("more records are invalid than can be left out; mend the file")),
        false => Ok(()),
    }
}
