//! Contract negotiation: what arrives is checked, moved and logged in one commit; what this side has to do next is
//! decided after it (`next`). `provider` and `consumer` say what each side checks.

mod consumer;
mod next;
mod provider;

pub use consumer::{ContractOffer, PlainAgreement};
pub use provider::ContractRequest;

use super::process::{Inbound, Transition};
use super::refusal::Error;
use super::register::object;
use super::{Counterparty, Node, Trust};
use crate::agreement::{Agreement, Claim};
use crate::audit::entry::{Draft, Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document::{self, Signed};
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Event, Negotiation, Role, Subject};
use crate::policy::Policy;
use crate::storage::{Change, Guard, Outgoing, StoreError, Write};
use serde_json::{Value, json};
use std::sync::Arc;

/// The rule of a refused agreement.
const BAD_AGREEMENT: &str = "agreement";

/// What a ContractRequestMessage or ContractOfferMessage puts on the table.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The offer.
    pub offer: OfferId,
    /// Its target.
    pub dataset: Option<DatasetId>,
    /// Its policy.
    pub policy: Value,
}

impl Terms {
    /// Its policy, if it is understood.
    fn policy(&self) -> Result<Policy, Error> {
        Policy::from_value(&self.policy).map_err(|error| Error::invalid("policy", error.to_string()))
    }

    fn ensure_about(&self, dataset: &DatasetId) -> Result<(), Error> {
        match &self.dataset {
            Some(other) if other != dataset => Err(Error::invalid("target", "the offer is of another dataset")),
            _ => Ok(()),
        }
    }
}

/// What a message's move brings with it in the same commit.
#[derive(Default)]
struct SideEffects {
    entry: Option<Draft>,
    writes: Vec<Write>,
    outbox: Vec<Outgoing>,
}

impl Node {
    /// A message that moves a negotiation: checked, moved, logged; repeated, it changes nothing and gets the same answer.
    async fn move_negotiation(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&Trust, &mut Negotiation, &mut SideEffects) -> Result<(), Error>,
    ) -> Result<Transition<Negotiation>, Error> {
        self.charge_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.parts.store.negotiation(inbound.pid).await?;
            let Some(old) = found.filter(|n| n.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no negotiation {}", inbound.pid));
                return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if inbound.is_repeated(&old.seen) {
                self.advance_negotiation(&old.id);
                return Ok(Transition::repeated(old));
            }
            match self.moved_by_peer(inbound, event, old, &amend) {
                Ok((next, change)) => match self.parts.store.commit(change).await {
                    Ok(logged) => {
                        self.advance_negotiation(&next.id);
                        return Ok(Transition { process: next, logged: logged.into_iter().next() });
                    }
                    Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await),
            }
        }
        Err(Error::Unavailable("the negotiation changes all the time; try again".into()))
    }

    fn moved_by_peer(
        &self,
        inbound: &Inbound<'_>,
        event: Event,
        old: Negotiation,
        amend: &impl Fn(&Trust, &mut Negotiation, &mut SideEffects) -> Result<(), Error>,
    ) -> Result<(Negotiation, Change), Error> {
        let by = match old.role {
            Role::Consumer => Role::Provider,
            Role::Provider => Role::Consumer,
        };
        if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
            return Err(Error::invalid("pid", "the message names another process of the sender"));
        }
        let endless = old.revision >= limits::NEGOTIATION_TRANSITIONS_MAX && event != Event::Terminate;
        if endless {
            return Err(Error::invalid("state", "this negotiation has gone back and forth too often; begin another"));
        }
        let mut next = old.apply(by, event, self.now()).map_err(|e| Error::invalid("state", e.to_string()))?;
        next.peer_pid = Some(inbound.peer_pid.clone());
        let mut next = next.remember(inbound.digest);
        let mut effects = SideEffects::default();
        amend(&self.trust(), &mut next, &mut effects)?;
        let mut change = Change::new(self.draft(Kind::NegotiationTransition, moved(&next, by)))
            .guard(Guard::Register(inbound.from.register))
            .write(Write::PutNegotiation(Box::new(next.clone())));
        if let Some(entry) = effects.entry {
            change = change.entry(entry);
        }
        change.writes.extend(effects.writes);
        change.outbox.extend(effects.outbox);
        Ok((next, change))
    }

    /// An agreement that a crosspark node signed, believed by the register of today.
    fn check_agreement(
        &self,
        trust: &Trust,
        jws: &str,
        by: Role,
        negotiation: &Negotiation,
        now: Timestamp,
    ) -> Result<Signed<Agreement>, Error> {
        let signed = document::verify::<Agreement>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| Error::invalid(BAD_AGREEMENT, error.to_string()))?;
        let body = signed.body();
        let named = if by == Role::Provider { &body.provider } else { &body.consumer };
        if *named != negotiation.peer || signed.signer().participant() != negotiation.peer {
            return Err(Error::invalid(BAD_AGREEMENT, "the agreement is not signed by the party that it names"));
        }
        Ok(signed)
    }

    /// Either side: the other ends it.
    pub async fn negotiation_terminated(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Negotiation>, Error> {
        self.move_negotiation(&inbound, Event::Terminate, |_, next, _| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// A negotiation as its other side may read it.
    pub async fn negotiation_for(self: &Arc<Self>, from: &Counterparty, id: &ProcessId) -> Result<Negotiation, Error> {
        let found = self.parts.store.negotiation(id).await?.filter(|n| n.peer == from.participant);
        match found {
            Some(negotiation) => Ok(negotiation),
            None => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                let error = Error::not_found(format!("there is no negotiation {id}"));
                Err(self.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }
}

/// A new negotiation, not committed yet.
pub(super) fn begin(
    id: ProcessId,
    (role, state): (Role, crate::negotiation::State),
    from: (&crate::core::id::ParticipantId, Option<ProcessId>, Option<Endpoint>),
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
        ruling: None,
        agreement: None,
        reason: None,
        seen,
        trace: super::trace::current(),
        started: now,
        updated: now,
    }
}

/// What a claim adds to what is negotiated.
pub(super) fn claimed(subject: &mut Subject, claim: &Claim, jws: &str) {
    subject.claim = Some(jws.to_owned());
    subject.purpose = Some(claim.purpose.clone());
    subject.enterprise = Some(claim.enterprise.clone());
}

/// Callback addresses come from messages, and are compared with the register: what is not below the member's entry is
/// refused.
pub fn check_callback(trust: &Trust, from: &Counterparty, callback: &Endpoint) -> Result<(), Error> {
    let member = trust.member(&from.participant)?;
    if member.callbacks.iter().any(|prefix| prefix.covers(callback)) {
        return Ok(());
    }
    let reason = format!("the callback address {callback} is none that the register has for {}", from.participant);
    Err(Error::invalid("callback", reason))
}

/// The facts of a move, with the signatures that it rests on: both go into both logs.
pub(super) fn moved(negotiation: &Negotiation, by: Role) -> Facts {
    let subject = &negotiation.subject;
    let mut detail = object(json!({
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
