//! A private key in a file of its own: 0600, wrapped under the key-encryption key.

use super::kek::{Kek, KekError, Place};
use crate::core::id::KeyId;
use crate::core::json;
use crate::core::random::Random;
use crate::identity::key::KeyUse;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A wrapped private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// `key-file/1`
    pub format: String,
    /// Its name.
    pub id: KeyId,
    /// What it signs: one of [`KeyUse`], or `root`, `register`, `ca` in an alliance's folder.
    #[serde(rename = "use")]
    pub usage: String,
    /// The wrapped secret: an Ed25519 seed, or PKCS#8.
    pub wrapped: String,
}

/// Why a key file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file.
    #[error("key file {path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The wrapping.
    #[error("key file {path}: {source}")]
    Kek {
        /// Where.
        path: PathBuf,
        /// Why.
        source: KekError,
    },
}

/// Creates a file with `bytes` that only its owner may read; never overwrites; durable when it returns.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
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
        let place = Place { table: "key-file", row: id.as_str(), column: usage };
        let wrapped = kek.wrap(place, secret, random);
        let file = Self { format: "key-file/1".into(), id: id.clone(), usage: usage.to_owned(), wrapped };
        create_private(path, &json::to_canonical(&file))
            .map_err(|error| KeyFileError::File { path: path.to_owned(), reason: error.to_string() })
    }

    /// Reads and unwraps a key of the given use: its name and its secret.
    pub fn load(path: &Path, usage: &str, kek: &Kek) -> Result<(KeyId, Zeroizing<Vec<u8>>), KeyFileError> {
        let fail = |reason: String| KeyFileError::File { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let file: Self = json::read(&bytes).map_err(|error| fail(error.to_string()))?;
        if file.format != "key-file/1" || file.usage != usage {
            return Err(fail(format!("expected a key for `{usage}`, found `{}`", file.usage)));
        }
        let place = Place { table: "key-file", row: file.id.as_str(), column: usage };
        let secret =
            kek.unwrap(place, &file.wrapped).map_err(|source| KeyFileError::Kek { path: path.to_owned(), source })?;
        Ok((file.id, secret))
    }
}

impl KeyUse {
    /// Its name in key files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Document => "document",
            Self::Log => "log",
            Self::Witness => "witness",
        }
    }
}
