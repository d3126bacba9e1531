//! Publishing: turns chunks of text into a sealed container, on all cores and in constant memory.

use super::container::DataKey;
use super::contents::{Contents, Files, next_piece};
use super::frame::Compressor;
use super::framing::Framing;
use super::manifest::FilesRef;
use super::ordered;
use super::quality::{Counting, FieldQuality, Plan, Tallies};
use super::report::Rejection;
use super::unique::{KeyHasher, Scratch, Seen, Unique};
use crate::core::digest::{Digest, KeyedDigest, KeyedHasher};
use crate::core::json::Tape;
use crate::core::limits;
use crate::schema::{Content, Validator, Violation};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Label of the keyed digest of the text in the container.
pub const PLAINTEXT_LABEL: &str = "crosspark/plaintext/v1";
/// Label of the keyed digest of the published file.
pub const SOURCE_LABEL: &str = "crosspark/source/v1";

/// A part of the text that consists of whole records.
pub struct Chunk {
    /// Line number of the first line, from 1.
    pub first_line: u64,
    /// The records.
    pub bytes: Vec<u8>,
}

/// A decoder of a local file format.
pub trait Decoder: Sync {
    /// Calls `each` with each record of a chunk, in order.
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>));
}

/// A record as it stands in a source.
pub struct Decoded<'a> {
    /// Its line, from 1.
    pub line: u64,
    /// The record as JSON, without what could not be read; `None` if that is all of it.
    pub json: Option<&'a [u8]>,
    /// What could not be read, and why.
    pub wrong: Vec<Violation>,
}

impl<'a> Decoded<'a> {
    /// A record that could be read.
    pub fn whole(line: u64, json: &'a [u8]) -> Self {
        Self { line, json: Some(json), wrong: Vec::new() }
    }
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
    /// What the fields have.
    pub quality: Vec<FieldQuality>,
    /// Number of frames.
    pub frames: u64,
    /// SHA-256 of the container.
    pub digest: Digest,
    /// Size of the container in bytes.
    pub size: u64,
    /// The files, if the records describe files.
    pub files: Option<FilesRef>,
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
    size: u64,
    pieces: Vec<Piece>,
    found: Rejection,
    /// Keys of the valid records.
    keys: Vec<Seen>,
    /// The files that they describe.
    files: Vec<Content>,
}

struct Piece {
    text: Vec<u8>,
    compressed: Vec<u8>,
    records: u32,
}

/// How the records of a source are examined.
pub struct Job<'a> {
    /// Threads that work.
    pub threads: usize,
    /// Decoder of the source's format.
    pub decoder: &'a dyn Decoder,
    /// Validator of the records.
    pub validator: &'a Validator,
    /// The fields that are counted.
    pub plan: &'a Plan,
    /// For keys that need more memory than there is.
    pub scratch: &'a Scratch<'a>,
    /// Counts the processed bytes of the source.
    pub progress: &'a AtomicU64,
}

/// Reads chunks from `source` and validates all records.
pub fn examine(
    job: &Job<'_>,
    mut source: impl FnMut() -> io::Result<Option<Chunk>> + Send,
) -> Result<Rejection, AssembleError> {
    let (mut found, mut unique) = (Rejection::default(), Unique::new(job.scratch));
    let (hasher, doomed) = (KeyHasher::default(), AtomicBool::new(true));
    let tallies = Tallies::default();
    let worker = || worker(job, &hasher, &doomed, &tallies);
    let sink = |worked: Worked| {
        job.progress.fetch_add(worked.size, Ordering::Relaxed);
        found.append(worked.found);
        unique.add(&worked.keys).map_err(AssembleError::Sink)
    };
    ordered::run(job.threads, || source().map_err(AssembleError::Source), worker, sink)?;
    let (count, repeated) = unique.finish(limits::VIOLATIONS_REPORTED_MAX, &|| false).map_err(AssembleError::Sink)?;
    found.repeat(count, &repeated, job.validator);
    found.sort();
    if found.records == 0 { Err(AssembleError::Empty) } else { Ok(found) }
}

/// A worker of its own thread.
fn worker<'a>(
    job: &Job<'a>,
    hasher: &KeyHasher,
    doomed: &'a AtomicBool,
    tallies: &'a Tallies,
) -> Result<impl FnMut(Chunk) -> Worked + use<'a>, AssembleError> {
    let compressor = Compressor::new().map_err(AssembleError::Sink)?;
    let mut worker = Worker { tape: job.validator.tape(), compressor, hasher: hasher.clone() };
    let mut counting = tallies.one(job.plan);
    let (decoder, validator, plan) = (job.decoder, job.validator, job.plan);
    Ok(move |chunk: Chunk| worker.work(chunk, decoder, validator, (plan, &mut counting), doomed))
}

