//! The documents that both parties sign: the consumer's claim and the agreement. FORMATS.md, "Claim" and "Agreement".

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use crate::policy::{Policy, PolicyError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The consumer's statement of purpose and beneficiary, sent with a contract request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Consumer.
    pub consumer: ParticipantId,
    /// Provider.
    pub provider: ParticipantId,
    /// The consumer's identifier of the negotiation.
    pub process: ProcessId,
    /// Requested offer.
    pub offer: OfferId,
    /// Requested dataset.
    pub dataset: DatasetId,
    /// Purpose of the use.
    pub purpose: Text,
    /// Enterprise on whose behalf the consumer asks.
    pub enterprise: Text,
    /// Commitment to the person who handles the request.
    pub person: Digest,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for Claim {
    const TYP: &'static str = "crosspark-claim+jws";
    const FORMAT: &'static str = "claim/1";
    const BYTES_MAX: usize = crate::core::limits::SMALL_DOCUMENT_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.consumer)
    }
}

/// The versions of a dataset that an agreement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Versions {
    /// One version.
    One(u64),
    /// All versions.
    All,
}

/// An agreement; provider and consumer sign the same payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Identifier of the agreement.
    pub id: AgreementId,
    /// Provider.
    pub provider: ParticipantId,
    /// Consumer.
    pub consumer: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Versions covered.
    pub versions: Versions,
    /// Digest of the manifest, if the agreement covers one version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The policy in normal form.
    pub policy: Value,
    /// SHA-256 of the policy.
    pub policy_digest: Digest,
    /// Purpose of the use. Always present between crosspark nodes, as are `enterprise` and `person`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    /// Enterprise on whose behalf the consumer asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<Text>,
    /// Commitment to the person who handles the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Digest>,
    /// Start of validity.
    pub valid_from: Timestamp,
    /// End of validity.
    pub valid_until: Timestamp,
}

impl Document for Agreement {
    const TYP: &'static str = "crosspark-agreement+jws";
    const FORMAT: &'static str = "agreement/1";
    // Both parties sign it; the verifier checks which signatures are required.
    fn author(&self) -> Option<&ParticipantId> {
        None
    }
}

/// Notice to the holders of agreements that the publisher has withdrawn a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// Publisher of the dataset.
    pub publisher: ParticipantId,
    /// The dataset; all its versions are withdrawn.
    pub dataset: DatasetId,
    /// Reason for the withdrawal.
    pub reason: Text,
    /// Time of the withdrawal.
    pub at: Timestamp,
}

impl Document for Withdrawal {
    const TYP: &'static str = "crosspark-withdrawal+jws";
    const FORMAT: &'static str = "withdrawal/1";
    const BYTES_MAX: usize = crate::core::limits::SMALL_DOCUMENT_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.publisher)
    }
}

/// Why an agreement is rejected.
#[derive(Debug, thiserror::Error)]
pub enum AgreementError {
    /// The policy cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A member differs from the request.
    #[error("the agreement differs from the request in `{0}`")]
    Differs(&'static str),
    /// The policy is not in normal form or does not match `policy_digest`.
    #[error("the agreement's policy is not in normal form, or its digest does not match the stated one")]
    PolicyDigest,
}

impl Agreement {
    /// Parses the policy and checks its normal form and digest.
    pub fn policy(&self) -> Result<Policy, AgreementError> {
        let policy = Policy::from_value(&self.policy)?;
        let normal = policy.to_value() == self.policy && policy.digest() == self.policy_digest;
        if normal { Ok(policy) } else { Err(AgreementError::PolicyDigest) }
    }

    /// Checks that the agreement is what the consumer requested under the policy that it was offered.
    pub fn check_against(&self, claim: &Claim, offered: &Policy) -> Result<(), AgreementError> {
        let differs = [
            ("provider", self.provider != claim.provider),
            ("consumer", self.consumer != claim.consumer),
            ("dataset", self.dataset != claim.dataset),
            ("policy", self.policy()?.digest() != offered.digest()),
            ("purpose", self.purpose.as_ref() != Some(&claim.purpose)),
            ("enterprise", self.enterprise.as_ref() != Some(&claim.enterprise)),
            ("person", self.person != Some(claim.person)),
            ("valid_until", self.valid_until <= self.valid_from),
            ("manifest", self.manifest.is_none()),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(AgreementError::Differs(what)),
            None => Ok(()),
        }
    }

    /// Whether the agreement is valid at `at`.
    pub fn is_valid(&self, at: Timestamp) -> bool {
        self.valid_from <= at && at < self.valid_until
    }
}
