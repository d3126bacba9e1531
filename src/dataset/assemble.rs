//! Publishing: turns chunks of text into a sealed container, on all cores and in constant memory.

use super::container::{DataKey, Sealer};
use super::frame::{self, Compressor, Frame};
use super::ordered;
use super::unique::{KeyHasher, Scratch, Seen, Unique};
use crate::core::digest::{Digest, KeyedDigest, KeyedHasher};
use crate::core::json::Tape;
use crate::core::limits;
use crate::schema::{Validator, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Label of the keyed digest of the text in the container.
pub const PLAINTEXT_LABEL: &str = "crosspark/plaintext/v1";
/// Label of the keyed digest of the published file.
pub const SOURCE_LABEL: &str = "crosspark/source/v1";

/// A part of the source that consists of whole records.
pub struct Chunk {
    /// Preceding source bytes outside of records, such as a byte order mark or header; part of the source digest.
    pub head: Vec<u8>,
    /// Line number of the first line, from 1.
    pub first_line: u64,
    /// The records.
    pub bytes: Vec<u8>,
}

/// A decoder of a local file format.
pub trait Decoder: Sync {
    /// Decodes a chunk: calls `record` with the line and JSON text of each record, and `broken` for malformed ones.
    fn decode(&self, chunk: &Chunk, record: &mut dyn FnMut(u64, &[u8]), broken: &mut dyn FnMut(u64, Violation));
}

/// An invalid record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvalidRecord {
    /// Line in the source, from 1.
    pub line: u64,
    /// The violation.
    #[serde(flatten)]
    pub violation: Violation,
}

/// Why a publication is refused: the number of invalid records, and a description of the first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rejection {
    /// All records.
    pub records: u64,
    /// Invalid records.
    pub invalid: u64,
    /// Descriptions of the first invalid records.
    pub first: Vec<InvalidRecord>,
}

/// The result of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Number of records.
    pub records: u64,
    /// Size of the canonical text in bytes.
    pub text_size: u64,
    /// Keyed digest of the canonical text.
    pub text_digest: KeyedDigest,
    /// Keyed digest of the source.
    pub source_digest: KeyedDigest,
    /// Number of frames.
    pub frames: u64,
    /// SHA-256 of the container.
    pub digest: Digest,
    /// Size of the container in bytes.
    pub size: u64,
}

/// Why a publication fails.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Some records are invalid.
    #[error("{} of {} records are invalid", .0.invalid, .0.records)]
    Invalid(Rejection),
    /// There are no records.
    #[error("the file contains no records")]
    Empty,
    /// The source cannot be read, or is not in its format.
    #[error("{0}")]
    Source(io::Error),
    /// The container cannot be written.
    #[error("the sealed container could not be written: {0}")]
    Sink(io::Error),
    /// A limit is exceeded.
    #[error("the dataset is too large: {0}")]
    TooLarge(&'static str),
}

/// A worker's result for one chunk.
struct Worked {
    head: Vec<u8>,
    bytes: Vec<u8>,
    records: u64,
    pieces: Vec<Piece>,
    invalid: u64,
    first: Vec<InvalidRecord>,
    /// Keys of the valid records.
    keys: Vec<Seen>,
}

struct Piece {
    text: Vec<u8>,
    compressed: Vec<u8>,
    records: u32,
}

/// What a publication needs besides its source and its sink.
pub struct Job<'a> {
    /// Threads that work.
    pub threads: usize,
    /// Decoder of the source's format.
    pub decoder: &'a dyn Decoder,
    /// Validator of the records.
    pub validator: &'a Validator,
    /// Seals the container.
    pub key: &'a DataKey,
    /// Associated data of the container.
    pub associated_data: &'a [u8],
    /// For keys that need more memory than there is.
    pub scratch: &'a Scratch<'a>,
    /// Counts the processed bytes of the source.
    pub progress: &'a AtomicU64,
}

