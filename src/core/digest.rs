//! Digests. Digests of documents and containers are plain SHA-256, so that standard tools can check them; every other
//! hash starts with its own label, so that no two uses can be confused.

use ring::{digest, hkdf, hmac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::io::{self, Read};

/// A SHA-256 value, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

string_schema!(Digest, {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"});

/// An HMAC-SHA-256 value, written `hmac-sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyedDigest([u8; 32]);

/// A text that is not a digest of the expected kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected `{prefix}` and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    prefix: &'static str,
}

fn parse(text: &str, prefix: &'static str) -> Result<[u8; 32], DigestError> {
    let error = DigestError { prefix };
    let digits = text.strip_prefix(prefix).filter(|d| d.len() == 64 && !d.bytes().any(|b| b.is_ascii_uppercase()));
    let mut out = [0u8; 32];
    match digits.map(|digits| hex::decode_to_slice(digits, &mut out)) {
        Some(Ok(())) => Ok(out),
        _ => Err(error),
    }
}

macro_rules! digest_text {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// Wraps a value computed elsewhere.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Parses the textual form.
            pub fn parse(text: &str) -> Result<Self, DigestError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(D::Error::custom)
            }
        }
    };
}

digest_text!(Digest, "sha256:");
digest_text!(KeyedDigest, "hmac-sha256:");

impl Digest {
    /// SHA-256 of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self::from_context(digest_context(data))
    }

    /// SHA-256(label || 0x00 || parts in order).
    pub fn labelled(label: &str, parts: &[&[u8]]) -> Self {
        let mut context = digest_context(label.as_bytes());
        context.update(&[0]);
        parts.iter().for_each(|part| context.update(part));
        Self::from_context(context)
    }

    fn from_context(context: digest::Context) -> Self {
        let mut out = [0u8; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }

    /// The hexadecimal digits in groups of four, for comparison by people.
    pub fn fingerprint(&self) -> String {
        let digits = hex::encode(self.0);
        let groups: Vec<&str> = (0..64).step_by(4).map(|i| &digits[i..i + 4]).collect();
        groups.join(" ")
    }

    /// Parses a fingerprint as people write it: case, spaces, colons, hyphens and a leading `sha256:` do not matter.
    pub fn parse_fingerprint(text: &str) -> Result<Self, DigestError> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: String =
            lower.strip_prefix("sha256:").unwrap_or(&lower).chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
        Self::parse(&format!("sha256:{digits}")).map_err(|_| DigestError { prefix: "[sha256:]" })
    }
}

fn digest_context(first: &[u8]) -> digest::Context {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(first);
    context
}

/// SHA-256 over a stream.
pub struct Hasher(digest::Context);

impl Hasher {
    /// Creates an empty hasher.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Appends bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all bytes appended.
    pub fn finish(self) -> Digest {
        Digest::from_context(self.0)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// HMAC-SHA-256 over a stream, under a key derived for one use.
pub struct KeyedHasher(hmac::Context);

impl KeyedHasher {
    /// Derives the key for `label` from `secret` by HKDF-SHA-256 with an empty salt (RFC 5869).
    pub fn new(secret: &[u8; 32], label: &str) -> Self {
        Self(hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &derive_key(secret, label))))
    }

    /// Appends bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The keyed digest of all bytes appended.
    pub fn finish(self) -> KeyedDigest {
        let mut out = [0u8; 32];
        out.copy_from_slice(self.0.sign().as_ref());
        KeyedDigest(out)
    }
}

/// A reader that computes the keyed digest of the bytes it reads, if one is wanted.
pub struct HashingReader<R> {
    source: R,
    hasher: Option<KeyedHasher>,
}

impl<R: Read> HashingReader<R> {
    /// Reads `source`.
    pub fn new(source: R, hasher: Option<KeyedHasher>) -> Self {
        Self { source, hasher }
    }

    /// Reads what is left.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl<R> HashingReader<R> {
    /// What it reads; what is read of it directly is no part of the digest.
    pub fn inner(&mut self) -> &mut R {
        &mut self.source
    }

    /// The keyed digest of what was read.
    pub fn finish(self) -> Option<KeyedDigest> {
        self.hasher.map(KeyedHasher::finish)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// HKDF-SHA-256 of `secret` with an empty salt and `label` as info: 32 bytes for one use.
pub fn derive_key(secret: &[u8; 32], label: &str) -> [u8; 32] {
    let mut out = [0u8; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    let info = [label.as_bytes()];
    // Both calls fail only for outputs longer than 255 hash lengths.
    let okm = prk.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are within HKDF's range");
    okm.fill(&mut out).expect("the output has the length of the hash");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_strict() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert!(Digest::parse(&digest.to_string().to_uppercase()).is_err());
        assert!(Digest::parse("sha256:00").is_err());
        assert_eq!(Digest::parse_fingerprint(&digest.fingerprint().to_uppercase()), Ok(digest));
    }

    #[test]
    fn labels_separate() {
        assert_ne!(Digest::labelled("a", &[b"b"]), Digest::labelled("ab", &[b""]));
    }
}
