//! Contract negotiation, both roles: what arrives is checked, moved and logged in one commit; what this side has to
//! do next is decided after it (`negotiate_next`).

use super::message::{Message, subject_of};
use super::refusal::Error;
use super::register::object;
use super::{Counterparty, Node, Trust, trace};
use crate::agreement::{Agreement, Claim};
use crate::audit::entry::{Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document::{self, Signed};
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Event, Negotiation, Role, Signatures, State};
use crate::policy::{Decision, Policy};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use crate::transfer::{SEALED, Transfer};
use serde_json::{Value, json};
use std::sync::Arc;

/// The rule of a refused agreement.
const BAD_AGREEMENT: &str = "agreement";

/// A process after a message, and the entry of its move (none if the message was a repetition).
#[derive(Debug, Clone)]
pub struct Moved<T> {
    /// The process.
    pub process: T,
    /// The entry.
    pub logged: Option<crate::storage::Logged>,
}

impl<T> Moved<T> {
    /// A repetition: nothing moved.
    pub fn repeated(process: T) -> Self {
        Self { process, logged: None }
    }
}

/// The pauses of a step that did not succeed: none at first after a conflict, growing after anything else.
#[derive(Default)]
pub struct Pause(u32);

impl Pause {
    /// Waits as long as `error` and the tries so far demand.
    pub async fn after(&mut self, error: &StoreError, process: &ProcessId) {
        self.0 = self.0.saturating_add(1);
        if matches!(error, StoreError::Conflict(_)) && self.0 as usize <= limits::CONFLICT_RETRIES_MAX {
            return;
        }
        tracing::warn!(%error, %process, tries = self.0, "a process could not go on yet");
        let pause = std::time::Duration::from_millis(100 << self.0.min(12));
        tokio::time::sleep(pause.min(limits::OUTBOX_BACKOFF_MAX)).await;
    }
}

/// A message about a process, as it arrived.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// From whom.
    pub from: &'a Counterparty,
    /// The process, as this node names it.
    pub pid: &'a ProcessId,
    /// The process, as the sender names it.
    pub peer_pid: &'a ProcessId,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

/// A ContractRequestMessage that opens a negotiation.
#[derive(Debug, Clone)]
pub struct ContractRequest {
    /// The consumer's name for it.
    pub consumer_pid: ProcessId,
    /// The offer.
    pub offer: OfferId,
    /// Its target.
    pub dataset: Option<DatasetId>,
    /// Its policy, as the consumer saw it.
    pub policy: Value,
    /// The claim, JWS.
    pub claim: String,
    /// Where the answers shall go.
    pub callback: Endpoint,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

impl Node {
    /// Provider: a consumer asks for an offer.
    pub async fn contract_requested(
        self: &Arc<Self>,
        from: &Counterparty,
        request: ContractRequest,
    ) -> Result<Moved<Negotiation>, Error> {
        self.take_quota(&from.participant)?;
        if let Some(id) = self.parts.store.process_by_peer(&from.participant, &request.consumer_pid).await? {
            // The same message again gets the same answer; another under the same name is refused.
            let known = self.parts.store.negotiation(&id).await?;
            if let Some(known) = known.filter(|known| known.seen.contains(&request.digest)) {
                self.go_on_negotiation(&known.id);
                return Ok(Moved::repeated(known));
            }
            let error = Error::invalid("pid", format!("the process {} exists already", request.consumer_pid));
            return Err(self.refuse(from, Kind::MessageRefused, Facts::default(), error).await);
        }
        match self.open_negotiation(from, &request).await {
            Ok(opened) => {
                self.go_on_negotiation(&opened.process.id);
                Ok(opened)
            }
            Err(error) => {
                let facts = Facts {
                    dataset: request.dataset.clone(),
                    detail: object(json!({"message": "ContractRequestMessage", "offer": request.offer})),
                    ..Facts::default()
                };
                Err(self.refuse(from, Kind::MessageRefused, facts, error).await)
            }
        }
    }

