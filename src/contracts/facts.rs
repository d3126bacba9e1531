//! Terms, new negotiations, and the facts of their transitions for the log.

use crate::agreement::Claim;
use crate::audit::entry::Facts;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, ProcessId};
use crate::core::json;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Negotiation, Role, State, Subject};
use crate::node::{Error, details, trace};
use crate::policy::{Policy, rules_as_written};
use serde_json::{Value, json};

/// Code and rule of a refused agreement.
pub const BAD_AGREEMENT: &str = "agreement";

/// Terms in a ContractRequestMessage or ContractOfferMessage.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Offer.
    pub offer: OfferId,
    /// Dataset, the target of the offer.
    pub dataset: Option<DatasetId>,
    /// Policy of the offer.
    pub policy: Value,
    /// The offer as it was written.
    pub written: Option<Value>,
}

impl Terms {
    /// The policy, if it is understood.
    pub fn policy(&self) -> Result<Policy, Error> {
        Policy::from_value(&self.policy).map_err(|error| Error::invalid("policy", error.to_string()))
    }

    /// The rules of the offer as they were written, if they may be repeated and are not too long to be kept.
    pub fn kept(&self) -> Option<Value> {
        let rules = rules_as_written(self.written.as_ref()?)?;
        Some(rules).filter(|rules| json::to_canonical(rules).len() <= limits::POLICY_BYTES_MAX)
    }

    /// Fails when the terms name another dataset.
    pub fn ensure_about(&self, dataset: &DatasetId) -> Result<(), Error> {
        match &self.dataset {
            Some(other) if other != dataset => Err(Error::invalid("target", "the offer is for another dataset")),
            _ => Ok(()),
        }
    }
}

/// A new negotiation, not committed yet.
pub fn new_negotiation(
    id: ProcessId,
    (role, state): (Role, State),
    from: (&ParticipantId, Option<ProcessId>, Option<Endpoint>),
    subject: Subject,
    seen: Vec<Digest>,
    now: Timestamp,
) -> Negotiation {
    let (peer, peer_pid, callback) = from;
    Negotiation {
        id,
        role,
        peer: peer.clone(),
        peer_pid,
        state,
        revision: 1,
        subject,
        callback,
        approval: None,
        agreement: None,
        reason: None,
        cancelled: false,
        seen,
        trace: trace::current(),
        started: now,
        updated: now,
    }
}

/// Sets the members that a claim determines.
pub fn set_claim(subject: &mut Subject, claim: &Claim, jws: &str) {
    subject.claim = Some(jws.to_owned());
    subject.purpose = Some(claim.purpose.clone());
    subject.enterprise = Some(claim.enterprise.clone());
}

/// The facts of a transition, with both signatures of the agreement, so that both logs hold them.
pub fn transition_facts(negotiation: &Negotiation, by: Role) -> Facts {
    let subject = &negotiation.subject;
    let mut detail = details(json!({
        "state": negotiation.state, "by": by, "role": negotiation.role, "offer": subject.offer,
        "peerPid": negotiation.peer_pid,
    }));
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            detail.insert(name.into(), value.into());
        }
    };
    let signatures = negotiation.agreement.as_ref();
    add("providerSignature", signatures.and_then(|signatures| signatures.provider.as_deref()));
    add("consumerSignature", signatures.and_then(|signatures| signatures.consumer.as_deref()));
    add("reason", negotiation.reason.as_deref());
    Facts {
        parties: vec![negotiation.peer.clone()],
        dataset: Some(subject.dataset.clone()),
        process: Some(negotiation.id.clone()),
        enterprise: subject.enterprise.clone(),
        purpose: subject.purpose.clone(),
        detail,
        ..Facts::default()
    }
}
