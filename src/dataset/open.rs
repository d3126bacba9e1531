//! Opening a sealed container: all statements of the manifest are checked before the dataset is reported as valid.

use super::assemble::{self, PLAINTEXT_LABEL};
use super::container::{DataKey, Opened};
use super::contents::Files;
use super::frame::{self, Decompressor, Frame, FrameError};
use super::manifest::{ALGORITHM, Manifest, SEGMENT_BYTES};
use super::ordered;
use super::quality::{self, Counting, Plan, Tallies};
use super::unique::{KeyHasher, Repeated, Scratch, Seen, Unique};
use crate::core::digest::KeyedHasher;
use crate::core::json::Tape;
use crate::schema::{Content, Validator, Violation};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a container is rejected.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The container does not decrypt under this key and manifest.
    #[error("the sealed container does not open: it was altered, or the key belongs to another dataset ({0})")]
    Seal(io::Error),
    /// The frames are damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The container differs from the manifest.
    #[error("the manifest states {what} {stated}, the container has {found}")]
    Contradiction {
        /// The property that differs.
        what: &'static str,
        /// Value in the manifest.
        stated: String,
        /// Value in the container.
        found: String,
    },
    /// A record does not conform to the schema, or is not in canonical form.
    #[error("record {number} is invalid: {pointer}: {reason} ({rule})")]
    Record {
        /// Record number, from 1.
        number: u64,
        /// JSON pointer.
        pointer: String,
        /// Schema keyword.
        rule: String,
        /// Explanation for people.
        reason: String,
    },
    /// The files are not what their records state, or cannot be kept.
    #[error("the files are not acceptable: {0}")]
    Files(String),
    /// The verification was stopped.
    #[error("the verification was stopped")]
    Stopped,
    /// The caller's sink failed.
    #[error("{0}")]
    Sink(io::Error),
}

/// An opened container with its seek table.
pub struct Package<R> {
    opened: Opened<R>,
    /// The frames of the records.
    frames: Vec<Frame>,
    /// The frames of the files.
    contents: Vec<Frame>,
}

impl<R: Read + Seek + Send> Package<R> {
    /// Opens a container: authenticates the header and last segment, and reads the seek table.
    pub fn open(source: R, key: &DataKey, manifest: &Manifest) -> Result<Self, OpenError> {
        if manifest.container.algorithm != ALGORITHM || manifest.container.segment != SEGMENT_BYTES {
            let stated = format!("{} / {}", manifest.container.algorithm, manifest.container.segment);
            let found = format!("{ALGORITHM} / {SEGMENT_BYTES}");
            return Err(OpenError::Contradiction { what: "the seal", stated, found });
        }
        let mut opened = Opened::new(source, key, &manifest.associated_data()).map_err(OpenError::Seal)?;
        let size = opened.size().map_err(OpenError::Seal)?;
        let mut frames = frame::read_table(size, |range| opened.range(range).map_err(OpenError::Seal))?;
        let of_files = manifest.files.map_or(0, |files| files.frames);
        compare("frames", manifest.text.frames.saturating_add(of_files), frames.len() as u64)?;
        let contents = frames.split_off(frames.len() - of_files as usize);
        compare("records", manifest.records, frames.iter().map(|f| u64::from(f.records)).sum())?;
        compare("records after the files begin", 0, contents.iter().map(|f| u64::from(f.records)).sum())?;
        Ok(Self { opened, frames, contents })
    }

    /// Passes the text of each frame, in order, to `sink`. The text is authenticated; its conformance to the schema was
    /// checked by [`Package::verify`] when it arrived.
    pub fn read(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), OpenError> {
        let mut decompressor = Decompressor::new().map_err(OpenError::Sink)?;
        for frame in &self.frames {
            let bytes = bytes_of_frame(&mut self.opened, frame)?;
            sink(&decompressor.decompress(&bytes)?).map_err(OpenError::Sink)?;
        }
        Ok(())
    }

    /// Likewise, of some records, counted from 0; the other frames are not read.
    pub fn read_records(
        &mut self,
        records: Range<u64>,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), OpenError> {
        let mut decompressor = Decompressor::new().map_err(OpenError::Sink)?;
        for frame in &self.frames {
            let own = frame.first_record..frame.first_record + u64::from(frame.records);
            let (from, to) = (records.start.max(own.start), records.end.min(own.end));
            if from >= to {
                continue;
            }
            let bytes = bytes_of_frame(&mut self.opened, frame)?;
            let text = decompressor.decompress(&bytes)?;
            let line = |n: u64| {
                memchr::memchr_iter(b'\n', &text).nth((n - own.start) as usize).map_or(text.len(), |at| at + 1)
            };
            let begin = if from == own.start { 0 } else { line(from - 1) };
            sink(&text[begin..if to == own.end { text.len() } else { line(to - 1) }]).map_err(OpenError::Sink)?;
        }
        Ok(())
    }

