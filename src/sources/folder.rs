//! Files that arrive in a folder.

use crate::config::Folder;
use crate::core::digest::Digest;
use crate::core::limits;
use crate::dataset::contents::Contents;
use crate::node::{Error, Places};
use crate::publishing::Records;
use crate::source::Pattern;
use rustix::fs::OFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Time of the last change of the content, in nanoseconds.
    changed_ns: i128,
    size: u64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let changed_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { changed_ns, size: meta.len() }
    }
}

/// The files of a folder that fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing(BTreeMap<String, Stamp>);

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its name.
    pub name: String,
    stamp: Stamp,
}

impl Arrived {
    /// A digest of name, size and time: a file that is changed is another one.
    pub fn fingerprint(&self) -> String {
        let Stamp { changed_ns, size } = self.stamp;
        let text = format!("{}\0{changed_ns}\0{size}", self.name);
        hex::encode(&Digest::of(text.as_bytes()).as_bytes()[..12])
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Unavailable(format!("the folder {} cannot be read: {error}", path.display()))
}

/// Places for looks at folders: one for each folder, so that one that hangs is not looked at again and again.
pub type Looks = Places<PathBuf>;

/// Places for looks.
pub fn looks() -> Looks {
    Places::new(limits::FOLDER_LOOKS_MAX, 1, limits::FOLDER_LOOK_INTERVAL, "looks at folders")
}

/// Lists the files that fit, on a thread that may block: the folder may be on another machine, and not respond.
pub async fn list_apart(looks: &Looks, folder: &Folder, pattern: &Pattern) -> Result<Listing, Error> {
    let hangs = || Error::Unavailable(format!("the folder {} does not respond", folder.path.display()));
    let place = looks.take(&folder.path).await.map_err(|_| hangs())?;
    let (inner, pattern) = (folder.clone(), pattern.clone());
    let listing = tokio::task::spawn_blocking(move || {
        let _place = place;
        list(&inner, &pattern)
    });
    let listing = tokio::time::timeout(limits::FOLDER_LOOK_INTERVAL, listing).await.map_err(|_| hangs())?;
    listing.map_err(|error| Error::Internal(error.to_string()))?
}

/// Lists the files that fit.
fn list(folder: &Folder, pattern: &Pattern) -> Result<Listing, Error> {
    let failed = |error: io::Error| unreadable(&folder.path, &error);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder.path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !pattern.fits(&name) {
            continue;
        }
        match entry.metadata() {
            Ok(meta) if meta.is_file() => drop(found.insert(name, Stamp::of(&meta))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if found.len() > limits::FOLDER_FILES_MAX {
            let (path, max) = (folder.path.display(), limits::FOLDER_FILES_MAX);
            return Err(Error::Unavailable(format!(
                "{path} has more than {max} files that fit {}: move old ones away",
                pattern.as_str()
            )));
        }
    }
    Ok(Listing(found))
}

impl Listing {
    fn arrived(&self) -> Vec<Arrived> {
        let mut all: Vec<Arrived> =
            self.0.iter().map(|(name, stamp)| Arrived { name: name.clone(), stamp: *stamp }).collect();
        all.sort_by_key(|file| (file.stamp.changed_ns, file.name.clone()));
        all
    }

    /// Number of the files.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Fingerprints of all files except the one that was changed last.
    pub fn all_but_newest(&self) -> BTreeSet<String> {
        let mut all = self.arrived();
        all.pop();
        all.iter().map(Arrived::fingerprint).collect()
    }

    /// The oldest file that is not among `seen`.
    pub fn next(&self, seen: &BTreeSet<String>) -> Option<Arrived> {
        self.arrived().into_iter().find(|file| !seen.contains(&file.fingerprint()))
    }

    /// Whether a file is here in the same state.
    pub fn has(&self, file: &Arrived) -> bool {
        self.0.get(&file.name) == Some(&file.stamp)
    }

    /// Those of `seen` that are still here.
    pub fn still_here(&self, seen: &BTreeSet<String>) -> BTreeSet<String> {
        let here: BTreeSet<String> = self.arrived().iter().map(Arrived::fingerprint).collect();
        seen.intersection(&here).cloned().collect()
    }
}

/// A file while it is read. If it is changed meanwhile, reading fails: it may be half old and half new.
pub struct FileRecords {
    file: File,
    stamp: Stamp,
    read: u64,
    broken: Arc<AtomicBool>,
}

/// Opens a file of the folder as it was listed; `broken` becomes true if it is changed while it is read, or cannot be read.
pub fn open(folder: &Folder, arrived: &Arrived, broken: Arc<AtomicBool>) -> Result<FileRecords, Error> {
    let path = folder.path.join(&arrived.name);
    // No links to other files; and a pipe under this name does not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let opened = File::options().read(true).custom_flags(flags).open(&path);
    let opened = opened.and_then(|file| file.metadata().map(|meta| (file, meta)));
    let (file, meta) =
        opened.map_err(|error| Error::Unavailable(format!("{} cannot be read: {error}", arrived.name)))?;
    if !meta.is_file() || Stamp::of(&meta) != arrived.stamp {
        return Err(Error::Unavailable(format!("{} is being changed", arrived.name)));
    }
    Ok(FileRecords { file, stamp: arrived.stamp, read: 0, broken })
}

impl Read for FileRecords {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.try_read(buffer);
        if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.broken.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl FileRecords {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        let ended = read == 0 && !buffer.is_empty();
        if ended && (Stamp::of(&self.file.metadata()?) != self.stamp || self.read != self.stamp.size) {
            return Err(io::Error::other("the file was changed while it was read"));
        }
        Ok(read)
    }
}

impl Contents for FileRecords {}

impl Records for FileRecords {
    fn would_wait(&mut self) -> bool {
        false
    }
}
