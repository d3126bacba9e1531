//! A park's request to become a member, which proves possession of each key in it. FORMATS.md, "Join request".

use super::document::{Document, DocumentError, MultiSigned};
use super::endpoint::Endpoint;
use super::key::{Bytes, KeyUse, PublicKey};
use super::register::KeyEntry;
use super::x509::{self, CertificateError};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A park's statement about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Requesting participant.
    pub participant: ParticipantId,
    /// Names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Jurisdiction, such as `CN-BJ`.
    pub jurisdiction: Text,
    /// Address of its peer listener.
    pub endpoint: Endpoint,
    /// Prefixes of its callback addresses.
    pub callbacks: Vec<Endpoint>,
    /// The four keys, one per use.
    pub keys: Vec<KeyEntry>,
    /// Certificate signing request for the TLS key, DER; its signature proves possession of that key.
    pub csr: Bytes,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for JoinRequest {
    const TYP: &'static str = "crosspark-join+jws";
    const FORMAT: &'static str = "join/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.participant)
    }
}

/// Why a join request is rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JoinError {
    /// The document does not verify.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The certificate signing request does not verify.
    #[error("the certificate signing request of the join request is invalid: {0}")]
    Csr(#[from] CertificateError),
    /// The fingerprint differs from the one that people compared.
    #[error(
        "this join request has the fingerprint\n  {found}\nbut the given fingerprint is\n  {expected}\nobtain the fingerprint from the park's IT by telephone or in person"
    )]
    Fingerprint {
        /// Fingerprint given.
        expected: String,
        /// Fingerprint of the document.
        found: String,
    },
    /// Possession of a key is not proven.
    #[error("the join request does not prove its {0:?} key")]
    Unproven(KeyUse),
    /// Not exactly one key per use, or a key of another participant.
    #[error("the join request must contain exactly one key of {0} for each use")]
    Keys(ParticipantId),
}

/// Verifies a join request: the fingerprint, the signatures of its three Ed25519 keys, and the CSR.
pub fn verify(text: &[u8], fingerprint: &Digest) -> Result<JoinRequest, JoinError> {
    let document = MultiSigned::parse::<JoinRequest>(text)?;
    let (request, digest) = document.claimed::<JoinRequest>()?;
    if digest != *fingerprint {
        return Err(JoinError::Fingerprint { expected: fingerprint.fingerprint(), found: digest.fingerprint() });
    }
    let own = request.keys.iter().all(|key| key.id.participant() == request.participant);
    let mut uses: Vec<KeyUse> = request.keys.iter().map(|key| key.usage).collect();
    uses.sort();
    if !own || uses != [KeyUse::Tls, KeyUse::Document, KeyUse::Log, KeyUse::Witness] {
        return Err(JoinError::Keys(request.participant));
    }
    let key = |id: &KeyId| {
        let entry = request.keys.iter().find(|key| key.id == *id && key.usage != KeyUse::Tls)?;
        PublicKey::from_slice(&entry.public.0)
    };
    let signers = document.signers::<JoinRequest>(key, false)?;
    for entry in &request.keys {
        let proven = match entry.usage {
            KeyUse::Tls => x509::csr_public_key(&request.csr.0)? == entry.public.0,
            _ => signers.contains(&entry.id),
        };
        if !proven {
            return Err(JoinError::Unproven(entry.usage));
        }
    }
    Ok(request)
}