    /// The end offset of each frame's text in the whole text, from the frame headers (RFC 8878 section 3.1.1.1.4); the
    /// total must match the manifest.
    pub fn text_ends(&mut self, manifest: &Manifest) -> Result<Vec<u64>, OpenError> {
        let mut ends = Vec::with_capacity(self.frames.len());
        let mut end = 0u64;
        for frame in &self.frames {
            let head = u64::from(frame.length).min(frame::HEAD_BYTES_MAX);
            let head = self.opened.range(frame.offset..frame.offset + head).map_err(OpenError::Seal)?;
            end += frame::text_size(&head)?;
            ends.push(end);
        }
        compare("bytes of text", manifest.text.size, end)?;
        Ok(ends)
    }

    /// The text of frame `n`, counted from 0.
    pub fn frame(&mut self, n: usize) -> Result<Vec<u8>, OpenError> {
        let missing = || OpenError::Sink(io::Error::other("there is no such frame"));
        let frame = self.frames.get(n).ok_or_else(missing)?;
        let bytes = bytes_of_frame(&mut self.opened, frame)?;
        Ok(Decompressor::new().map_err(OpenError::Sink)?.decompress(&bytes)?)
    }

    /// Bytes that the frames of a file have in the container, compressed.
    pub fn compressed_size(&self, frames: Range<usize>) -> u64 {
        self.contents.get(frames).unwrap_or_default().iter().map(|frame| u64::from(frame.length)).sum()
    }

    /// Passes the content of a file, in pieces, to `sink`.
    pub fn read_file(
        &mut self,
        frames: Range<usize>,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), OpenError> {
        let missing = || OpenError::Sink(io::Error::other("there are no such frames"));
        let frames = self.contents.get(frames).ok_or_else(missing)?;
        let mut decompressor = Decompressor::new().map_err(OpenError::Sink)?;
        for frame in frames {
            let bytes = bytes_of_frame(&mut self.opened, frame)?;
            sink(&decompressor.decompress(&bytes)?).map_err(OpenError::Sink)?;
        }
        Ok(())
    }

    /// Checks the content against the manifest: size, record counts, the text's keyed digest, the conformance of every
    /// record to the schema, and that each file is what its record states.
    pub fn verify(mut self, by: &Verification<'_>) -> Result<(), OpenError> {
        let name = |files: bool| if files { "files" } else { "records only" };
        compare("the kind of content", name(by.manifest.files.is_some()), name(by.validator.has_content()))?;
        let files = self.verify_records(by)?;
        self.verify_files(by, &files)
    }

    fn verify_records(&mut self, by: &Verification<'_>) -> Result<Files, OpenError> {
        let Verification { threads, key, manifest, validator, plan, scratch, stop } = *by;
        let tallies = Tallies::default();
        let (hasher, mut unique) = (KeyHasher::default(), Unique::new(scratch));
        let mut hash = KeyedHasher::new(key.expose(), PLAINTEXT_LABEL);
        let (mut size, mut files) = (0u64, Files::default());
        let worker = || {
            let mut decompressor = Decompressor::new().map_err(OpenError::Sink)?;
            let (mut tape, hasher, mut counting) = (Tape::default(), hasher.clone(), tallies.one(plan));
            Ok(move |(frame, bytes): (Frame, Vec<u8>)| -> Result<Checked, OpenError> {
                let text = decompressor.decompress(&bytes)?;
                check_frame(&frame, text, &mut tape, validator, (plan, &mut counting), &hasher)
            })
        };
        let source = bytes_of(&mut self.opened, &self.frames, stop);
        ordered::run(threads, source, worker, |checked: Result<Checked, OpenError>| {
            let Checked { text, keys, files: more } = checked?;
            unique.add(&keys).map_err(OpenError::Sink)?;
            if let Some(repeated) = unique.early() {
                return Err(repeats(validator, &repeated));
            }
            for content in more {
                files.add(content).map_err(OpenError::Files)?;
            }
            hash.update(&text);
            size += text.len() as u64;
            // More text than stated is not worked through to its end.
            if size > manifest.text.size { compare("bytes of text", manifest.text.size, size) } else { Ok(()) }
        })?;
        match unique.finish(1, &|| stop.is_set()) {
            Err(_) if stop.is_set() => return Err(OpenError::Stopped),
            Err(error) => return Err(OpenError::Sink(error)),
            Ok((_, found)) => found.first().map_or(Ok(()), |repeated| Err(repeats(validator, repeated)))?,
        }
        compare("bytes of text", manifest.text.size, size)?;
        compare("the text's keyed digest", manifest.text.digest, hash.finish())?;
        match quality::difference(&manifest.quality.fields, &tallies.sum(plan).finish(plan)) {
            Some((stated, found)) => Err(OpenError::Contradiction { what: "the quality", stated, found }),
            None => Ok(files),
        }
    }

