//! The key-encryption key: without it, a copied data folder opens nothing.

use crate::core::digest::{Digest, derive_key};
use crate::core::random::{self, Random};
use crate::identity::key::{base64url, from_base64url};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Wraps secrets with AES-256-GCM under a key derived from the key-encryption key.
pub struct Kek {
    id: String,
    key: LessSafeKey,
    tokens: Zeroizing<[u8; 32]>,
}

/// What a wrapped secret is bound to: moving it elsewhere makes it useless.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
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
        let secret = Zeroizing::new(random::bytes::<32>(random));
        let text = Zeroizing::new(format!("{}\n", base64url(&secret[..])));
        super::create_private(path, text.as_bytes())
            .map_err(|error| KekError::File { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self::from_secret(&secret))
    }

    /// Reads the key from `path`. Refuses a file that others may read.
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let fail = |reason: String| KekError::File { path: path.to_owned(), reason };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(fail("others may read it; run chmod 600".into()));
            }
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?);
        let bytes = from_base64url(text.trim()).map(Zeroizing::new);
        let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
        secret.map(|secret| Self::from_secret(&secret)).ok_or_else(|| fail("it must hold 32 bytes as base64url".into()))
    }

    fn from_secret(secret: &Zeroizing<[u8; 32]>) -> Self {
        let derived = Zeroizing::new(derive_key(secret, "crosspark/wrap/v1"));
        let id = Digest::labelled("crosspark/kek-id/v1", &[&derived[..]]);
        let key = UnboundKey::new(&AES_256_GCM, &derived[..]).expect("32 bytes are an AES-256 key");
        let tokens = Zeroizing::new(derive_key(secret, "crosspark/transfer-token/v1"));
        Self { id: hex::encode(&id.as_bytes()[..4]), key: LessSafeKey::new(key), tokens }
    }

    /// The key under which this node's transfer tokens are made. They are derived anew wherever they are needed and
    /// stand nowhere.
    pub fn token_key(&self) -> &[u8; 32] {
        &self.tokens
    }

    /// A name for it that tells nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn aad(&self, place: Place<'_>) -> Vec<u8> {
        [self.id.as_str(), place.table, place.row, place.column, "1"].join("\0").into_bytes()
    }

    /// Wraps a secret: `ID.base64url(nonce || ciphertext)`.
    pub fn wrap(&self, place: Place<'_>, secret: &[u8], random: &dyn Random) -> String {
        let nonce = random::bytes::<NONCE_BYTES>(random);
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.aad(place)), &mut sealed)
            .expect("AES-GCM seals anything that is in memory");
        format!("{}.{}", self.id, base64url(&[&nonce[..], &sealed].concat()))
    }

    /// Unwraps a secret.
    pub fn unwrap(&self, place: Place<'_>, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let error = || KekError::Unwrap(format!("{} {}", place.table, place.row));
        let (id, encoded) = wrapped.split_once('.').ok_or_else(error)?;
        let mut bytes = Zeroizing::new(from_base64url(encoded).ok_or_else(error)?);
        if id != self.id || bytes.len() < NONCE_BYTES {
            return Err(error());
        }
        let nonce = Nonce::try_assume_unique_for_key(&bytes[..NONCE_BYTES]).map_err(|_| error())?;
        let opened =
            self.key.open_within(nonce, Aad::from(self.aad(place)), &mut bytes, NONCE_BYTES..).map_err(|_| error())?;
        Ok(Zeroizing::new(opened.to_vec()))
    }
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
        let place = Place { table: "t", row: "r", column: "c" };
        let wrapped = kek.wrap(place, b"secret", &random);
        assert_eq!(&Kek::load(&path).unwrap().unwrap(place, &wrapped).unwrap()[..], b"secret");
        assert!(kek.unwrap(Place { row: "s", ..place }, &wrapped).is_err());
        let other = Kek::create(&folder.path().join("other"), &random).unwrap();
        assert!(other.unwrap(place, &wrapped).is_err());
        assert!(kek.unwrap(place, &wrapped[..wrapped.len() - 2]).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(Kek::load(&path).is_err());
        }
    }
}
