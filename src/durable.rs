//! Changes of files and folders that are atomic, and durable when the function returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => sync_folder(folder),
        None => sync_folder(Path::new(".")),
    }
}

/// Makes renames and removals in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder and those above it that do not exist.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        make_folder(above)?;
    }
    match fs::create_dir(path) {
        // Another attempt created it, and may have been interrupted before the sync.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            let _ = sync_parent(path);
            Ok(())
        }
        made => made.and_then(|()| sync_parent(path)),
    }
}

/// Renames a file or folder.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let beside = beside(path);
    // A leftover of a crash may be a second hard link to the target, so it is removed and never written to.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(beside)
}

/// Writes a file atomically: to a temporary file, fsynced, then renamed over the target.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, bytes, 0o644)?;
    rename(&beside, path)
}

/// Atomically replaces a file that only its owner may read.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, bytes, 0o600)?;
    rename(&beside, path)
}

/// Creates a file that only its owner may read; fails if it exists.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, bytes, 0o600)?;
    // A hard link, unlike a rename, fails if the target exists.
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    linked?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"one").unwrap();
        assert_eq!(create_private(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        // A leftover of a crash does no harm, whether it is a partial file or a second link to the complete one.
        fs::hard_link(&path, folder.path().join("key.new")).unwrap();
        assert!(create_private(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        fs::write(folder.path().join("key.new"), "half").unwrap();
        replace_private(&path, b"three").unwrap();
        write_whole(&folder.path().join("other"), b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
