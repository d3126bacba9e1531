//! Backup of a node's folder into one archive while the node runs, and restoring it. FORMATS.md, "Backup".
//!
//! The database is copied as one snapshot. Sealed bytes never change, so those that the snapshot refers to are copied
//! after it. The archive does not contain the key-encryption key, without which the backup cannot be decrypted.

use crate::assembly::files;
use crate::config::{self, Config};
use crate::core::digest::{Digest, Hasher};
use crate::core::id::ParticipantId;
use crate::core::json;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::durable::{make_folder, rename, sync_folder, write_whole};
use crate::storage::sqlite;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

/// The list of an archive's files. It is the last file, so that a truncated archive has none.
const LIST: &str = "backup.json";
const FORMAT: &str = "backup/1";

/// Contents of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// `backup/1`
    pub format: String,
    /// Participant id of the node.
    pub participant: ParticipantId,
    /// Time of the backup.
    pub made: Timestamp,
    /// Number of log entries.
    pub entries: u64,
    /// SHA-256 of every file, by name.
    pub files: BTreeMap<String, Digest>,
}

/// Error of a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] crate::storage::StoreError),
    /// The archive is not valid.
    #[error("the archive {path} is incomplete or not a backup: {reason}")]
    Archive {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> BackupError {
    BackupError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Hashes the bytes that are read through it.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Writes the archive of the node in `config`'s folder to `out`, which must not exist. `seen` receives the number of
/// bytes after each file.
pub fn make(config: &Config, out: &Path, now: Timestamp, seen: &dyn Fn(u64)) -> Result<Contents, BackupError> {
    if out.exists() {
        return Err(file_error(out, "the file already exists; a backup is never overwritten"));
    }
    let beside = behind(out, ".part");
    let snapshot = behind(out, ".snapshot");
    let made = write(config, &beside, &snapshot, now, seen);
    let _ = std::fs::remove_file(&snapshot);
    let renamed = made.and_then(|contents| {
        rename(&beside, out).map_err(|error| file_error(out, error))?;
        Ok(contents)
    });
    if renamed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    renamed
}

/// The path with `ending` appended to its file name.
fn behind(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Creates a file that only its owner may read, replacing the remains of an interrupted attempt.
fn create(path: &Path) -> Result<File, BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(path, error)),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| file_error(path, error))
}

fn write(
    config: &Config,
    out: &Path,
    snapshot: &Path,
    now: Timestamp,
    seen: &dyn Fn(u64),
) -> Result<Contents, BackupError> {
    let folder = &config.data;
    // SQLite keeps the mode of the empty file that it writes into.
    drop(create(snapshot)?);
    let state = sqlite::snapshot(&folder.join(sqlite::FILE), snapshot)?;
    let mut contents = Contents {
        format: FORMAT.into(),
        participant: config.participant.clone(),
        made: now,
        entries: state.entries,
        files: BTreeMap::new(),
    };
    let mut archive = tar::Builder::new(BufWriter::new(create(out)?));
    let mut add = |name: String, path: &Path| -> Result<(), BackupError> {
        let file = File::open(path).map_err(|error| file_error(path, error))?;
        let size = file.metadata().map_err(|error| file_error(path, error))?.len();
        let mut hashed = Hashed { inner: BufReader::with_capacity(1 << 20, file), hasher: Hasher::new() };
        archive.append_data(&mut header(size), &name, &mut hashed).map_err(|error| file_error(path, error))?;
        seen(size);
        contents.files.insert(name, hashed.hasher.finish());
        Ok(())
    };
    add(sqlite::FILE.into(), snapshot)?;
    for blob in &state.blobs {
        let name = format!("{}/{}", files::BLOBS, crate::blob::name_of(blob));
        add(name.clone(), &folder.join(name))?;
    }
    for holding in &state.holdings {
        let name = format!("{}/{holding}", files::RECEIVED);
        let path = folder.join(&name);
        // The bytes of a delivery that failed after the snapshot have been removed.
        if path.exists() {
            add(name, &path)?;
        }
    }
    for name in loose_files(folder)? {
        add(name.clone(), &folder.join(name))?;
    }
    let list = json::to_canonical(&contents);
    archive.append_data(&mut header(list.len() as u64), LIST, &list[..]).map_err(|error| file_error(out, error))?;
    let written = archive.into_inner().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
    written.and_then(|file| file.sync_all()).map_err(|error| file_error(out, error))?;
    Ok(contents)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o600);
    header
}

