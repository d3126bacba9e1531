//! The root document: the keys at the root of trust of an alliance. FORMATS.md, "Root document".

use super::document::{Document, DocumentError, MultiSigned};
use super::key::{Bytes, PublicKey};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A key and its identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// `did#key-N`
    pub id: KeyId,
    /// Ed25519 public key.
    pub public: PublicKey,
}

/// The alliance's root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The alliance.
    pub alliance: ParticipantId,
    /// Names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Version: 1 for the first document; each successor adds 1.
    pub version: u64,
    /// Digest of the predecessor; absent in version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Root keys.
    pub signers: Vec<NamedKey>,
    /// Number of root keys that must sign a root document.
    pub threshold: u64,
    /// The key that signs registers.
    pub register_key: NamedKey,
    /// Certificates of the certification authorities, DER.
    pub ca: Vec<Bytes>,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for Root {
    const TYP: &'static str = "crosspark-root+jws";
    const FORMAT: &'static str = "root/1";
    const BYTES_MAX: usize = limits::ROOT_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.alliance)
    }
}

/// Why a root document is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RootError {
    /// The document does not verify.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The fingerprint differs from the one that people compared.
    #[error(
        "this root document has the fingerprint\n  {found}\nbut the given fingerprint is\n  {expected}\nobtain the fingerprint from the alliance operator by telephone or in person"
    )]
    Fingerprint {
        /// Fingerprint given.
        expected: String,
        /// Fingerprint of the document.
        found: String,
    },
    /// Too few root keys signed.
    #[error("the root document has {found} of {needed} required signatures")]
    Threshold {
        /// Valid signatures.
        found: usize,
        /// Required signatures.
        needed: u64,
    },
    /// The content contradicts itself or its predecessor.
    #[error("the root document is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// A verified root document and its serialisation.
#[derive(Debug, Clone)]
pub struct VerifiedRoot {
    document: MultiSigned,
    digest: Digest,
    body: Root,
}

impl VerifiedRoot {
    /// Verifies the first root document: its digest is the compared fingerprint, and its own keys signed it.
    pub fn verify(text: &[u8], fingerprint: &Digest) -> Result<Self, RootError> {
        let (document, body, digest) = read(text)?;
        if digest != *fingerprint {
            return Err(RootError::Fingerprint { expected: fingerprint.fingerprint(), found: digest.fingerprint() });
        }
        check_threshold(&document, &body)?;
        Ok(Self { document, digest, body })
    }

    /// Verifies a successor, which must meet the threshold of this document and its own.
    pub fn verify_successor(&self, text: &[u8]) -> Result<Self, RootError> {
        let (document, body, digest) = read(text)?;
        if body.alliance != self.body.alliance {
            return Err(RootError::Inconsistent("it belongs to another alliance"));
        }
        if Some(body.version) != self.body.version.checked_add(1) || body.previous != Some(self.digest) {
            return Err(RootError::Inconsistent("it is not the successor of the current one (`version`, `previous`)"));
        }
        check_threshold(&document, &self.body)?;
        check_threshold(&document, &body)?;
        Ok(Self { document, digest, body })
    }

    /// SHA-256 of the payload; people compare it as the fingerprint.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The document.
    pub fn body(&self) -> &Root {
        &self.body
    }

    /// The JSON serialisation.
    pub fn to_json(&self) -> Vec<u8> {
        crate::core::json::to_canonical(&self.document)
    }
}

/// The root documents of an alliance, from the one whose fingerprint people compared to the newest, each verified as
/// the successor of the previous one.
#[derive(Debug, Clone)]
pub struct RootChain {
    older: Vec<VerifiedRoot>,
    newest: VerifiedRoot,
}

impl RootChain {
    /// Starts a chain with the root document whose fingerprint people compared.
    pub fn new(first: VerifiedRoot) -> Self {
        Self { older: Vec::new(), newest: first }
    }

    /// Returns the chain extended by a verified successor.
    pub fn extended(&self, text: &[u8]) -> Result<Self, RootError> {
        let newest = self.newest.verify_successor(text)?;
        let older = self.older.iter().chain([&self.newest]).cloned().collect();
        Ok(Self { older, newest })
    }

    /// The newest root document: it names the register key and the certification authorities.
    pub fn newest(&self) -> &VerifiedRoot {
        &self.newest
    }

    /// The older root documents, newest first.
    pub fn older(&self) -> impl Iterator<Item = &VerifiedRoot> {
        self.older.iter().rev()
    }

    /// The version of the root document with this digest, or 0 if it is not in the chain.
    pub fn version_of(&self, digest: &Digest) -> u64 {
        let mut all = std::iter::once(&self.newest).chain(&self.older);
        all.find(|root| root.digest() == *digest).map_or(0, |root| root.body().version)
    }

    /// The root document of this version.
    pub fn version(&self, version: u64) -> Option<&VerifiedRoot> {
        std::iter::once(&self.newest).chain(&self.older).find(|root| root.body().version == version)
    }

