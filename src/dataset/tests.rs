//! Containers with files, by publishers that tell the truth and by others.

use super::assemble::{AssembleError, Chunk, Decoded, Decoder, Job, PLAINTEXT_LABEL, assemble};
use super::container::DataKey;
use super::contents::{Contents, PIECE_BYTES};
use super::frame::Compressor;
use super::framing::Framing;
use super::manifest::*;
use super::open::{OpenError, Package, Stop, Verification};
use super::quality::{Plan, Quality};
use super::unique::Temporary;
use crate::core::digest::{Digest, KeyedHasher};
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::json;
use crate::core::time::Timestamp;
use crate::schema::{Schema, built_in};
use serde_json::json;
use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::sync::atomic::AtomicU64;

fn key() -> DataKey {
    DataKey::from_bytes([7; 32])
}

fn schema() -> Schema {
    built_in().into_iter().find(|schema| schema.id().ends_with(":document")).unwrap()
}

fn in_memory() -> io::Result<Box<dyn Temporary>> {
    Ok(Box::new(Cursor::new(Vec::new())))
}

/// Records of files, in canonical form.
fn records(files: &[(&str, Vec<u8>)]) -> String {
    let line = |(path, bytes): &(&str, Vec<u8>)| {
        let record = json!({"path": path, "size": bytes.len(), "digest": Digest::of(bytes)});
        String::from_utf8(json::to_canonical(&record)).unwrap() + "\n"
    };
    files.iter().map(line).collect()
}

fn manifest(text: &str, (records, frames): (u64, u64), files: Option<FilesRef>) -> Manifest {
    let (schema, mut hash) = (schema(), KeyedHasher::new(key().expose(), PLAINTEXT_LABEL));
    hash.update(text.as_bytes());
    let digest = hash.finish();
    Manifest {
        publisher: ParticipantId::parse("did:web:a.example").unwrap(),
        dataset: DatasetId::parse("urn:uuid:1").unwrap(),
        version: 1,
        schema: SchemaRef { id: schema.id().into(), version: schema.version().into(), digest: schema.digest() },
        records,
        container: Container { algorithm: ALGORITHM.into(), segment: SEGMENT_BYTES, size: 0, digest: schema.digest() },
        text: TextRef { size: text.len() as u64, digest, frames },
        provenance: Provenance { source: digest, format: "ndjson".into(), mapping: None, tool: "test".into() },
        policy: schema.digest(),
        published: Timestamp::from_ms(0),
        quality: Quality::default(),
        changes: None,
        files,
    }
}

fn verify(sealed: &[u8], manifest: &Manifest) -> Result<(), OpenError> {
    let schema = schema();
    let validator = schema.validator().unwrap();
    let package = Package::open(Cursor::new(sealed.to_vec()), &key(), manifest)?;
    let (key, validator, plan, stop) = (&key(), &validator, &Plan::nothing(), &Stop::default());
    package.verify(&Verification { threads: 2, key, manifest, validator, plan, scratch: &in_memory, stop })
}

/// What a publisher seals that checks nothing: records, then frames with their numbers of records.
fn seal(text: &str, count: u32, contents: &[(&[u8], u32)]) -> Vec<u8> {
    let draft = manifest(text, (u64::from(count), 1), None);
    let mut framing = Framing::new(Vec::new(), &key(), &draft.associated_data()).unwrap();
    let mut compressor = Compressor::new().unwrap();
    framing.add(&compressor.compress(text.as_bytes()).unwrap(), count).unwrap();
    for (piece, records) in contents {
        framing.add(&compressor.compress(piece).unwrap(), *records).unwrap();
    }
    framing.finish().unwrap().0
}