/// A container with all records; the contents of the files may follow.
pub struct Assembly<W: Write> {
    framing: Framing<W>,
    /// The files that are still missing, if the records describe files.
    missing: Option<Files>,
    assembled: Assembled,
}

/// Reads chunks from `source`, validates all records and seals them into `out` with `key`. Fails unless all are valid.
pub fn assemble<W: Write>(
    job: &Job<'_>,
    key: &DataKey,
    associated_data: &[u8],
    mut source: impl FnMut() -> io::Result<Option<Chunk>> + Send,
    out: W,
) -> Result<Assembly<W>, AssembleError> {
    let mut framing = Framing::new(out, key, associated_data).map_err(AssembleError::Sink)?;
    let mut text_hash = KeyedHasher::new(key.expose(), PLAINTEXT_LABEL);
    let (mut text_size, mut files) = (0u64, Files::default());
    let mut rejection = Rejection::default();
    let (hasher, mut unique, tallies) = (KeyHasher::default(), Unique::new(job.scratch), Tallies::default());
    // After an invalid record nothing will be published; the remaining records are only validated, for the report.
    let doomed = AtomicBool::new(false);

    let worker = || worker(job, &hasher, &doomed, &tallies);
    let sink = |worked: Worked| {
        job.progress.fetch_add(worked.size, Ordering::Relaxed);
        rejection.append(worked.found);
        unique.add(&worked.keys).map_err(AssembleError::Sink)?;
        if rejection.invalid > 0 {
            return Ok(());
        }
        for content in worked.files {
            files.add(content).map_err(unusable)?;
        }
        for piece in worked.pieces {
            text_hash.update(&piece.text);
            text_size += piece.text.len() as u64;
            add(&mut framing, &piece.compressed, piece.records)?;
        }
        Ok(())
    };
    ordered::run(job.threads, || source().map_err(AssembleError::Source), worker, sink)?;

    let (count, repeated) = unique.finish(limits::VIOLATIONS_REPORTED_MAX, &|| false).map_err(AssembleError::Sink)?;
    rejection.repeat(count, &repeated, job.validator);
    if rejection.invalid > 0 {
        rejection.sort();
        return Err(AssembleError::Invalid(rejection));
    }
    if rejection.records == 0 {
        return Err(AssembleError::Empty);
    }
    files.check_names().map_err(unusable)?;
    let assembled = Assembled {
        records: rejection.records,
        text_size,
        text_digest: text_hash.finish(),
        quality: tallies.sum(job.plan).finish(job.plan),
        frames: framing.count(),
        digest: Digest::from_bytes([0; 32]),
        size: 0,
        files: None,
    };
    Ok(Assembly { framing, missing: job.validator.has_content().then_some(files), assembled })
}

fn unusable(problem: String) -> AssembleError {
    AssembleError::Source(io::Error::new(io::ErrorKind::InvalidData, problem))
}

fn add<W: Write>(framing: &mut Framing<W>, compressed: &[u8], records: u32) -> Result<(), AssembleError> {
    framing.add(compressed, records).map_err(AssembleError::Sink)?;
    match framing.is_too_large() {
        true => Err(AssembleError::TooLarge("split it into several datasets")),
        false => Ok(()),
    }
}

impl<W: Write> Assembly<W> {
    /// Seals the contents of the files that the records describe. Fails unless each is what its record states, and none is
    /// left over.
    pub fn add_files(&mut self, threads: usize, source: &mut (impl Contents + Send)) -> Result<(), AssembleError> {
        let Some(files) = self.missing.take() else { return Ok(()) };
        let mut walk = files.walk();
        let worker = || {
            let mut compressor = Compressor::new().map_err(AssembleError::Sink)?;
            // Compression in memory fails only if memory runs out.
            Ok(move |piece: Vec<u8>| compressor.compress(&piece).expect("zstd compresses any bytes"))
        };
        let sink = |compressed: Vec<u8>| add(&mut self.framing, &compressed, 0);
        ordered::run(threads, || next_piece(&mut walk, source).map_err(AssembleError::Source), worker, sink)?;
        self.assembled.files = Some(files.stated());
        Ok(())
    }

    /// Completes the container; returns the writer.
    pub fn finish(self) -> Result<(W, Assembled), AssembleError> {
        if self.missing.is_some() {
            return Err(unusable("the records describe files, and the files are missing".into()));
        }
        let (out, digest, size) = self.framing.finish().map_err(AssembleError::Sink)?;
        Ok((out, Assembled { digest, size, ..self.assembled }))
    }
}

struct Worker {
    tape: Tape,
    compressor: Compressor,
    hasher: KeyHasher,
}