    /// Certificates of the certification authorities, DER.
    pub fn ca(&self) -> impl Iterator<Item = &[u8]> {
        self.newest.body.ca.iter().map(|certificate| certificate.0.as_slice())
    }
}

/// Checks a root document by itself: its keys and its threshold, but no signature.
pub fn check(text: &[u8]) -> Result<(), RootError> {
    read(text).map(drop)
}

fn read(text: &[u8]) -> Result<(MultiSigned, Root, Digest), RootError> {
    let document = MultiSigned::parse::<Root>(text)?;
    let (body, digest) = document.claimed::<Root>()?;
    let mut names: Vec<&KeyId> = body.signers.iter().map(|key| &key.id).chain([&body.register_key.id]).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    if names.len() != count || names.iter().any(|id| id.participant() != body.alliance) {
        return Err(RootError::Inconsistent("its keys must have different identifiers, all of the alliance"));
    }
    // The same key under two identifiers would count twice towards the threshold.
    let mut publics: Vec<&[u8; 32]> = body.signers.iter().map(|key| key.public.as_bytes()).collect();
    publics.push(body.register_key.public.as_bytes());
    publics.sort();
    publics.dedup();
    if publics.len() != count {
        return Err(RootError::Inconsistent("one key has two identifiers"));
    }
    if body.threshold == 0 || body.threshold > body.signers.len() as u64 {
        return Err(RootError::Inconsistent("the threshold must be between 1 and the number of root keys"));
    }
    if body.version == 0 || (body.version == 1) != body.previous.is_none() {
        return Err(RootError::Inconsistent("version 1, and only version 1, has no predecessor"));
    }
    if body.ca.is_empty() {
        return Err(RootError::Inconsistent("it names no certification authority"));
    }
    Ok((document, body, digest))
}

fn check_threshold(document: &MultiSigned, by: &Root) -> Result<(), RootError> {
    let keys = |id: &KeyId| by.signers.iter().find(|key| key.id == *id).map(|key| key.public);
    let found = document.signers::<Root>(keys, true)?.len();
    if (found as u64) < by.threshold {
        return Err(RootError::Threshold { found, needed: by.threshold });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key::SigningKey;
    use zeroize::Zeroizing;

    fn key(n: u32) -> SigningKey {
        let alliance = ParticipantId::parse("did:web:alliance.example").unwrap();
        SigningKey::from_seed(alliance.key(n), &Zeroizing::new([n as u8; 32]))
    }

    fn named(n: u32) -> NamedKey {
        NamedKey { id: key(n).id().clone(), public: key(n).public() }
    }

    fn root(version: u64, previous: Option<Digest>, signers: &[u32], threshold: u64) -> Root {
        Root {
            alliance: ParticipantId::parse("did:web:alliance.example").unwrap(),
            names: BTreeMap::new(),
            version,
            previous,
            signers: signers.iter().map(|n| named(*n)).collect(),
            threshold,
            register_key: named(9),
            ca: vec![Bytes(vec![1])],
            issued: Timestamp::from_ms(0),
        }
    }

    fn signed(root: &Root, by: &[u32]) -> Vec<u8> {
        let keys: Vec<SigningKey> = by.iter().map(|n| key(*n)).collect();
        crate::core::json::to_canonical(&MultiSigned::sign(root, &keys.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn thresholds_and_succession() {
        let first = root(1, None, &[1, 2, 3], 2);
        let fingerprint = crate::identity::document::digest(&first);
        assert!(matches!(
            VerifiedRoot::verify(&signed(&first, &[1]), &fingerprint),
            Err(RootError::Threshold { found: 1, needed: 2 })
        ));
        assert!(matches!(
            VerifiedRoot::verify(&signed(&first, &[1, 2]), &Digest::of(b"other")),
            Err(RootError::Fingerprint { .. })
        ));
        let current = VerifiedRoot::verify(&signed(&first, &[1, 2]), &fingerprint).unwrap();
        let next = root(2, Some(fingerprint), &[3, 4], 1);
        assert!(current.verify_successor(&signed(&next, &[1, 2])).is_err(), "none of the new keys");
        assert!(current.verify_successor(&signed(&next, &[4])).is_err(), "none of the old keys");
        assert!(current.verify_successor(&signed(&next, &[1, 3])).is_ok());
        assert!(current.verify_successor(&signed(&root(3, Some(fingerprint), &[3], 1), &[1, 2, 3])).is_err());
        assert!(current.verify_successor(&signed(&root(2, Some(Digest::of(b"x")), &[3], 1), &[1, 2, 3])).is_err());
    }

    #[test]
    fn one_key_counts_once() {
        let mut twice = root(1, None, &[1, 2], 2);
        twice.signers[1].public = twice.signers[0].public;
        let fingerprint = crate::identity::document::digest(&twice);
        assert!(matches!(VerifiedRoot::verify(&signed(&twice, &[1]), &fingerprint), Err(RootError::Inconsistent(_))));
    }
}