#[test]
fn a_consumer_believes_no_file_but_the_one_that_the_record_states() {
    let large = vec![b'x'; PIECE_BYTES + 3];
    let files = [("a.bin", large.clone()), ("empty", Vec::new()), ("图/b.txt", b"abc".to_vec())];
    let text = records(&files);
    let pieces: [&[u8]; 3] = [&large[..PIECE_BYTES], &large[PIECE_BYTES..], b"abc"];
    let size = large.len() as u64 + 3;
    let check = |text: &str, pieces: &[(&[u8], u32)], files: Option<FilesRef>| {
        let count = text.lines().count() as u32;
        let found = verify(&seal(text, count, pieces), &manifest(text, (u64::from(count), 1), files));
        found.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let whole = Some(FilesRef { size, frames: 3 });
    let plain = pieces.map(|piece| (piece, 0));
    assert_eq!(check(&text, &plain, whole), "");

    let mut altered = large.clone();
    altered[5] ^= 1;
    let with = |n: usize, piece: &'static [u8]| {
        let mut changed = plain;
        changed[n] = (piece, 0);
        check(&text, &changed, whole)
    };
    let altered = [(&altered[..PIECE_BYTES], 0), plain[1], plain[2]];
    assert!(check(&text, &altered, whole).contains("`a.bin` has the digest"));
    assert!(with(2, b"abd").contains("`图/b.txt` has the digest"));
    assert!(with(2, b"abcd").contains("does not have the length"));
    assert!(with(2, b"").contains("does not have the length"));
    assert!(with(1, b"x").contains("does not have the length"));
    // Cut in another way.
    let cut = [(&large[..5], 0), (&large[5..], 0), (&b"abc"[..], 0)];
    assert!(check(&text, &cut, whole).contains("does not have the length"));
    // Fewer or more than the records say.
    let two = Some(FilesRef { size: size - 3, frames: 2 });
    assert!(check(&text, &plain[..2], two).contains("bytes of files"));
    assert!(check(&text, &plain[..2], Some(FilesRef { frames: 2, size })).contains("frames of files"));
    let four = [plain[0], plain[1], plain[2], (&b"more"[..], 0)];
    assert!(check(&text, &four, Some(FilesRef { size: size + 4, frames: 4 })).contains("bytes of files"));
    // Files that are larger than the manifest states are not worked through: nothing of them is decompressed.
    let garbage: Vec<(&[u8], u32)> = vec![(b"not the file", 0)];
    let (huge, one) = (records(&[("huge", vec![0; 2 * PIECE_BYTES])]), Some(FilesRef { size: 12, frames: 1 }));
    assert!(check(&huge, &garbage, one).contains("bytes of files"));
    // The manifest says something else.
    assert!(check(&text, &plain, None).contains("frames"));
    assert!(check(&text, &[], None).contains("the kind of content"));
    assert!(check(&text, &plain, Some(FilesRef { size: size + 1, frames: 3 })).contains("bytes of files"));
    for frames in [0, 2, 4, u64::MAX] {
        assert!(check(&text, &plain, Some(FilesRef { size, frames })).contains("frames"), "{frames}");
    }
    assert!(check(&text, &[plain[0], plain[1], (b"abc", 1)], whole).contains("records"));
    // No folder can hold them.
    for paths in [["a", "A"], ["a", "a/b"], ["a", "../b"], ["a", "a"]] {
        let files = paths.map(|path| (path, b"1".to_vec()));
        let found = check(&records(&files), &[(b"1", 0), (b"1", 0)], Some(FilesRef { size: 2, frames: 2 }));
        assert!(
            found.starts_with("record 2 is invalid") || found.contains("no folder can hold both"),
            "{paths:?}: {found}"
        );
    }
}

/// A decoder of NDJSON, one record a line.
struct Lines;

impl Decoder for Lines {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let lines = chunk.bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.enumerate().for_each(|(n, line)| each(Decoded::whole(chunk.first_line + n as u64, line)));
    }
}

/// Files that arrive; the current one first.
struct Arriving(VecDeque<Vec<u8>>, Cursor<Vec<u8>>);

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.read(buffer)
    }
}

impl Contents for Arriving {
    fn next_file(&mut self) -> io::Result<bool> {
        let next = self.0.pop_front();
        self.1 = Cursor::new(next.clone().unwrap_or_default());
        Ok(next.is_some())
    }
}

#[test]
fn what_a_publisher_seals_is_verified_and_read() {
    let files = [("b/1", vec![1; 3 * PIECE_BYTES]), ("a", Vec::new()), ("c", vec![2; 5]), ("d", vec![3; PIECE_BYTES])];
    let (text, schema) = (records(&files), schema());
    let validator = schema.validator().unwrap();
    let assembled = |sent: Option<Vec<Vec<u8>>>| {
        let job = Job {
            threads: 2,
            decoder: &Lines,
            validator: &validator,
            plan: &Plan::nothing(),
            scratch: &in_memory,
            progress: &AtomicU64::new(0),
        };
        let mut chunks = [Chunk { first_line: 1, bytes: text.clone().into_bytes() }].into_iter();
        let draft = manifest(&text, (4, 1), None);
        let source = move || Ok(chunks.next());
        let mut assembly = assemble(&job, &key(), &draft.associated_data(), source, Vec::new())?;
        if let Some(sent) = sent {
            assembly.add_files(2, &mut Arriving(sent.into(), Cursor::default()))?;
        }
        assembly.finish()
    };
    let sent: Vec<Vec<u8>> = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    let (sealed, found) = assembled(Some(sent.clone())).unwrap();
    let stated = Some(FilesRef { size: 4 * PIECE_BYTES as u64 + 5, frames: 5 });
    assert_eq!((found.records, found.frames, found.files), (4, 1, stated));
    let manifest = manifest(&text, (4, 1), found.files);
    verify(&sealed, &manifest).unwrap();

    let mut package = Package::open(Cursor::new(sealed), &key(), &manifest).unwrap();
    let mut numbering = super::contents::Numbering::default();
    for (_, bytes) in &files {
        let mut read = Vec::new();
        let frames = numbering.frames(bytes.len() as u64);
        package.read_file(frames, |piece| io::Write::write_all(&mut read, piece)).unwrap();
        assert!(read == *bytes);
    }
    assert!(package.read_file(4..6, |_| Ok(())).is_err());
    let mut records = Vec::new();
    package.read(|text| io::Write::write_all(&mut records, text)).unwrap();
    assert_eq!(String::from_utf8(records).unwrap(), text);

    let problem = |sent: Option<Vec<Vec<u8>>>| match assembled(sent) {
        Err(AssembleError::Source(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(problem(None).contains("the files are missing"));
    let mut swapped = sent;
    swapped.swap(2, 3);
    assert!(problem(Some(swapped)).contains("`c` has more bytes"));
}
