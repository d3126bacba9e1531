//! Validation and sealing, on threads outside the async runtime.

use crate::blob::{Blobs, Writing, name_of};
use crate::core::digest::{HashingReader, KeyedDigest, KeyedHasher};
use crate::core::{parallelism, random};
use crate::dataset::assemble::{self, AssembleError, Assembled, Assembly, Job, SOURCE_LABEL};
use crate::dataset::container::DataKey;
use crate::dataset::contents::Contents;
use crate::dataset::quality::{Detail, Plan};
use crate::ingest::{Chunks, Format, Input, Reading};
use crate::mapping::Mapping;
use crate::node::{Error, Node};
use crate::schema::CompiledSchema;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Input of validation and sealing.
pub(super) struct Sealing {
    pub(super) node: Arc<Node>,
    pub(super) blobs: Blobs,
    pub(super) compiled: Arc<CompiledSchema>,
    pub(super) format: Format,
    pub(super) reading: Reading,
    pub(super) mapping: Option<Mapping>,
    pub(super) quality: Detail,
    pub(super) aad: Vec<u8>,
    pub(super) key: DataKey,
}

impl Sealing {
    /// Reads, validates and seals `source` into a blob; returns the keyed digest of the records' file, too.
    pub(super) fn run(self, source: &mut (impl Contents + Send)) -> Result<(Assembled, KeyedDigest), Error> {
        let hasher = KeyedHasher::new(self.key.expose(), SOURCE_LABEL);
        let mut records = HashingReader::new(&mut *source, Some(hasher));
        let mut assembly = self.records(&mut records)?;
        // A compressed file may have more than its text.
        records.drain().map_err(source_error)?;
        let digest = records.finish().ok_or_else(|| Error::Internal("the source has no digest".into()))?;
        assembly.add_files(parallelism(), source).map_err(failed)?;
        if source.next_file().map_err(source_error)? {
            let reason = format!("{} has records that describe no files; send no files", self.compiled.schema.id());
            return Err(Error::invalid("source", reason));
        }
        let (writing, assembled) = assembly.finish().map_err(failed)?;
        self.blobs.keep(writing, &name_of(&assembled.digest)).map_err(disk)?;
        Ok((assembled, digest))
    }

    fn records(&self, source: impl Read + Send) -> Result<Assembly<Writing>, Error> {
        let buffered = BufReader::with_capacity(1 << 20, source);
        let text = Input::open(buffered, self.format, &self.reading, &|source| self.blobs.spool(source))
            .map_err(source_error)?;
        let (mut chunks, decoder) =
            Chunks::open(text, &self.compiled.schema, self.mapping.as_ref()).map_err(source_error)?;
        let name = hex::encode(random::bytes::<16>(self.node.random()));
        let writing = self.blobs.create(&name).map_err(disk)?;
        let blobs = self.blobs.clone();
        let job = Job {
            threads: parallelism(),
            decoder: decoder.as_ref(),
            validator: self.compiled.validator().map_err(|error| Error::Internal(error.to_string()))?,
            plan: &Plan::of(&self.compiled.schema, self.quality),
            scratch: &move || Ok(Box::new(blobs.scratch()?)),
            progress: &AtomicU64::new(0),
        };
        assemble::assemble(&job, &self.key, &self.aad, || chunks.next_chunk(), writing).map_err(failed)
    }
}

fn failed(error: AssembleError) -> Error {
    match error {
        AssembleError::Invalid(rejection) => Error::InvalidRecords(rejection),
        AssembleError::Sink(error) => disk(error),
        AssembleError::Source(error) => source_error(error),
        AssembleError::Empty | AssembleError::TooLarge(_) => Error::invalid("source", error.to_string()),
    }
}

fn disk(error: std::io::Error) -> Error {
    Error::Unavailable(format!("the sealed bytes could not be written: {error}"))
}

fn source_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull => Error::Unavailable(error.to_string()),
        _ => Error::invalid("source", error.to_string()),
    }
}
