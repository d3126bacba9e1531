//! The key-encryption key, without which the secrets in a copied data folder cannot be decrypted.

use crate::core::digest::{Digest, derive_key};
use crate::core::random::{self, Random};
use crate::durable::{create_private, replace_private};
use crate::identity::key::{base64url, from_base64url};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Wraps secrets with AES-256-GCM under a key derived from the key-encryption key. During a change of the
/// key-encryption key it also unwraps secrets that were wrapped under the previous one.
pub struct Kek {
    current: WrappingKey,
    previous: Vec<WrappingKey>,
}

struct WrappingKey {
    id: String,
    key: LessSafeKey,
    tokens: Zeroizing<[u8; 32]>,
}

/// The location to which a wrapped secret is bound; it does not unwrap for any other location.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Table or kind of file.
    pub table: &'a str,
    /// Row.
    pub row: &'a str,
    /// Column.
    pub column: &'a str,
}

/// Why the key-encryption key cannot be loaded, or a secret cannot be unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The file cannot be read, written or parsed.
    #[error("the key-encryption key {path}: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The secret was wrapped under another key, altered or moved.
    #[error(
        "the key-encryption key does not decrypt {secret}, which needs the key {needed}: it belongs to another node, or has been changed since (`rotate-kek` keeps the old one in a file that ends with .{needed})"
    )]
    Unwrap {
        /// The secret.
        secret: String,
        /// Id of the key that it was wrapped under.
        needed: String,
    },
}

const NONCE_BYTES: usize = 12;

impl Kek {
    /// Generates a key and writes it to `path`, readable only by the owner. Fails if the file exists.
    pub fn create(path: &Path, random: &dyn Random) -> Result<Self, KekError> {
        let line = new_line(random);
        create_private(path, line.as_bytes()).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                file_error(path, "it exists already, and what it opens needs it: choose another file with --kek-file")
            }
            _ => file_error(path, error),
        })?;
        Self::load(path)
    }

    /// Reads the key from `path`. Rejects a file that others may read. The first line is the current key; further lines
    /// are previous keys, present only during a change of the key.
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let text = read_private(path)?;
        let mut keys = Vec::new();
        for line in text.lines() {
            let bytes = from_base64url(line.trim()).map(Zeroizing::new);
            let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
            let secret = secret.ok_or_else(|| file_error(path, "each line must be 32 bytes in base64url"))?;
            keys.push(WrappingKey::from_secret(&secret));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or_else(|| file_error(path, "it is empty"))?;
        Ok(Self { current, previous: keys.collect() })
    }

    /// Inserts a new key before the one in `path`: secrets are wrapped under the new key, and unwrapped with either. If
    /// a previous change was interrupted, it continues with the key generated then.
    pub fn begin_change(path: &Path, random: &dyn Random) -> Result<Self, KekError> {
        let text = read_private(path)?;
        if text.lines().count() == 1 {
            let both = Zeroizing::new(format!("{}{}", new_line(random).as_str(), text.as_str()));
            replace_private(path, both.as_bytes()).map_err(|error| file_error(path, error))?;
        }
        Self::load(path)
    }

    /// Removes the previous key, after all secrets were wrapped again, and keeps it in a file of its own, named after
    /// the key's id, since earlier backups open only with it. Returns that file.
    pub fn end_change(path: &Path) -> Result<PathBuf, KekError> {
        let text = read_private(path)?;
        let mut keys = text.lines().map(|line| Zeroizing::new(format!("{line}\n")));
        let missing = || file_error(path, "it contains no previous key");
        let (current, previous) = keys.next().zip(keys.next()).ok_or_else(missing)?;
        let kept = Self::load(path)?.previous.first().map(|key| format!("{}.{}", path.display(), key.id));
        let kept = PathBuf::from(kept.ok_or_else(missing)?);
        // An interrupted change may have written it already.
        if !kept.exists() {
            create_private(&kept, previous.as_bytes()).map_err(|error| file_error(&kept, error))?;
        }
        replace_private(path, current.as_bytes()).map_err(|error| file_error(path, error))?;
        Ok(kept)
    }

    /// The default key from which transfer tokens are derived, if the node's folder has no separate one. Tokens are
    /// derived when needed and are not stored. During a change this is the previous key's, so that issued tokens remain
    /// valid.
    pub fn token_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.previous.last().unwrap_or(&self.current).tokens
    }

    /// An identifier of the key that does not reveal it.
    pub fn id(&self) -> &str {
        &self.current.id
    }

    /// Wraps a secret: `ID.base64url(nonce || ciphertext)`.
    pub fn wrap(&self, cell: Cell<'_>, secret: &[u8], random: &dyn Random) -> String {
        let nonce = random::bytes::<NONCE_BYTES>(random);
        let mut sealed = secret.to_vec();
        let aad = Aad::from(self.current.aad(cell));
        self.current
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("AES-GCM encrypts any message that fits into memory");
        format!("{}.{}", self.current.id, base64url(&[&nonce[..], &sealed].concat()))
    }

    /// Unwraps a secret.
    pub fn unwrap(&self, cell: Cell<'_>, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let needed = || wrapped.split('.').next().unwrap_or_default().chars().take(8).collect();
        let error = || KekError::Unwrap { secret: format!("{} {}", cell.table, cell.row), needed: needed() };
        let (id, encoded) = wrapped.split_once('.').ok_or_else(error)?;
        let mut bytes = Zeroizing::new(from_base64url(encoded).ok_or_else(error)?);
        let key = std::iter::once(&self.current).chain(&self.previous).find(|key| key.id == id).ok_or_else(error)?;
        if bytes.len() < NONCE_BYTES {
            return Err(error());
        }
        let nonce = Nonce::try_assume_unique_for_key(&bytes[..NONCE_BYTES]).map_err(|_| error())?;
        let opened =
            key.key.open_within(nonce, Aad::from(key.aad(cell)), &mut bytes, NONCE_BYTES..).map_err(|_| error())?;
        Ok(Zeroizing::new(opened.to_vec()))
    }

    /// Wraps a secret under the current key; `None` if it already is.
    pub fn rewrap(&self, cell: Cell<'_>, wrapped: &str, random: &dyn Random) -> Result<Option<String>, KekError> {
        if wrapped.split_once('.').is_some_and(|(id, _)| id == self.current.id) {
            return Ok(None);
        }
        let secret = self.unwrap(cell, wrapped)?;
        Ok(Some(self.wrap(cell, &secret, random)))
    }
}

