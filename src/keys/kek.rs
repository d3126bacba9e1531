//! The key-encryption key: without it, a copied data folder opens nothing.

use crate::core::digest::{Digest, derive_key};
use crate::core::random::{self, Random};
use crate::durable::{create_private, replace_private};
use crate::identity::key::{base64url, from_base64url};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Wraps secrets with AES-256-GCM under a key derived from the key-encryption key. While the key-encryption key is being
/// changed, what the one before wrapped opens as well.
pub struct Kek {
    current: WrappingKey,
    previous: Vec<WrappingKey>,
}

struct WrappingKey {
    id: String,
    key: LessSafeKey,
    tokens: Zeroizing<[u8; 32]>,
}

/// What a wrapped secret is bound to: moving it elsewhere makes it useless.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Table or kind of file.
    pub table: &'a str,
    /// Row.
    pub row: &'a str,
    /// Column.
    pub column: &'a str,
}

/// Why there is no key-encryption key, or a secret does not open.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The file.
    #[error("the key-encryption key {path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Wrapped under another key, altered, or moved.
    #[error("a secret in {0} does not open with this key-encryption key")]
    Unwrap(String),
}

const NONCE_BYTES: usize = 12;

impl Kek {
    /// Makes a new key and writes it to `path`, readable by its owner alone. Never overwrites.
    pub fn create(path: &Path, random: &dyn Random) -> Result<Self, KekError> {
        let line = new_line(random);
        create_private(path, line.as_bytes()).map_err(|error| file_error(path, error))?;
        Self::load(path)
    }

    /// Reads the key from `path`. Refuses a file that others may read. The first line is the key; further lines are the
    /// ones before it, there while a change of the key is under way.
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let text = read_private(path)?;
        let mut keys = Vec::new();
        for line in text.lines() {
            let bytes = from_base64url(line.trim()).map(Zeroizing::new);
            let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
            let secret = secret.ok_or_else(|| file_error(path, "it must hold 32 bytes as base64url"))?;
            keys.push(WrappingKey::from_secret(&secret));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or_else(|| file_error(path, "it is empty"))?;
        Ok(Self { current, previous: keys.collect() })
    }

    /// Puts a new key before the one in `path`: from now on secrets are wrapped under the new one, and both open. A change
    /// that was interrupted goes on with the new key that it made.
    pub fn begin_change(path: &Path, random: &dyn Random) -> Result<Self, KekError> {
        let text = read_private(path)?;
        if text.lines().count() == 1 {
            let both = Zeroizing::new(format!("{}{}", new_line(random).as_str(), text.as_str()));
            replace_private(path, both.as_bytes()).map_err(|error| file_error(path, error))?;
        }
        Self::load(path)
    }

    /// Forgets the key before: everything was wrapped anew.
    pub fn end_change(path: &Path) -> Result<(), KekError> {
        let text = read_private(path)?;
        let first = Zeroizing::new(format!("{}\n", text.lines().next().unwrap_or_default()));
        replace_private(path, first.as_bytes()).map_err(|error| file_error(path, error))
    }

    /// The key under which transfer tokens are made, unless the node's folder has one of its own. Tokens are derived anew
    /// wherever they are needed and stand nowhere. While a change is under way it is the older key's, so that tokens that
    /// are out stay good.
    pub fn token_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.previous.last().unwrap_or(&self.current).tokens
    }

    /// A name for it that tells nothing about it.
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
            .expect("AES-GCM seals anything that is in memory");
        format!("{}.{}", self.current.id, base64url(&[&nonce[..], &sealed].concat()))
    }

    /// Unwraps a secret.
    pub fn unwrap(&self, cell: Cell<'_>, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let error = || KekError::Unwrap(format!("{} {}", cell.table, cell.row));
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

    /// The secret wrapped under the current key; none if it is already.
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
            return Err(file_error(path, "others may read it; run chmod 600"));
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
        // The key changes: what is old opens until the change ends, and is wrapped anew meanwhile.
        let tokens = kek.token_key().clone();
        let changing = Kek::begin_change(&path, &random).unwrap();
        assert_eq!(Kek::begin_change(&path, &random).unwrap().id(), changing.id(), "an interrupted change goes on");
        assert_eq!((changing.token_key(), changing.id() == kek.id()), (&tokens, false));
        let rewrapped = changing.rewrap(cell, &wrapped, &random).unwrap().unwrap();
        assert_eq!(changing.rewrap(cell, &rewrapped, &random).unwrap(), None);
        assert!(changing.unwrap(cell, &wrapped).is_ok() && kek.unwrap(cell, &rewrapped).is_err());
        Kek::end_change(&path).unwrap();
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
