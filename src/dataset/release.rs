//! Key release: the data key, sealed to a one-time key of the consumer with HPKE (RFC 9180 base mode) and X-Wing,
//! and bound to a signed request. FORMATS.md, "Key request" and "Key answer".

use super::container::DataKey;
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId, Text};
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use crate::identity::key::Bytes;
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::XWing,
    single_shot_open, single_shot_seal,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// KEM 0x647a (X-Wing), KDF 0x0001 (HKDF-SHA256), AEAD 0x0002 (AES-256-GCM).
pub const HPKE: &str = "X-Wing/HKDF-SHA256/AES-256-GCM";
const LABEL: &[u8] = b"crosspark/key-release/v1\0";

/// A consumer's request for a data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Provider.
    pub provider: ParticipantId,
    /// Consumer.
    pub consumer: ParticipantId,
    /// The provider's identifier of the transfer.
    pub transfer: ProcessId,
    /// Digest of the agreement.
    pub agreement: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Purpose of the use.
    pub purpose: Text,
    /// Enterprise on whose behalf the consumer asks.
    pub enterprise: Text,
    /// [`HPKE`]
    pub hpke: String,
    /// One-time X-Wing public key.
    pub key: Bytes,
    /// Random value that is never used twice.
    pub nonce: Bytes,
    /// Newest checkpoint of the provider's log that the consumer has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Time of signing.
    pub issued: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
}

impl Document for KeyRequest {
    const TYP: &'static str = "crosspark-key-request+jws";
    const FORMAT: &'static str = "key-request/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.consumer)
    }
}

/// A provider's answer to a key request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAnswer {
    /// Provider.
    pub provider: ParticipantId,
    /// Consumer.
    pub consumer: ParticipantId,
    /// Digest of the request.
    pub request: Digest,
    /// HPKE's encapsulated key.
    pub enc: Bytes,
    /// The sealed data key.
    pub sealed: Bytes,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for KeyAnswer {
    const TYP: &'static str = "crosspark-key-answer+jws";
    const FORMAT: &'static str = "key-answer/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.provider)
    }
}

/// Why a key cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The one-time public key is invalid.
    #[error("the one-time key is not a valid X-Wing public key")]
    PublicKey,
    /// The answer does not decrypt.
    #[error("the released key does not open: it was altered or sealed for another request")]
    Sealed,
}

/// A one-time key pair, derived from a secret of 32 bytes.
pub struct OneTimeKey(Zeroizing<[u8; 32]>);

impl OneTimeKey {
    /// Generates a key pair.
    pub fn generate(random: &dyn Random) -> Self {
        Self(Zeroizing::new(random::bytes(random)))
    }

    /// Restores a key pair from its secret.
    pub fn from_slice(secret: &[u8]) -> Option<Self> {
        secret.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// The secret, to be wrapped at rest.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public key, 1216 bytes.
    pub fn public(&self) -> Vec<u8> {
        XWing::sk_to_pk(&self.private()).to_bytes().to_vec()
    }

    fn private(&self) -> <XWing as hpke::Kem>::PrivateKey {
        Deserializable::from_bytes(&self.0[..]).expect("an X-Wing secret is any 32 bytes")
    }

    /// Opens the answer to the request with this digest.
    pub fn open(&self, request: &Digest, enc: &[u8], sealed: &[u8]) -> Result<DataKey, ReleaseError> {
        let enc = Deserializable::from_bytes(enc).map_err(|_| ReleaseError::Sealed)?;
        let (mode, private, info) = (OpModeR::Base, self.private(), info(request));
        let opened = single_shot_open::<AesGcm256, HkdfSha256, XWing>(&mode, &private, &enc, &info, sealed, b"");
        let key = Zeroizing::new(opened.map_err(|_| ReleaseError::Sealed)?);
        DataKey::from_slice(&key).ok_or(ReleaseError::Sealed)
    }
}

fn info(request: &Digest) -> Vec<u8> {
    [LABEL, request.as_bytes()].concat()
}

/// Seals `key` to the one-time key `public` of the request with this digest; returns `enc` and `sealed`.
pub fn seal(key: &DataKey, public: &[u8], request: &Digest) -> Result<(Vec<u8>, Vec<u8>), ReleaseError> {
    let public = Deserializable::from_bytes(public).map_err(|_| ReleaseError::PublicKey)?;
    let mode = OpModeS::Base;
    single_shot_seal::<AesGcm256, HkdfSha256, XWing>(&mode, &public, &info(request), key.expose(), b"")
        .map(|(enc, sealed)| (enc.to_bytes().to_vec(), sealed))
        .map_err(|_| ReleaseError::PublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_for_its_request() {
        let random = crate::core::random::SystemRandomness::new();
        let (one_time, key) = (OneTimeKey::generate(&random), DataKey::from_bytes([5; 32]));
        let request = Digest::of(b"request");
        let (enc, sealed) = seal(&key, &one_time.public(), &request).unwrap();
        assert_eq!(one_time.open(&request, &enc, &sealed).unwrap(), key);
        assert_eq!(one_time.open(&Digest::of(b"other"), &enc, &sealed), Err(ReleaseError::Sealed));
        assert_eq!(OneTimeKey::generate(&random).open(&request, &enc, &sealed), Err(ReleaseError::Sealed));
        let mut altered = sealed.clone();
        altered[0] ^= 1;
        assert_eq!(one_time.open(&request, &enc, &altered), Err(ReleaseError::Sealed));
        assert_eq!(seal(&key, &[0; 10], &request), Err(ReleaseError::PublicKey));
        assert_eq!(one_time.open(&request, &enc[1..], &sealed), Err(ReleaseError::Sealed));
    }
}
