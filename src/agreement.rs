//! What both sides sign: the claim with which a consumer asks, and the agreement. FORMATS.md, "Claim" and "Agreement".

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use crate::policy::{Policy, PolicyError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// With a request a consumer states what for and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who asks.
    pub consumer: ParticipantId,
    /// Who is asked.
    pub provider: ParticipantId,
    /// The negotiation, as the consumer names it.
    pub process: ProcessId,
    /// The offer.
    pub offer: OfferId,
    /// The dataset.
    pub dataset: DatasetId,
    /// What for.
    pub purpose: Text,
    /// On whose behalf.
    pub enterprise: Text,
    /// The handling person, as a commitment.
    pub person: Digest,
    /// When.
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
    /// This one.
    One(u64),
    /// All.
    All,
}

/// The agreement; provider and consumer sign the same payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Its id.
    pub id: AgreementId,
    /// Who provides.
    pub provider: ParticipantId,
    /// Who consumes.
    pub consumer: ParticipantId,
    /// The dataset.
    pub dataset: DatasetId,
    /// Which versions.
    pub versions: Versions,
    /// The manifest's digest, where one version is agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The policy in its normal form.
    pub policy: Value,
    /// Its digest.
    pub policy_digest: Digest,
    /// What for; between crosspark nodes always, as are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<Text>,
    /// The handling person, as a commitment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Digest>,
    /// From when.
    pub valid_from: Timestamp,
    /// Until when.
    pub valid_until: Timestamp,
}

impl Document for Agreement {
    const TYP: &'static str = "crosspark-agreement+jws";
    const FORMAT: &'static str = "agreement/1";
    // Both parties sign it; who must have is checked where it is verified.
    fn author(&self) -> Option<&ParticipantId> {
        None
    }
}

/// A publisher withdraws a dataset: those who have an agreement on it are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Who published it.
    pub publisher: ParticipantId,
    /// The dataset, all its versions.
    pub dataset: DatasetId,
    /// Why.
    pub reason: Text,
    /// When.
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

/// Why an agreement is not what was negotiated.
#[derive(Debug, thiserror::Error)]
pub enum AgreementError {
    /// Its policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It differs from what was asked.
    #[error("the agreement differs from the request in `{0}`")]
    Differs(&'static str),
    /// Its digest is of another policy.
    #[error("the agreement's policy is not in normal form, or has another digest than it states")]
    PolicyDigest,
}

impl Agreement {
    /// Its policy, if it is the one that it states.
    pub fn policy(&self) -> Result<Policy, AgreementError> {
        let policy = Policy::from_value(&self.policy)?;
        let normal = policy.to_value() == self.policy && policy.digest() == self.policy_digest;
        if normal { Ok(policy) } else { Err(AgreementError::PolicyDigest) }
    }

    /// Whether this is what the consumer asked for under the offer that it saw.
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

    /// Whether it holds at `at`.
    pub fn is_valid(&self, at: Timestamp) -> bool {
        self.valid_from <= at && at < self.valid_until
    }
}