    async fn open_negotiation(
        &self,
        from: &Counterparty,
        request: &ContractRequest,
    ) -> Result<Moved<Negotiation>, Error> {
        let (trust, now) = (self.trust(), self.now());
        check_callback(&trust, from, &request.callback)?;
        let claim = self.check_claim(&trust, from, request, now)?;
        let version = self.parts.store.version_by_offer(&request.offer).await?;
        let version = version.ok_or_else(|| Error::not_found(format!("there is no offer {}", request.offer)))?;
        if claim.dataset != version.dataset || request.dataset.as_ref().is_some_and(|d| *d != version.dataset) {
            return Err(Error::invalid("target", "the offer is of another dataset"));
        }
        let asked = Policy::from_value(&request.policy).map_err(|e| Error::invalid("policy", e.to_string()))?;
        if asked.digest() != version.policy_digest {
            return Err(Error::invalid("policy", "the offer's policy is another one; read the catalog again"));
        }
        let negotiation = Negotiation {
            id: ProcessId::generate(self.random()),
            role: Role::Provider,
            peer: from.participant.clone(),
            peer_pid: Some(request.consumer_pid.clone()),
            state: State::Requested,
            revision: 1,
            subject: subject_of(&claim, &request.claim, version.policy),
            agreement: None,
            reason: None,
            seen: vec![request.digest],
            trace: trace::current(),
            started: now,
            updated: now,
        };
        let mut facts = moved(&negotiation, Role::Consumer);
        facts.detail.insert("claim".into(), request.claim.clone().into());
        let change = Change::new(self.draft(Kind::NegotiationMoved, facts))
            .guard(Guard::Register(from.register))
            .guard(Guard::OpenProcesses(from.participant.clone(), limits::OPEN_PROCESSES_PER_MEMBER_MAX))
            .write(Write::PutNegotiation(Box::new(negotiation.clone())));
        match self.parts.store.commit(change).await {
            Ok(mut logged) => Ok(Moved { process: negotiation, logged: logged.pop() }),
            Err(StoreError::Conflict("the number of open processes")) => Err(Error::TooMany),
            Err(error) => Err(error.into()),
        }
    }

    fn check_claim(
        &self,
        trust: &Trust,
        from: &Counterparty,
        request: &ContractRequest,
        now: Timestamp,
    ) -> Result<Claim, Error> {
        let claim = document::verify::<Claim>(&request.claim, |kid| trust.register.document_key(kid, now))
            .map_err(|error| Error::invalid("claim", error.to_string()))?
            .into_body();
        let wrong = [
            ("consumer", claim.consumer != from.participant),
            ("provider", claim.provider != *self.me()),
            ("process", claim.process != request.consumer_pid),
            ("offer", claim.offer != request.offer),
            ("issued", claim.issued > now.plus_ms(limits::SKEW_MS_MAX)),
            ("issued", claim.issued < now.plus_ms(-limits::CLAIM_AGE_MS_MAX)),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((what, _)) => Err(Error::invalid("claim", format!("the claim's `{what}` does not fit the message"))),
            None => Ok(claim),
        }
    }