impl Worker {
    fn work(
        &mut self,
        chunk: Chunk,
        decoder: &dyn Decoder,
        validator: &Validator,
        (plan, counting): (&Plan, &mut Counting<'_>),
        doomed: &AtomicBool,
    ) -> Worked {
        let mut worked = Worked {
            size: chunk.bytes.len() as u64,
            pieces: Vec::new(),
            found: Rejection::default(),
            keys: Vec::new(),
            files: Vec::new(),
        };
        let mut text = Vec::with_capacity(chunk.bytes.len() + chunk.bytes.len() / 8);
        let mut in_frame = 0u32;
        let (tape, compressor, hasher) = (&mut self.tape, &mut self.compressor, &self.hasher);
        let mut key = Vec::new();
        let mut record = |record: Decoded<'_>| {
            let line = record.line;
            let mut found = check(tape, record, validator);
            let before = text.len();
            if found.is_empty() && !doomed.load(Ordering::Relaxed) {
                tape.write_canonical(&mut text);
                // The canonical form can be longer: 1e20 becomes 21 digits.
                if text.len() - before > limits::RECORD_BYTES_MAX {
                    text.truncate(before);
                    found = vec![too_long()];
                }
            }
            let valid = found.is_empty();
            worked.found.add(line, found);
            if !valid {
                doomed.store(true, Ordering::Relaxed);
                return;
            }
            if !validator.key().is_empty() {
                worked.keys.push(hasher.seen(tape, validator.key(), line, &mut key));
            }
            if doomed.load(Ordering::Relaxed) {
                return;
            }
            if validator.has_content() {
                worked.files.extend(Content::of(tape));
            }
            counting.add(plan, tape, &mut key);
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
        decoder.decode(&chunk, &mut record);
        if in_frame > 0 {
            worked.pieces.push(Piece { text, compressed: Vec::new(), records: in_frame });
        }
        for piece in &mut worked.pieces {
            // Compression in memory fails only if memory runs out.
            piece.compressed = compressor.compress(&piece.text).expect("zstd compresses any text");
        }
        worked
    }
}

/// The rule of a record that is not acceptable JSON.
const RULE_JSON: &str = "json";

fn too_long() -> Violation {
    let reason = format!("a record may have at most {} bytes, even in canonical form", limits::RECORD_BYTES_MAX);
    Violation::new("", RULE_JSON, reason)
}

/// Parses and validates one record; returns no violations if it is valid.
pub fn check(tape: &mut Tape, record: Decoded<'_>, validator: &Validator) -> Vec<Violation> {
    let Decoded { json, wrong, .. } = record;
    let Some(json) = json else { return wrong };
    let found = match read(tape, json) {
        Err(violation) => vec![violation],
        Ok(()) if validator.is_valid(tape) => Vec::new(),
        Ok(()) => validator.validate(tape),
    };
    if wrong.is_empty() {
        return found;
    }
    // What could not be read is not missing as well.
    let others: Vec<Violation> =
        found.into_iter().filter(|one| wrong.iter().all(|other| other.pointer != one.pointer)).collect();
    wrong.into_iter().chain(others).take(limits::VIOLATIONS_RECORD_MAX).collect()
}

/// Likewise, and checks the size of its canonical form, which can be longer.
pub fn check_whole(
    tape: &mut Tape,
    record: Decoded<'_>,
    validator: &Validator,
    buffer: &mut Vec<u8>,
) -> Vec<Violation> {
    let size = record.json.map_or(0, <[u8]>::len);
    let mut found = check(tape, record, validator);
    // 1e20 becomes 21 digits.
    if found.is_empty() && size > limits::RECORD_BYTES_MAX / 8 {
        buffer.clear();
        tape.write_canonical(buffer);
        if buffer.len() > limits::RECORD_BYTES_MAX {
            found = vec![too_long()];
        }
    }
    found
}

/// Parses one record.
pub fn read(tape: &mut Tape, json: &[u8]) -> Result<(), Violation> {
    if json.len() > limits::RECORD_BYTES_MAX {
        return Err(too_long());
    }
    match tape.parse(json) {
        Err(error) => {
            // A property is found by its pointer; the position is that in the JSON, not in the line of a CSV file.
            let reason = match error.pointer.is_empty() {
                true => format!("{} (column {})", error.problem, error.offset + 1),
                false => error.problem,
            };
            Err(Violation::new(error.pointer, RULE_JSON, reason))
        }
        Ok(()) if tape.root().kind() != crate::core::json::Kind::Object => {
            Err(Violation::new("", RULE_JSON, "a record must be a JSON object"))
        }
        Ok(()) => Ok(()),
    }
}
