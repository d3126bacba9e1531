//! Key rotation: a member's request to the operator, and the proof for all other members that the old key agrees.
//! FORMATS.md, "New keys".

use super::document::{self, Document, DocumentError, MultiSigned};
use super::key::{Bytes, KeyUse, PublicKey, SigningKey};
use super::register::{KeyEntry, Member};
use super::x509::{self, CertificateError};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId};
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An old document key's statement that a new key belongs to the same member; the register holds it with the new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProof {
    /// Member.
    pub participant: ParticipantId,
    /// The new key, without its proof.
    pub key: KeyEntry,
}

impl Document for KeyProof {
    const TYP: &'static str = "crosspark-key-proof+jws";
    const FORMAT: &'static str = "key-proof/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.participant)
    }
}

impl KeyProof {
    /// Signs `key` with an old document key of the same member.
    pub fn prove(key: &KeyEntry, old: &SigningKey) -> KeyEntry {
        let bare = KeyEntry { proof: None, ..key.clone() };
        let proof = Self { participant: old.id().participant(), key: bare.clone() };
        KeyEntry { proof: Some(document::sign(proof, old).jws().to_owned()), ..bare }
    }
}

impl KeyEntry {
    /// Whether a document key of `member` valid at `at` signed exactly this key.
    pub fn is_proven_by(&self, member: &Member, at: Timestamp) -> bool {
        let Some(proof) = &self.proof else { return false };
        let verified = document::verify::<KeyProof>(proof, |kid| member.key(kid, KeyUse::Document, at));
        let bare = Self { proof: None, ..self.clone() };
        verified.is_ok_and(|proof| proof.body().key == bare && proof.body().participant == member.id)
    }
}

/// A member's request for new keys, with proof of possession of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Member.
    pub participant: ParticipantId,
    /// The new keys, with proofs unless the old document key is lost.
    pub keys: Vec<KeyEntry>,
    /// Certificate signing request, DER: for a new TLS key, or for a new certificate of the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csr: Option<Bytes>,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for Rotation {
    const TYP: &'static str = "crosspark-rotation+jws";
    const FORMAT: &'static str = "rotation/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.participant)
    }
}

/// Why a rotation is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RotationError {
    /// The document does not verify.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The certificate signing request does not verify.
    #[error("the certificate signing request of the rotation is invalid: {0}")]
    Csr(#[from] CertificateError),
    /// The rotation belongs to another participant.
    #[error("the rotation belongs to {0}, not to this member")]
    NotMember(ParticipantId),
    /// A key is already in use, or belongs to another participant.
    #[error("the key {0} in the rotation is not new, or does not belong to this member")]
    Key(KeyId),
    /// Possession of a new key is not proven.
    #[error("the rotation does not prove possession of the new {0:?} key")]
    Unproven(KeyUse),
    /// No old document key signed it, and no fingerprint was given.
    #[error(
        "no document key of {0} in the register signed this rotation: compare this fingerprint with the park by telephone or in person, and pass it with --fingerprint\n  {1}"
    )]
    NotCompared(ParticipantId, String),
    /// The fingerprint differs from the one that people compared.
    #[error("this rotation has the fingerprint\n  {found}\nbut the given fingerprint is\n  {expected}")]
    Fingerprint {
        /// Fingerprint given.
        expected: String,
        /// Fingerprint of the document.
        found: String,
    },
}

/// The unverified participant of a rotation.
pub fn claimed_participant(text: &[u8]) -> Result<ParticipantId, RotationError> {
    Ok(MultiSigned::parse::<Rotation>(text)?.claimed::<Rotation>()?.0.participant)
}

/// The keys of `member` without those that the rotation requests.
pub fn keys_before(text: &[u8], member: &Member) -> Result<Vec<KeyEntry>, RotationError> {
    let (rotation, _) = MultiSigned::parse::<Rotation>(text)?.claimed::<Rotation>()?;
    Ok(member.keys.iter().filter(|key| !rotation.keys.contains(key)).cloned().collect())
}

/// Verifies a rotation of `member`: possession of every new key is proven, and an old document key signed each or
/// people compared the fingerprint. Also returns whether an old key signed.
pub fn verify(
    text: &[u8],
    member: &Member,
    fingerprint: Option<&Digest>,
    now: Timestamp,
) -> Result<(Rotation, bool), RotationError> {
    let document = MultiSigned::parse::<Rotation>(text)?;
    let (rotation, digest) = document.claimed::<Rotation>()?;
    if rotation.participant != member.id {
        return Err(RotationError::NotMember(rotation.participant));
    }
    for (n, key) in rotation.keys.iter().enumerate() {
        let known = member.keys.iter().chain(&rotation.keys[..n]);
        let taken = known.clone().any(|other| other.id == key.id || other.public == key.public);
        if taken || key.id.participant() != member.id {
            return Err(RotationError::Key(key.id.clone()));
        }
    }
    let new = |id: &KeyId| {
        let entry = rotation.keys.iter().find(|key| key.id == *id && key.usage != KeyUse::Tls)?;
        PublicKey::from_slice(&entry.public.0)
    };
    let old = |id: &KeyId| member.key(id, KeyUse::Document, now);
    let signers = document.signers::<Rotation>(|id| new(id).or_else(|| old(id)), false)?;
    let csr = rotation.csr.as_ref().map(|csr| x509::csr_public_key(&csr.0)).transpose()?;
    for key in &rotation.keys {
        let proven = match key.usage {
            KeyUse::Tls => csr.as_ref() == Some(&key.public.0),
            _ => signers.contains(&key.id),
        };
        if !proven {
            return Err(RotationError::Unproven(key.usage));
        }
    }
    // A CSR without new keys requests another certificate for a TLS key already in the register.
    let listed = |public: &Vec<u8>| member.keys.iter().chain(&rotation.keys).any(|key| key.public.0 == *public);
    if csr.as_ref().is_some_and(|public| !listed(public)) {
        return Err(RotationError::Unproven(KeyUse::Tls));
    }
    let proven =
        signers.iter().any(|id| old(id).is_some()) && rotation.keys.iter().all(|key| key.is_proven_by(member, now));
    match fingerprint {
        Some(expected) if *expected != digest => {
            Err(RotationError::Fingerprint { expected: expected.fingerprint(), found: digest.fingerprint() })
        }
        None if !proven => Err(RotationError::NotCompared(member.id.clone(), digest.fingerprint())),
        _ => Ok((rotation, proven)),
    }
}