    /// A message that moves a negotiation: checked, moved, logged; repeated, it changes nothing and gets the same answer.
    async fn move_negotiation(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&Trust, Negotiation, Change) -> Result<(Negotiation, Change), Error>,
    ) -> Result<Moved<Negotiation>, Error> {
        self.take_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.parts.store.negotiation(inbound.pid).await?;
            let Some(old) = found.filter(|n| n.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no negotiation {}", inbound.pid));
                return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if old.seen.contains(&inbound.digest) {
                self.go_on_negotiation(&old.id);
                return Ok(Moved::repeated(old));
            }
            match self.moved_by_peer(inbound, event, old, &amend) {
                Ok((next, change)) => match self.parts.store.commit(change).await {
                    Ok(logged) => {
                        self.go_on_negotiation(&next.id);
                        return Ok(Moved { process: next, logged: logged.into_iter().next() });
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
        amend: &impl Fn(&Trust, Negotiation, Change) -> Result<(Negotiation, Change), Error>,
    ) -> Result<(Negotiation, Change), Error> {
        let by = match old.role {
            Role::Consumer => Role::Provider,
            Role::Provider => Role::Consumer,
        };
        if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
            return Err(Error::invalid("pid", "the message names another process of the sender"));
        }
        let mut next = old.apply(by, event, self.now()).map_err(|e| Error::invalid("state", e.to_string()))?;
        next.peer_pid = Some(inbound.peer_pid.clone());
        let next = next.remember(inbound.digest);
        let placeholder = self.draft(Kind::NegotiationMoved, moved(&next, by));
        let trust = self.trust();
        let change = Change::new(placeholder).guard(Guard::Register(inbound.from.register));
        let (next, change) = amend(&trust, next, change)?;
        let change = change.write(Write::PutNegotiation(Box::new(next.clone())));
        Ok((next, change))
    }

    /// Consumer: the provider agreed.
    pub async fn agreed(self: &Arc<Self>, inbound: Inbound<'_>, agreement: &str) -> Result<Moved<Negotiation>, Error> {
        let now = self.now();
        let taken = self.move_negotiation(&inbound, Event::Agree, |trust, mut next, change| {
            let signed = self.check_agreement(trust, agreement, Role::Provider, &next, now)?;
            let claim = document::verify::<Claim>(&next.subject.claim, |kid| self.own_key(kid))
                .map_err(|error| Error::Internal(error.to_string()))?;
            let policy = Policy::from_value(&next.subject.policy).map_err(|e| Error::Internal(e.to_string()))?;
            let fits = signed.body().check_against(claim.body(), &policy);
            fits.map_err(|error| Error::invalid(BAD_AGREEMENT, error.to_string()))?;
            next.agreement = Some(Signatures { provider: agreement.to_owned(), consumer: None });
            Ok((next, change))
        });
        let taken = taken.await;
        if let Err(error) = &taken
            && error.code() == BAD_AGREEMENT
        {
            self.turn_down(&inbound, &error.to_string()).await;
        }
        taken
    }

    /// Consumer: the provider's agreement is none. The provider may not end an agreed negotiation (DSP 2025-1, "Contract
    /// Negotiation States"), so this side does: else both would wait for ever.
    async fn turn_down(&self, inbound: &Inbound<'_>, reason: &str) {
        let found = self.parts.store.negotiation(inbound.pid).await;
        let Ok(Some(mut old)) = found else { return };
        old.peer_pid.get_or_insert_with(|| inbound.peer_pid.clone());
        let said = Decision::Refused { rule: BAD_AGREEMENT.into(), reason: reason.to_owned() };
        let Some(change) = self.terminate(old, Some(said), reason, self.now()) else { return };
        if let Err(error) = self.parts.store.commit(change).await {
            tracing::warn!(%error, process = %inbound.pid, "a negotiation with a bad agreement could not be ended");
        }
    }

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

    /// Provider: the consumer verified and countersigned.
    pub async fn verified(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        agreement: &str,
    ) -> Result<Moved<Negotiation>, Error> {
        let now = self.now();
        self.move_negotiation(&inbound, Event::Verify, |trust, mut next, change| {
            let theirs = self.check_agreement(trust, agreement, Role::Consumer, &next, now)?;
            let ours = next.agreement.as_ref().map(|signatures| signatures.provider.clone());
            let ours = ours.ok_or_else(|| Error::Internal("an agreed negotiation without agreement".into()))?;
            let own = document::verify::<Agreement>(&ours, |kid| self.own_key(kid))
                .map_err(|error| Error::Internal(error.to_string()))?;
            if own.digest() != theirs.digest() {
                return Err(Error::invalid(BAD_AGREEMENT, "the consumer signed another agreement than was sent"));
            }
            next.agreement = Some(Signatures { provider: ours, consumer: Some(agreement.to_owned()) });
            Ok((next, change))
        })
        .await
    }

    /// Consumer: all is done; the transfer is asked for in the same commit.
    pub async fn finalized(self: &Arc<Self>, inbound: Inbound<'_>) -> Result<Moved<Negotiation>, Error> {
        self.move_negotiation(&inbound, Event::Finalize, |_, next, change| {
            let row = self.agreement_row(&next)?;
            let transfer = self.new_transfer(&next, &row);
            let message = Message::TransferRequest {
                pid: transfer.id.clone(),
                agreement: row.id.clone(),
                format: SEALED.to_owned(),
            };
            let facts = super::transfer::moved(&transfer, Role::Consumer, None);
            let change = change
                .entry(self.draft(Kind::TransferMoved, facts))
                .write(Write::InsertAgreement(Box::new(row)))
                .send(message.outgoing(&next.peer, &transfer.id, self.random()))
                .write(Write::PutTransfer(Box::new(transfer)));
            Ok((next, change))
        })
        .await
    }

    fn new_transfer(&self, negotiation: &Negotiation, row: &AgreementRow) -> Transfer {
        Transfer {
            id: ProcessId::generate(self.random()),
            role: Role::Consumer,
            peer: negotiation.peer.clone(),
            peer_pid: None,
            state: crate::transfer::State::Requested,
            revision: 1,
            agreement: row.id.clone(),
            negotiation: negotiation.id.clone(),
            format: SEALED.to_owned(),
            token_until: None,
            wrapped_token: None,
            reason: None,
            seen: Vec::new(),
            trace: negotiation.trace,
            started: negotiation.updated,
            updated: negotiation.updated,
        }
    }

    /// Either side: the other ends it.
    pub async fn negotiation_terminated(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Moved<Negotiation>, Error> {
        self.move_negotiation(&inbound, Event::Terminate, |_, mut next, change| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok((next, change))
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

/// Callback addresses come from messages, and are compared with the register; they are never dialled.
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
    if let Some(signatures) = &negotiation.agreement {
        detail.insert("providerSignature".into(), signatures.provider.clone().into());
        if let Some(consumer) = &signatures.consumer {
            detail.insert("consumerSignature".into(), consumer.clone().into());
        }
    }
    if let Some(reason) = &negotiation.reason {
        detail.insert("reason".into(), reason.clone().into());
    }
    Facts {
        parties: vec![negotiation.peer.clone()],
        dataset: Some(subject.dataset.clone()),
        process: Some(negotiation.id.clone()),
        enterprise: Some(subject.enterprise.clone()),
        purpose: Some(subject.purpose.clone()),
        detail,
        ..Facts::default()
    }
}
