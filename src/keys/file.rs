//! Private key files: one key per file, mode 0600, wrapped under the key-encryption key.

use super::kek::{Cell, Kek, KekError};
use crate::core::id::KeyId;
use crate::core::json;
use crate::core::random::Random;
use crate::durable::{create_private, replace_private};
use crate::identity::key::KeyUse;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A wrapped private key as stored in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// `key-file/1`
    pub format: String,
    /// Identifier of the key.
    pub id: KeyId,
    /// Use of the key: a [`KeyUse`], or `root`, `register` or `ca` in an alliance's folder.
    #[serde(rename = "use")]
    pub usage: String,
    /// The wrapped secret: an Ed25519 seed, or PKCS#8.
    pub wrapped: String,
}

/// A key's identifier and its secret.
pub type Unwrapped = (KeyId, Zeroizing<Vec<u8>>);

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read, written or parsed.
    #[error("key file {path}: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The secret cannot be unwrapped.
    #[error("key file {path}: {source}")]
    Kek {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: KekError,
    },
}

impl KeyFile {
    /// Wraps `secret` and writes it to a new file.
    pub fn create(
        path: &Path,
        id: &KeyId,
        usage: &str,
        secret: &[u8],
        kek: &Kek,
        random: &dyn Random,
    ) -> Result<(), KeyFileError> {
        let cell = Cell { table: "key-file", row: id.as_str(), column: usage };
        let wrapped = kek.wrap(cell, secret, random);
        let file = Self { format: "key-file/1".into(), id: id.clone(), usage: usage.to_owned(), wrapped };
        create_private(path, &json::to_canonical(&file))
            .map_err(|error| KeyFileError::File { path: path.to_owned(), reason: error.to_string() })
    }

    /// Wraps `secret` and writes it to a new file in a folder of keys: `USE.key`, or `USE-N.key` if the former exists.
    pub fn add(
        folder: &Path,
        id: &KeyId,
        usage: &str,
        secret: &[u8],
        kek: &Kek,
        random: &dyn Random,
    ) -> Result<(), KeyFileError> {
        let first = folder.join(format!("{usage}.key"));
        let path = if first.exists() { folder.join(format!("{usage}-{}.key", id.number())) } else { first };
        Self::create(&path, id, usage, secret, kek, random)
    }

    /// All keys of one use in a folder, sorted by number.
    pub fn all(folder: &Path, usage: &str, kek: &Kek) -> Result<Vec<Unwrapped>, KeyFileError> {
        let mut keys = Vec::new();
        for path in paths(folder)? {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if name == usage || name.strip_prefix(usage).is_some_and(|rest| rest.starts_with('-')) {
                keys.push(Self::load(&path, usage, kek)?);
            }
        }
        keys.sort_by_key(|(id, _)| id.number());
        Ok(keys)
    }

    /// The highest key number in the folder.
    pub fn highest(folder: &Path) -> Result<u32, KeyFileError> {
        let mut highest = 0;
        for path in paths(folder)? {
            highest = highest.max(Self::read(&path)?.id.number());
        }
        Ok(highest)
    }

    /// The number of the key in a file, or `None` if it cannot be read.
    pub fn number_of(path: &Path) -> Option<u32> {
        Self::read(path).ok().map(|file| file.id.number())
    }

    /// Wraps every key of the folder under the current key-encryption key and returns the number of changed files.
    /// Files already wrapped under it remain unchanged.
    pub fn rewrap_all(folder: &Path, kek: &Kek, random: &dyn Random) -> Result<usize, KeyFileError> {
        let mut count = 0;
        for path in paths(folder)? {
            let mut file = Self::read(&path)?;
            let usage = file.usage.clone();
            let cell = Cell { table: "key-file", row: file.id.as_str(), column: &usage };
            let rewrapped = kek.rewrap(cell, &file.wrapped, random);
            let rewrapped = rewrapped.map_err(|source| KeyFileError::Kek { path: path.clone(), source })?;
            if let Some(wrapped) = rewrapped {
                file.wrapped = wrapped;
                let written = replace_private(&path, &json::to_canonical(&file));
                written.map_err(|error| KeyFileError::File { path: path.clone(), reason: error.to_string() })?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn read(path: &Path) -> Result<Self, KeyFileError> {
        let fail = |reason: String| KeyFileError::File { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        json::read(&bytes).map_err(|error| fail(error.to_string()))
    }

    /// Reads and unwraps a key, which must have the given use.
    pub fn load(path: &Path, usage: &str, kek: &Kek) -> Result<Unwrapped, KeyFileError> {
        let fail = |reason: String| KeyFileError::File { path: path.to_owned(), reason };
        let file = Self::read(path)?;
        if file.format != "key-file/1" || file.usage != usage {
            return Err(fail(format!("expected a key for `{usage}`, found `{}`", file.usage)));
        }
        let cell = Cell { table: "key-file", row: file.id.as_str(), column: usage };
        let secret =
            kek.unwrap(cell, &file.wrapped).map_err(|source| KeyFileError::Kek { path: path.to_owned(), source })?;
        Ok((file.id, secret))
    }
}

/// The key files of a folder.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
    let fail = |error: std::io::Error| KeyFileError::File { path: folder.to_owned(), reason: error.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|ending| ending == "key") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl KeyUse {
    /// The name in key files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Document => "document",
            Self::Log => "log",
            Self::Witness => "witness",
        }
    }
}
