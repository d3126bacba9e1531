//! Sealed containers in a local folder; it only ever contains ciphertext.
//!
//! A blob is written to a temporary file, fsynced and renamed, and then the folder is fsynced, so that it is either
//! complete or absent. Remains of interrupted publications are removed at startup; interrupted downloads are resumed.

mod space;

pub use space::{Measure, Promised, Space, TooFull};

use crate::core::digest::{Digest, Hasher};
use crate::durable::{make_folder, sync_folder};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A folder of blobs.
#[derive(Clone)]
pub struct Blobs {
    folder: PathBuf,
    space: Arc<Space>,
    /// Partial downloads of an earlier run: after a loss of power, any of their bytes may be missing.
    doubtful: Arc<Mutex<HashSet<String>>>,
    /// Temporary files made so far.
    scratches: Arc<AtomicU64>,
}

/// The name of a blob that this node sealed: the hexadecimal digest.
pub fn name_of(digest: &Digest) -> String {
    hex::encode(digest.as_bytes())
}

/// Bytes copied in one step.
const SPOOL_PIECE_BYTES: usize = 256 * 1024;

/// A blob being written; it is removed if dropped before [`Blobs::keep`].
pub struct Writing {
    file: File,
    path: PathBuf,
    kept: bool,
    space: Checked,
}

/// Bytes written since the free space was checked.
struct Checked {
    space: Arc<Space>,
    step: u64,
    bytes: u64,
}

impl Checked {
    /// Fails if these bytes would use the reserve of the disk.
    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes as u64;
        if self.bytes >= self.step {
            self.bytes = 0;
            self.space.check()?;
        }
        Ok(())
    }
}