    fn verify_files(&mut self, by: &Verification<'_>, files: &Files) -> Result<(), OpenError> {
        let Verification { threads, manifest, stop, .. } = *by;
        // Before any of them is decompressed: they are as large as their records state, or refused.
        let (stated, found) = (manifest.files.unwrap_or_default(), files.stated());
        compare("bytes of files", stated.size, found.size)?;
        compare("frames of files", stated.frames, found.frames)?;
        files.check_names().map_err(OpenError::Files)?;
        let mut walk = files.walk();
        let worker = || {
            let mut decompressor = Decompressor::new().map_err(OpenError::Sink)?;
            Ok(move |(_, bytes): (Frame, Vec<u8>)| decompressor.decompress(&bytes))
        };
        let source = bytes_of(&mut self.opened, &self.contents, stop);
        ordered::run(threads, source, worker, |text: Result<Vec<u8>, FrameError>| {
            walk.take_frame(&text?).map_err(OpenError::Files)
        })?;
        walk.end().map_err(OpenError::Files)
    }
}

/// The bytes of a frame, decrypted and still compressed.
fn bytes_of_frame<R: Read + Seek + Send>(opened: &mut Opened<R>, frame: &Frame) -> Result<Vec<u8>, OpenError> {
    let end = frame.offset + u64::from(frame.length);
    opened.range(frame.offset..end).map_err(OpenError::Seal)
}

/// The frames with their bytes, one after the other.
fn bytes_of<R: Read + Seek + Send>(
    opened: &mut Opened<R>,
    frames: &[Frame],
    stop: &Stop,
) -> impl FnMut() -> Result<Option<(Frame, Vec<u8>)>, OpenError> {
    let mut frames = frames.iter();
    move || {
        if stop.is_set() {
            return Err(OpenError::Stopped);
        }
        let Some(frame) = frames.next() else { return Ok(None) };
        bytes_of_frame(opened, frame).map(|bytes| Some((*frame, bytes)))
    }
}

/// By what a container is verified.
#[derive(Clone, Copy)]
pub struct Verification<'a> {
    /// Threads that work.
    pub threads: usize,
    /// The data key.
    pub key: &'a DataKey,
    /// What the publisher states.
    pub manifest: &'a Manifest,
    /// Validator of the records.
    pub validator: &'a Validator,
    /// The fields that are counted.
    pub plan: &'a Plan,
    /// For keys that need more memory than there is.
    pub scratch: &'a Scratch<'a>,
    /// Stops it.
    pub stop: &'a Stop,
}

/// Stops a verification, from another thread.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops before the next frame.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn compare<T: PartialEq + ToString>(what: &'static str, stated: T, found: T) -> Result<(), OpenError> {
    if stated == found {
        return Ok(());
    }
    Err(OpenError::Contradiction { what, stated: stated.to_string(), found: found.to_string() })
}

fn repeats(validator: &Validator, repeated: &Repeated) -> OpenError {
    let Violation { pointer, rule, reason, .. } = validator.repeats(&format!("record {}", repeated.first));
    OpenError::Record { number: repeated.at, pointer, rule, reason }
}

/// A checked frame.
struct Checked {
    text: Vec<u8>,
    keys: Vec<Seen>,
    files: Vec<Content>,
}

/// Checks the records of a frame, and counts their fields.
fn check_frame(
    frame: &Frame,
    text: Vec<u8>,
    tape: &mut Tape,
    validator: &Validator,
    (plan, counting): (&Plan, &mut Counting<'_>),
    hasher: &KeyHasher,
) -> Result<Checked, OpenError> {
    let (mut canonical, mut key, mut keys, mut files) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut number = frame.first_record;
    let body = text.strip_suffix(b"\n").unwrap_or_default();
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = &body[begin..end];
        begin = end + 1;
        number += 1;
        let invalid =
            |pointer: String, rule: String, reason: String| Err(OpenError::Record { number, pointer, rule, reason });
        let violation = match assemble::read(tape, line) {
            Ok(()) => (!validator.is_valid(tape)).then(|| validator.first(tape)).flatten(),
            Err(violation) => Some(violation),
        };
        if let Some(first) = violation {
            return invalid(first.pointer, first.rule, first.reason);
        }
        canonical.clear();
        tape.write_canonical(&mut canonical);
        if canonical != line {
            return invalid(String::new(), "json".into(), "it is not in canonical form".into());
        }
        if !validator.key().is_empty() {
            keys.push(hasher.seen(tape, validator.key(), number, &mut key));
        }
        if validator.has_content() {
            files.extend(Content::of(tape));
        }
        counting.add(plan, tape, &mut key);
    }
    compare("records of a frame", u64::from(frame.records), number - frame.first_record)?;
    Ok(Checked { text, keys, files })
}