impl WrappingKey {
    fn from_secret(secret: &Zeroizing<[u8; 32]>) -> Self {
        let derived = Zeroizing::new(derive_key(secret, "crosspark/wrap/v1"));
        let id = Digest::labelled("crosspark/kek-id/v1", &[&derived[..]]);
        let key = UnboundKey::new(&AES_256_GCM, &derived[..]).expect("32 bytes are an AES-256 key");
        let tokens = Zeroizing::new(derive_key(secret, "crosspark/transfer-token/v1"));
        Self { id: hex::encode(&id.as_bytes()[..4]), key: LessSafeKey::new(key), tokens }
    }

    fn aad(&self, cell: Cell<'_>) -> Vec<u8> {
        [self.id.as_str(), cell.table, cell.row, cell.column, "1"].join("\0").into_bytes()
    }
}

fn new_line(random: &dyn Random) -> Zeroizing<String> {
    let secret = Zeroizing::new(random::bytes::<32>(random));
    Zeroizing::new(format!("{}\n", base64url(&secret[..])))
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> KekError {
    KekError::File { path: path.to_owned(), reason: error.to_string() }
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KekError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(|e| file_error(path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(file_error(path, "other users may read it; run chmod 600"));
        }
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| file_error(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::random::SystemRandomness;

    #[test]
    fn opens_only_in_its_place_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (path, random) = (folder.path().join("kek"), SystemRandomness::new());
        let kek = Kek::create(&path, &random).unwrap();
        assert!(Kek::create(&path, &random).is_err(), "never overwrites");
        let cell = Cell { table: "t", row: "r", column: "c" };
        let wrapped = kek.wrap(cell, b"secret", &random);
        assert_eq!(&Kek::load(&path).unwrap().unwrap(cell, &wrapped).unwrap()[..], b"secret");
        assert!(kek.unwrap(Cell { row: "s", ..cell }, &wrapped).is_err());
        let other = Kek::create(&folder.path().join("other"), &random).unwrap();
        assert!(other.unwrap(cell, &wrapped).is_err());
        assert!(kek.unwrap(cell, &wrapped[..wrapped.len() - 2]).is_err());
        // During a change, old secrets still unwrap and are wrapped again; after it, only the new key unwraps.
        let tokens = kek.token_key().clone();
        let changing = Kek::begin_change(&path, &random).unwrap();
        assert_eq!(Kek::begin_change(&path, &random).unwrap().id(), changing.id(), "an interrupted change continues");
        assert_eq!((changing.token_key(), changing.id() == kek.id()), (&tokens, false));
        let rewrapped = changing.rewrap(cell, &wrapped, &random).unwrap().unwrap();
        assert_eq!(changing.rewrap(cell, &rewrapped, &random).unwrap(), None);
        assert!(changing.unwrap(cell, &wrapped).is_ok() && kek.unwrap(cell, &rewrapped).is_err());
        let kept = Kek::end_change(&path).unwrap();
        assert!(Kek::load(&kept).unwrap().unwrap(cell, &wrapped).is_ok(), "the previous key is kept");
        assert!(Kek::end_change(&path).is_err(), "there is no previous key any more");
        let changed = Kek::load(&path).unwrap();
        assert!(changed.unwrap(cell, &rewrapped).is_ok() && changed.unwrap(cell, &wrapped).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(Kek::load(&path).is_err());
        }
    }
}