impl Blobs {
    /// Opens the folder, creates it if necessary and removes the remains of interrupted publications. `space` is that of
    /// its disk.
    pub fn open(folder: &Path, space: &Arc<Space>) -> io::Result<Self> {
        make_folder(&folder.join("parts"))?;
        let blobs = Self {
            folder: folder.to_owned(),
            space: space.clone(),
            doubtful: Arc::default(),
            scratches: Arc::default(),
        };
        blobs.doubtful.lock().unwrap_or_else(PoisonError::into_inner).extend(blobs.parts()?);
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "new") {
                fs::remove_file(path)?;
            }
        }
        Ok(blobs)
    }

    /// The space of its disk.
    pub fn space(&self) -> &Space {
        &self.space
    }

    fn checked(&self) -> Checked {
        Checked { space: self.space.clone(), step: self.space.step(), bytes: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives a blob another name if its digest is `expected`, so that it is stored once; false if that is not possible,
    /// for example on a file system without hard links.
    pub fn share(&self, name: &str, other: &str, expected: &Digest) -> io::Result<bool> {
        let same = self.has(name) && digest_of(&self.path(name))? == *expected;
        if !same || fs::hard_link(self.path(name), self.path(other)).is_err() {
            return Ok(false);
        }
        // An interrupted download of the same bytes is no longer needed.
        let _ = fs::remove_file(self.folder.join("parts").join(other));
        sync_folder(&self.folder).map(|()| true)
    }

    /// Starts a blob; `name` must not be in use.
    pub fn create(&self, name: &str) -> io::Result<Writing> {
        self.space.check()?;
        let path = self.folder.join(format!("{name}.new"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Writing { file, path, kept: false, space: self.checked() })
    }

    /// Makes a written blob permanent under `name`.
    pub fn keep(&self, mut writing: Writing, name: &str) -> io::Result<()> {
        writing.file.sync_all()?;
        fs::rename(&writing.path, self.path(name))?;
        writing.kept = true;
        sync_folder(&self.folder)
    }

    /// A temporary file, which has no name and so disappears when it is closed.
    pub fn scratch(&self) -> io::Result<File> {
        self.space.check()?;
        let path = self.folder.join(format!("{:x}.new", self.scratches.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// A temporary file with what `source` has.
    pub fn spool(&self, source: &mut dyn Read) -> io::Result<File> {
        let (mut file, mut space) = (self.scratch()?, self.checked());
        let mut piece = vec![0; SPOOL_PIECE_BYTES];
        loop {
            let read = source.read(&mut piece)?;
            if read == 0 {
                file.rewind()?;
                return Ok(file);
            }
            space.add(read)?;
            file.write_all(&piece[..read])?;
        }
    }

    /// Opens a blob for reading.
    pub fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    /// Reads a range; the result is shorter only at the end of the blob.
    pub fn range(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// Removes a blob and its partial download, if present.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        for path in [self.path(name), self.folder.join("parts").join(name)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_folder(&self.folder)
    }

    /// Whether the blob exists.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The names of all partial downloads.
    pub fn parts(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.folder.join("parts"))?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    /// The names of all complete blobs.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    /// Opens a partial download and keeps its content.
    pub fn part(&self, name: &str) -> io::Result<Part> {
        let path = self.folder.join("parts").join(name);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let size = file.metadata()?.len();
        let doubtful = size > 0 && self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
        Ok(Part { file, path, size, doubtful, space: self.checked() })
    }

    /// Makes a complete download permanent under `name` if its digest is `expected`; otherwise removes it.
    pub fn keep_part(&self, part: Part, name: &str, expected: &Digest) -> io::Result<Result<(), Mismatch>> {
        let found = digest_of(&part.path)?;
        if found != *expected {
            fs::remove_file(&part.path)?;
            self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            return Ok(Err(if part.doubtful { Mismatch::Interrupted } else { Mismatch::Digest(found) }));
        }
        part.file.sync_all()?;
        fs::rename(&part.path, self.path(name))?;
        sync_folder(&self.folder).map(Ok)
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.space.add(bytes.len())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails, the file is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a complete download is not what was expected.
#[derive(Debug, PartialEq)]
pub enum Mismatch {
    /// It continued one of an earlier run, whose bytes may have been lost.
    Interrupted,
    /// It has this digest.
    Digest(Digest),
}

/// A partial download.
pub struct Part {
    file: File,
    path: PathBuf,
    size: u64,
    doubtful: bool,
    space: Checked,
}

impl Part {
    /// Bytes downloaded so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.space.add(bytes.len())?;
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Discards the content, which belongs to another download.
    pub fn restart(&mut self) -> io::Result<()> {
        self.size = 0;
        self.doubtful = false;
        self.file.set_len(0)
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), &Arc::new(Space::new(folder.path(), 0))).unwrap();
        let digest = Digest::of(b"sealed");
        let mut writing = blobs.create("a").unwrap();
        writing.write_all(b"sealed").unwrap();
        let name = name_of(&digest);
        assert!(!blobs.has(&name));
        blobs.keep(writing, &name).unwrap();
        assert_eq!(Blobs::range(&blobs.read(&name).unwrap(), 2, 100).unwrap(), b"aled");
        drop(blobs.create("b").unwrap());
        std::mem::forget(blobs.create("crashed").unwrap());
        Blobs::open(folder.path(), &Arc::new(Space::new(folder.path(), 0))).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        blobs.remove(&name).unwrap();
        assert!(!blobs.has(&name));
    }

    #[test]
    fn downloads_continue_and_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), &Arc::new(Space::new(folder.path(), 0))).unwrap();
        blobs.part("x").unwrap().append(b"sea").unwrap();
        blobs.part("y").unwrap().append(b"\0\0\0").unwrap();
        let blobs = Blobs::open(folder.path(), &Arc::new(Space::new(folder.path(), 0))).unwrap();
        let mut part = blobs.part("x").unwrap();
        assert_eq!(part.size(), 3);
        part.append(b"led").unwrap();
        let sealed = Digest::of(b"sealed");
        assert_eq!(blobs.keep_part(part, "x", &sealed).unwrap(), Ok(()));
        // Bytes of an earlier run that were lost do not speak against the provider; those of this run do.
        for (lost, expected) in [(true, Mismatch::Interrupted), (false, Mismatch::Digest(Digest::of(b"forged")))] {
            let mut part = blobs.part("y").unwrap();
            part.append(if lost { b"led" } else { b"forged" }).unwrap();
            assert_eq!(blobs.keep_part(part, "y", &sealed).unwrap(), Err(expected));
            assert_eq!(blobs.part("y").unwrap().size(), 0);
        }
    }
}