/// Reads chunks from `source`, validates all records and seals them into `out`; returns `out` if all are valid.
pub fn assemble<W: Write>(
    job: Job<'_>,
    mut source: impl FnMut() -> io::Result<Option<Chunk>> + Send,
    out: W,
) -> Result<(W, Assembled), AssembleError> {
    let Job { threads, decoder, validator, key, associated_data, scratch, progress } = job;
    let mut sealer = Sealer::new(out, key, associated_data).map_err(AssembleError::Sink)?;
    let mut text_hash = KeyedHasher::new(key.expose(), PLAINTEXT_LABEL);
    let mut source_hash = KeyedHasher::new(key.expose(), SOURCE_LABEL);
    let mut frames: Vec<Frame> = Vec::new();
    let (mut offset, mut text_size, mut sealed_records) = (0u64, 0u64, 0u64);
    let mut rejection = Rejection::default();
    let (hasher, mut unique) = (KeyHasher::default(), Unique::new(scratch));
    // After an invalid record nothing will be published; the remaining records are only validated, for the report.
    let doomed = AtomicBool::new(false);

    let worker = || {
        let compressor = Compressor::new().map_err(AssembleError::Sink)?;
        let mut worker = Worker { tape: Tape::default(), compressor, hasher: hasher.clone() };
        let doomed = &doomed;
        Ok(move |chunk: Chunk| worker.work(chunk, decoder, validator, doomed))
    };
    let sink = |worked: Worked| {
        source_hash.update(&worked.head);
        source_hash.update(&worked.bytes);
        progress.fetch_add((worked.head.len() + worked.bytes.len()) as u64, Ordering::Relaxed);
        rejection.records += worked.records;
        rejection.invalid += worked.invalid;
        unique.add(&worked.keys).map_err(AssembleError::Sink)?;
        let room = limits::VIOLATIONS_REPORTED_MAX - rejection.first.len();
        rejection.first.extend(worked.first.into_iter().take(room));
        if rejection.invalid > 0 {
            return Ok(());
        }
        for piece in worked.pieces {
            text_hash.update(&piece.text);
            sealer.write_all(&piece.compressed).map_err(AssembleError::Sink)?;
            let length = piece.compressed.len() as u32;
            frames.push(Frame { offset, length, first_record: sealed_records, records: piece.records });
            offset += u64::from(length);
            text_size += piece.text.len() as u64;
            sealed_records += u64::from(piece.records);
            if frames.len() > limits::FRAMES_MAX || offset > limits::CONTAINER_BYTES_MAX {
                return Err(AssembleError::TooLarge("split it into several datasets"));
            }
        }
        Ok(())
    };
    ordered::run(threads, || source().map_err(AssembleError::Source), worker, sink)?;

    let (count, repeated) = unique.finish(limits::VIOLATIONS_REPORTED_MAX).map_err(AssembleError::Sink)?;
    rejection.invalid += count;
    rejection.first.extend(repeated.into_iter().map(|repeated| InvalidRecord {
        line: repeated.at,
        violation: validator.repeats(&format!("line {}", repeated.first)),
    }));
    if rejection.invalid > 0 {
        rejection.first.sort_by_key(|invalid| invalid.line);
        rejection.first.truncate(limits::VIOLATIONS_REPORTED_MAX);
        return Err(AssembleError::Invalid(rejection));
    }
    if rejection.records == 0 {
        return Err(AssembleError::Empty);
    }
    sealer.write_all(&frame::table(&frames)).map_err(AssembleError::Sink)?;
    let (out, digest, size) = sealer.finish().map_err(AssembleError::Sink)?;
    let assembled = Assembled {
        records: rejection.records,
        text_size,
        text_digest: text_hash.finish(),
        source_digest: source_hash.finish(),
        frames: frames.len() as u64,
        digest,
        size,
    };
    Ok((out, assembled))
}

struct Worker {
    tape: Tape,
    compressor: Compressor,
    hasher: KeyHasher,
}

