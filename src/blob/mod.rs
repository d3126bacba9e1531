//! Sealed bytes in a local folder. Only ciphertext is ever here.
//!
//! A blob is written beside its place, fsynced, renamed, and the folder fsynced: it is either whole or absent. What a
//! crash left half-made is swept at start; a download keeps its part and goes on.

use crate::core::digest::{Digest, Hasher};
use crate::durable::sync_folder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

/// The name of a blob that this node sealed: its digest.
pub fn name_of(digest: &Digest) -> String {
    hex::encode(digest.as_bytes())
}

/// A blob that is being written; dropped without [`Writing::keep`], it leaves nothing.
pub struct Writing {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Blobs {
    /// Opens the folder, making it where it is absent, and sweeps publications that were interrupted.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join("parts"))?;
        let blobs = Self { folder: folder.to_owned() };
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "new") {
                fs::remove_file(path)?;
            }
        }
        Ok(blobs)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Begins a blob; `name` must be new.
    pub fn create(&self, name: &str) -> io::Result<Writing> {
        let path = self.folder.join(format!("{name}.new"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Writing { file, path, kept: false })
    }

    /// Makes a written blob permanent under `name`.
    pub fn keep(&self, mut writing: Writing, name: &str) -> io::Result<()> {
        writing.file.sync_all()?;
        fs::rename(&writing.path, self.path(name))?;
        writing.kept = true;
        sync_folder(&self.folder)
    }

    /// Opens a blob to read.
    pub fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    /// Reads a range; shorter only where the blob ends.
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

    /// Removes a blob and the part of its download, if they are there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        for path in [self.path(name), self.folder.join("parts").join(name)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_folder(&self.folder)
    }

    /// Whether a blob is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Free and total bytes of the file system that the folder is on.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        let found = rustix::fs::statvfs(&self.folder)?;
        Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
    }

    /// The names of all whole blobs.
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

    /// Opens the part of a download: what is there already is kept.
    pub fn part(&self, name: &str) -> io::Result<Part> {
        let path = self.folder.join("parts").join(name);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Part { file, path, size })
    }

    /// Makes a complete download permanent under `name`, if its digest is `expected`; else removes it and tells the
    /// digest found.
    pub fn keep_part(&self, part: Part, name: &str, expected: &Digest) -> io::Result<Result<(), Digest>> {
        let found = part.digest()?;
        if found != *expected {
            fs::remove_file(&part.path)?;
            return Ok(Err(found));
        }
        part.file.sync_all()?;
        fs::rename(&part.path, self.path(name))?;
        sync_folder(&self.folder).map(Ok)
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // At worst the sweep at the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A download under way.
pub struct Part {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Part {
    /// Bytes that are there.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Drops what is there: it belongs to something else.
    pub fn restart(&mut self) -> io::Result<()> {
        self.size = 0;
        self.file.set_len(0)
    }

    fn digest(&self) -> io::Result<Digest> {
        let mut file = File::open(&self.path)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                read => hasher.update(&buffer[..read]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = Digest::of(b"sealed");
        let mut writing = blobs.create("a").unwrap();
        writing.write_all(b"sealed").unwrap();
        let name = name_of(&digest);
        assert!(!blobs.has(&name));
        blobs.keep(writing, &name).unwrap();
        assert_eq!(Blobs::range(&blobs.read(&name).unwrap(), 2, 100).unwrap(), b"aled");
        drop(blobs.create("b").unwrap());
        std::mem::forget(blobs.create("crashed").unwrap());
        Blobs::open(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        blobs.remove(&name).unwrap();
        assert!(!blobs.has(&name));
    }

    #[test]
    fn downloads_go_on_and_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        blobs.part("x").unwrap().append(b"sea").unwrap();
        let mut part = Blobs::open(folder.path()).unwrap().part("x").unwrap();
        assert_eq!(part.size(), 3);
        part.append(b"led").unwrap();
        assert_eq!(blobs.keep_part(part, "z", &Digest::of(b"sealed")).unwrap(), Ok(()));
        let mut part = blobs.part("y").unwrap();
        part.append(b"forged").unwrap();
        assert_eq!(blobs.keep_part(part, "z", &Digest::of(b"sealed")).unwrap(), Err(Digest::of(b"forged")));
        assert_eq!(blobs.part("y").unwrap().size(), 0);
    }
}