/// Names of the configuration, root document, certificates and wrapped keys in `folder`.
fn loose_files(folder: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = vec![config::FILE.to_owned(), files::ROOT.to_owned(), files::ROOT_FINGERPRINT.to_owned()];
    names.retain(|name| folder.join(name).exists());
    for (inside, ending) in [("", "pem"), (files::KEYS, "key")] {
        let path = folder.join(inside);
        for entry in std::fs::read_dir(&path).map_err(|error| file_error(&path, error))? {
            let name = entry.map_err(|error| file_error(&path, error))?.file_name();
            let name = Path::new(inside).join(name);
            if name.extension().is_some_and(|found| found == ending) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

/// Restores a node's folder from an archive after checking every digest; on an error, no folder is created. The node
/// stays read-only until its log has been compared with the checkpoints that the active peers hold of it.
pub fn restore(archive: &Path, folder: &Path, seen: &dyn Fn(u64)) -> Result<Contents, BackupError> {
    if folder.exists() {
        return Err(file_error(folder, "this path already exists; a backup is restored into a new folder"));
    }
    let beside = behind(folder, ".restoring");
    let _held = begin(&beside)?;
    let contents = unpack(archive, &beside, &|_| true, seen).and_then(|contents| {
        let marker = beside.join(files::RESTORED);
        write_whole(&marker, &json::to_canonical(&contents.made)).map_err(|error| file_error(&marker, error))?;
        rename(&beside, folder).map_err(|error| file_error(folder, error))?;
        // Only now: without it, an interrupted restore could not be given again. If it stays, it does no harm.
        let _ = std::fs::remove_file(folder.join(RESTORING));
        Ok(contents)
    });
    if contents.is_err() {
        let _ = std::fs::remove_dir_all(&beside);
    }
    let _ = std::fs::remove_file(behind(&beside, ".lock"));
    contents
}

/// Creates the folder of a restore, in place of one that an interrupted restore left, and locks it.
fn begin(folder: &Path) -> Result<File, BackupError> {
    let path = behind(folder, ".lock");
    let held = File::options().create(true).truncate(false).write(true).open(&path);
    let held = held.map_err(|error| file_error(&path, error))?;
    held.try_lock().map_err(|_| file_error(folder, "another restore into this folder is running"))?;
    if folder.exists() {
        let mut inside = std::fs::read_dir(folder).map_err(|error| file_error(folder, error))?;
        if inside.next().is_some() && !folder.join(RESTORING).exists() {
            return Err(file_error(folder, "this folder is not left from a restore; move it to another place"));
        }
        std::fs::remove_dir_all(folder).map_err(|error| file_error(folder, error))?;
    }
    let marker = folder.join(RESTORING);
    make_folder(folder).map_err(|error| file_error(folder, error))?;
    // It is there before anything else is, under this name alone.
    let marked = File::create(&marker).and_then(|_| sync_folder(folder));
    marked.map_err(|error| file_error(&marker, error))?;
    Ok(held)
}

/// Marks a folder that a restore has begun.
const RESTORING: &str = "restoring";

/// Unpacks what the verification of a log needs: the database and the root document, with their digests checked.
pub fn unpack_log(archive: &Path, folder: &Path) -> Result<(), BackupError> {
    unpack(archive, folder, &|name| [sqlite::FILE, files::ROOT].contains(&name), &|_| {}).map(drop)
}

/// Unpacks the files that are `wanted`, and checks them against the archive's list.
fn unpack(
    archive: &Path,
    folder: &Path,
    wanted: &dyn Fn(&str) -> bool,
    seen: &dyn Fn(u64),
) -> Result<Contents, BackupError> {
    let broken = |reason: String| BackupError::Archive { path: archive.to_owned(), reason };
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    make_folder(folder)
        .and_then(|()| std::fs::set_permissions(folder, private))
        .map_err(|error| file_error(folder, error))?;
    let file = File::open(archive).map_err(|error| file_error(archive, error))?;
    let mut reader = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let (mut found, mut contents) = (BTreeMap::new(), None);
    for entry in reader.entries().map_err(|error| broken(error.to_string()))? {
        let unreadable = |_| broken("it is not an archive, or it is damaged or incomplete".into());
        let entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(|error| broken(error.to_string()))?.to_path_buf();
        // The archive is untrusted: it may hold only regular files with names below the folder.
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        let text = name.to_str().map(str::to_owned).filter(|_| plain && entry.header().entry_type().is_file());
        let text = text.ok_or_else(|| broken(format!("`{}` is not a plain file name", name.display())))?;
        if contents.is_some() || found.contains_key(&text) {
            return Err(broken(format!("`{text}` is there twice or follows the archive's list")));
        }
        if text == LIST {
            let mut list = Vec::new();
            entry
                .take(limits::BACKUP_LIST_BYTES_MAX)
                .read_to_end(&mut list)
                .map_err(|error| broken(error.to_string()))?;
            contents = Some(json::read::<Contents>(&list).map_err(|error| broken(error.to_string()))?);
            continue;
        }
        if !wanted(&text) {
            continue;
        }
        let size = entry.size();
        let digest = put(entry, &folder.join(&name)).map_err(|error| file_error(&name, error))?;
        seen(size);
        found.insert(text, digest);
    }
    let contents = contents.ok_or_else(|| broken("its list is missing; it was truncated".into()))?;
    if contents.format != FORMAT {
        return Err(broken(format!("its format is `{}`, expected {FORMAT}", contents.format)));
    }
    let listed = || contents.files.iter().filter(|(name, _)| wanted(name));
    if let Some((name, _)) = listed().find(|(name, digest)| found.get(*name) != Some(digest)) {
        return Err(broken(format!("`{name}` is missing or was altered")));
    }
    if found.len() != listed().count() {
        return Err(broken("it contains files that are not in its list".into()));
    }
    Ok(contents)
}

fn put(mut entry: impl Read, path: &Path) -> io::Result<Digest> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let mut options = File::options();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut hashed = Hashed { inner: &mut entry, hasher: Hasher::new() };
    io::copy(&mut hashed, &mut file)?;
    file.flush()?;
    file.sync_all()?;
    sync_folder(folder)?;
    Ok(hashed.hasher.finish())
}