impl Worker {
    fn work(&mut self, chunk: Chunk, decoder: &dyn Decoder, validator: &Validator, doomed: &AtomicBool) -> Worked {
        let mut worked = Worked {
            head: Vec::new(),
            bytes: Vec::new(),
            records: 0,
            pieces: Vec::new(),
            invalid: 0,
            first: Vec::new(),
            keys: Vec::new(),
        };
        let mut text = Vec::with_capacity(chunk.bytes.len() + chunk.bytes.len() / 8);
        let mut in_frame = 0u32;
        let mut broken: Vec<(u64, Violation)> = Vec::new();
        let (tape, compressor, hasher) = (&mut self.tape, &mut self.compressor, &self.hasher);
        let mut key = Vec::new();
        let mut record = |line: u64, json: &[u8]| {
            worked.records += 1;
            let mut found = check(tape, json, validator);
            let before = text.len();
            if found.is_empty() && !doomed.load(Ordering::Relaxed) {
                tape.write_canonical(&mut text);
                // The canonical form can be longer: 1e20 becomes 21 digits.
                if text.len() - before > limits::RECORD_BYTES_MAX {
                    text.truncate(before);
                    found = vec![too_long()];
                }
            }
            if !found.is_empty() {
                worked.invalid += 1;
                doomed.store(true, Ordering::Relaxed);
                let room = limits::VIOLATIONS_REPORTED_MAX.saturating_sub(worked.first.len());
                worked.first.extend(found.into_iter().take(room).map(|violation| InvalidRecord { line, violation }));
                return;
            }
            if !validator.key().is_empty() {
                worked.keys.push(hasher.seen(tape, validator.key(), line, &mut key));
            }
            if doomed.load(Ordering::Relaxed) {
                return;
            }
            text.push(b'\n');
            in_frame += 1;
            if text.len() >= limits::FRAME_TEXT_BYTES {
                worked.pieces.push(Piece {
                    text: std::mem::take(&mut text),
                    compressed: Vec::new(),
                    records: in_frame,
                });
                in_frame = 0;
            }
        };
        decoder.decode(&chunk, &mut record, &mut |line, violation| broken.push((line, violation)));
        if in_frame > 0 {
            worked.pieces.push(Piece { text, compressed: Vec::new(), records: in_frame });
        }
        if !broken.is_empty() {
            doomed.store(true, Ordering::Relaxed);
            worked.records += broken.len() as u64;
            worked.invalid += broken.len() as u64;
            worked.first.extend(broken.into_iter().map(|(line, violation)| InvalidRecord { line, violation }));
            worked.first.sort_by_key(|invalid| invalid.line);
            worked.first.truncate(limits::VIOLATIONS_REPORTED_MAX);
        }
        for piece in &mut worked.pieces {
            // Compression in memory fails only if memory runs out.
            piece.compressed = compressor.compress(&piece.text).expect("zstd compresses any text");
        }
        (worked.head, worked.bytes) = (chunk.head, chunk.bytes);
        worked
    }
}

fn too_long() -> Violation {
    let reason = format!("a record may have at most {} bytes, even in canonical form", limits::RECORD_BYTES_MAX);
    Violation { pointer: String::new(), rule: "json".into(), reason }
}

/// Parses and validates one record; returns no violations if it is valid.
pub fn check(tape: &mut Tape, json: &[u8], validator: &Validator) -> Vec<Violation> {
    if json.len() > limits::RECORD_BYTES_MAX {
        return vec![too_long()];
    }
    match tape.parse(json) {
        Err(error) => {
            // A property is found by its pointer; the position is that in the JSON, not in the line of a CSV file.
            let reason = match error.pointer.is_empty() {
                true => format!("{} (column {})", error.problem, error.offset + 1),
                false => error.problem,
            };
            vec![Violation { pointer: error.pointer, rule: "json".into(), reason }]
        }
        Ok(()) if tape.root().kind() != crate::core::json::Kind::Object => {
            let reason = "a record must be a JSON object".into();
            vec![Violation { pointer: String::new(), rule: "json".into(), reason }]
        }
        Ok(()) if validator.is_valid(tape) => Vec::new(),
        Ok(()) => validator.validate(tape),
    }
}
