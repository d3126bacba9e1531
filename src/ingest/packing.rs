//! Compressed files.

use super::invalid;
use crate::core::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// It is not.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// A zip archive with one file.
    Zip,
}

impl Packing {
    /// The compression of a file that begins with these bytes. A workbook is a zip archive, too.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Self::Zstd,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            _ => Self::None,
        }
    }

    /// The compression of a file with this name.
    pub fn of_file(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            Some("zip") => Self::Zip,
            _ => Self::None,
        }
    }

    /// Whether it is not compressed.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }
}

/// A stream, unpacked. `spool` makes a file of a stream.
pub fn unpack<'a, R: Read + Send + 'a>(
    source: R,
    packing: Packing,
    spool: impl FnOnce(R) -> io::Result<File>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let packed = Arc::new(AtomicU64::new(0));
    let counted = |source| Counted { source, packed: packed.clone() };
    Ok(match packing {
        Packing::None => Box::new(source),
        Packing::Gzip => bounded(flate2::read::MultiGzDecoder::new(counted(source)), packed),
        Packing::Zstd => bounded(zstd::stream::read::Decoder::new(counted(source))?, packed),
        Packing::Zip => {
            let mut archive = zip::ZipArchive::new(spool(source)?).map_err(invalid)?;
            let at = only_file(&mut archive)?;
            bounded_zip(archive, at)?
        }
    })
}

/// The index of the only file of an archive.
fn only_file(archive: &mut zip::ZipArchive<File>) -> io::Result<usize> {
    if archive.len() > limits::ZIP_ENTRIES_MAX {
        return Err(invalid(format!("the zip archive has more than {} entries", limits::ZIP_ENTRIES_MAX)));
    }
    let mut found = Vec::new();
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(invalid)?;
        let name = entry.name().map_err(invalid)?.into_owned();
        // What macOS adds is not a file of the user.
        if entry.is_file() && !name.starts_with("__MACOSX/") {
            found.push((at, name));
        }
    }
    match found.as_slice() {
        [(at, _)] => Ok(*at),
        [] => Err(invalid("the zip archive has no file")),
        several => {
            let names: Vec<&str> =
                several.iter().map(|(_, name)| name.as_str()).take(limits::NAMES_IN_ERRORS_MAX).collect();
            Err(invalid(format!("the zip archive has several files: unpack it and give one of {}", names.join(", "))))
        }
    }
}

/// The entry is read on a thread of its own, as it borrows the archive.
fn bounded_zip(mut archive: zip::ZipArchive<File>, at: usize) -> io::Result<Box<dyn Read + Send>> {
    let entry = archive.by_index_raw(at).map_err(invalid)?;
    if entry.encrypted() {
        return Err(invalid("the zip archive is protected by a password; unpack it"));
    }
    let packed = Arc::new(AtomicU64::new(entry.compressed_size()));
    drop(entry);
    Ok(bounded(
        super::piped::piped(move |out| {
            let mut entry = archive.by_index(at).map_err(invalid)?;
            io::copy(&mut entry, out).map(drop)
        }),
        packed,
    ))
}

fn bounded<'a>(unpacked: impl Read + Send + 'a, packed: Arc<AtomicU64>) -> Box<dyn Read + Send + 'a> {
    Box::new(Bounded { unpacked, packed, size: 0 })
}

/// Counts the compressed bytes.
struct Counted<R> {
    source: R,
    packed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.packed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Ends with an error where a few bytes become very many.
struct Bounded<R> {
    unpacked: R,
    packed: Arc<AtomicU64>,
    size: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.unpacked.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                invalid(format!("the compressed file is damaged or cut off: {error}"))
            }
            _ => error,
        })?;
        self.size += read as u64;
        let packed = self.packed.load(Ordering::Relaxed);
        if self.size > limits::UNPACKED_BYTES_SMALL.max(packed.saturating_mul(limits::UNPACKED_RATIO_MAX)) {
            let (packed, ratio) = (packed >> 10, limits::UNPACKED_RATIO_MAX);
            return Err(invalid(format!(
                "{packed} KiB of the compressed file become more than {ratio} times as many; give the file unpacked"
            )));
        }
        Ok(read)
    }
}
