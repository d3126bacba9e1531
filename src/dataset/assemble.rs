//! Publishing: text chunks in, sealed container out, on all cores and in flat memory.

use super::container::{DataKey, Sealer};
use super::frame::{self, Compressor, Frame};
use super::ordered;
use crate::core::digest::{Digest, KeyedDigest, KeyedHasher};
use crate::core::json::Tape;
use crate::core::limits;
use crate::schema::{Validator, Violation};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Label of the keyed digest of the text inside.
pub const PLAINTEXT_LABEL: &str = "crosspark/plaintext/v1";
/// Label of the keyed digest of the published file.
pub const SOURCE_LABEL: &str = "crosspark/source/v1";

/// A piece of the source that holds whole records.
pub struct Chunk {
    /// Bytes of the source before it that hold no record: a byte order mark, a header. They count for the digest.
    pub head: Vec<u8>,
    /// The line (from 1) that it begins with.
    pub first_line: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A local format.
pub trait Decoder: Sync {
    /// Turns a chunk into records: calls `record` with each one's line and JSON text, and `broken` where there is none.
    fn decode(&self, chunk: &Chunk, record: &mut dyn FnMut(u64, &[u8]), broken: &mut dyn FnMut(u64, Violation));
}

/// An invalid record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidRecord {
    /// Line of the source, from 1.
    pub line: u64,
    /// What is wrong with it.
    #[serde(flatten)]
    pub violation: Violation,
}

/// Why a publication is refused: every invalid record counted, the first ones described.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Records seen, valid or not.
    pub records: u64,
    /// Invalid ones.
    pub invalid: u64,
    /// The first of them.
    pub first: Vec<InvalidRecord>,
}

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Records.
    pub records: u64,
    /// Bytes of canonical text.
    pub text_size: u64,
    /// Its keyed digest.
    pub text_digest: KeyedDigest,
    /// The source's keyed digest.
    pub source_digest: KeyedDigest,
    /// Frames.
    pub frames: u64,
    /// SHA-256 of the container.
    pub digest: Digest,
    /// Bytes of the container.
    pub size: u64,
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Invalid records.
    #[error("{} of {} records are invalid", .0.invalid, .0.records)]
    Invalid(Rejection),
    /// No record at all.
    #[error("the file holds no record")]
    Empty,
    /// The source ended early or is not of its format.
    #[error("{0}")]
    Source(io::Error),
    /// The container could not be written.
    #[error("the sealed container could not be written: {0}")]
    Sink(io::Error),
    /// Beyond a limit.
    #[error("the dataset is too large: {0}")]
    TooLarge(&'static str),
}

/// What one worker makes of one chunk.
struct Worked {
    head: Vec<u8>,
    bytes: Vec<u8>,
    records: u64,
    pieces: Vec<Piece>,
    invalid: u64,
    first: Vec<InvalidRecord>,
}

struct Piece {
    text: Vec<u8>,
    compressed: Vec<u8>,
    records: u32,
}

/// Reads chunks from `source`, validates and seals every record into `out`; returns `out` if all were valid.
/// `progress` is told how many bytes of the source were worked on.
pub fn assemble<W: Write>(
    threads: usize,
    mut source: impl FnMut() -> io::Result<Option<Chunk>> + Send,
    decoder: &dyn Decoder,
    validator: &Validator,
    key: &DataKey,
    associated_data: &[u8],
    out: W,
    progress: &AtomicU64,
) -> Result<(W, Assembled), AssembleError> {
    let mut sealer = Sealer::new(out, key, associated_data).map_err(AssembleError::Sink)?;
    let mut text_hash = KeyedHasher::new(key.expose(), PLAINTEXT_LABEL);
    let mut source_hash = KeyedHasher::new(key.expose(), SOURCE_LABEL);
    let mut frames: Vec<Frame> = Vec::new();
    let (mut offset, mut text_size, mut sealed_records) = (0u64, 0u64, 0u64);
    let mut rejection = Rejection::default();
    // Once a record is invalid nothing will be published: the rest is only validated, to report it all.
    let doomed = AtomicBool::new(false);

    let worker = || {
        let mut worker = Worker { tape: Tape::default(), compressor: Compressor::new().map_err(AssembleError::Sink)? };
        let doomed = &doomed;
        Ok(move |chunk: Chunk| worker.work(chunk, decoder, validator, doomed))
    };
    let sink = |worked: Worked| {
        source_hash.update(&worked.head);
        source_hash.update(&worked.bytes);
        progress.fetch_add((worked.head.len() + worked.bytes.len()) as u64, Ordering::Relaxed);
        rejection.records += worked.records;
        rejection.invalid += worked.invalid;
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

    if rejection.invalid > 0 {
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
        };
        let mut text = Vec::with_capacity(chunk.bytes.len() + chunk.bytes.len() / 8);
        let mut in_frame = 0u32;
        let mut broken: Vec<(u64, Violation)> = Vec::new();
        let (tape, compressor) = (&mut self.tape, &mut self.compressor);
        let mut record = |line: u64, json: &[u8]| {
            worked.records += 1;
            let mut found = check(tape, json, validator);
            let before = text.len();
            if found.is_empty() && !doomed.load(Ordering::Relaxed) {
                tape.write_canonical(&mut text);
                // Numbers may grow: 1e20 has 21 digits in canonical form.
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
            // Compression in memory fails only without memory.
            piece.compressed = compressor.compress(&piece.text).expect("zstd compresses any text");
        }
        (worked.head, worked.bytes) = (chunk.head, chunk.bytes);
        worked
    }
}

fn too_long() -> Violation {
    let reason = format!("a record may have at most {} bytes, also in canonical form", limits::RECORD_BYTES_MAX);
    Violation { pointer: String::new(), rule: "json".into(), reason }
}

/// Parses and validates one record; empty if it is valid.
pub fn check(tape: &mut Tape, json: &[u8], validator: &Validator) -> Vec<Violation> {
    if json.len() > limits::RECORD_BYTES_MAX {
        return vec![too_long()];
    }
    match tape.parse(json) {
        Err(error) => {
            let reason = format!("{} (column {})", error.problem, error.offset + 1);
            vec![Violation { pointer: String::new(), rule: "json".into(), reason }]
        }
        Ok(()) if tape.root().kind() != crate::core::json::Kind::Object => {
            let reason = "a record must be a JSON object".into();
            vec![Violation { pointer: String::new(), rule: "json".into(), reason }]
        }
        Ok(()) if validator.is_valid(tape) => Vec::new(),
        Ok(()) => validator.validate(tape),
    }
}
