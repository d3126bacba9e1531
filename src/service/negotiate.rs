//! Contract negotiation, both roles: what arrives is checked, moved and logged in one commit; what this side has to
//! do next is decided after it, by the same function that goes on after a restart.

use super::message::{Message, subject_of};
use super::ports::NegotiationStep;
use super::refusal::Error;
use super::register::object;
use super::{Counterparty, Node, Trust, trace};
use crate::agreement::{Agreement, Claim, Versions};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, OfferId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document::{self, Signed};
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Event, Negotiation, Role, Signatures, State};
use crate::policy::{self, Decision, Policy};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use crate::transfer::{SEALED, Transfer};
use serde_json::{Value, json};
use std::sync::Arc;

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
        self.move_negotiation(&inbound, Event::Agree, |trust, mut next, change| {
            let signed = self.check_agreement(trust, agreement, Role::Provider, &next, now)?;
            let claim = document::verify::<Claim>(&next.subject.claim, |kid| self.own_key(kid))
                .map_err(|error| Error::Internal(error.to_string()))?;
            let policy = Policy::from_value(&next.subject.policy).map_err(|e| Error::Internal(e.to_string()))?;
            let fits = signed.body().check_against(claim.body(), &policy);
            fits.map_err(|error| Error::invalid("agreement", error.to_string()))?;
            next.agreement = Some(Signatures { provider: agreement.to_owned(), consumer: None });
            Ok((next, change))
        })
        .await
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
            .map_err(|error| Error::invalid("agreement", error.to_string()))?;
        let body = signed.body();
        let named = if by == Role::Provider { &body.provider } else { &body.consumer };
        if *named != negotiation.peer || signed.signer().participant() != negotiation.peer {
            return Err(Error::invalid("agreement", "the agreement is not signed by the party that it names"));
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
                return Err(Error::invalid("agreement", "the consumer signed another agreement than was sent"));
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

    /// Does this side's next step, if there is one, in the background.
    pub(super) fn go_on_negotiation(self: &Arc<Self>, id: &ProcessId) {
        let (node, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let found = node.parts.store.negotiation(&id).await.ok().flatten().and_then(|n| n.trace);
            let steps = async {
                let mut pause = Pause::default();
                while let Err(error) = node.step_negotiation(&id).await {
                    pause.after(&error, &id).await;
                }
            };
            trace::within(found, steps).await;
        });
    }

    async fn step_negotiation(self: &Arc<Self>, id: &ProcessId) -> Result<(), StoreError> {
        let Some(old) = self.parts.store.negotiation(id).await? else { return Ok(()) };
        let (trust, now) = (self.trust(), self.now());
        trust.must_be_current(now)?;
        let (said, guards) = match (old.role, old.state) {
            (Role::Provider, State::Requested) => {
                let (said, guards) = self.policy_says(&trust, &old, now).await?;
                (Some(said), guards)
            }
            _ => (None, Vec::new()),
        };
        let step = self.parts.decisions.negotiation(&old, said.as_ref());
        let sequence = trust.register.body().sequence;
        let guards = guards.into_iter().chain([Guard::Register(sequence)]);
        let change = match step {
            NegotiationStep::Wait => return Ok(()),
            NegotiationStep::Agree => self.agree(old, said, now).await?,
            NegotiationStep::Verify => self.countersign(old, now),
            NegotiationStep::Finalize => self.finalize(old, now),
            NegotiationStep::Terminate(reason) => self.terminate(old, said, &reason, now),
        };
        let Some(mut change) = change else { return Ok(()) };
        change.guards.extend(guards);
        self.parts.store.commit(change).await.map(drop)
    }

    /// What the policy says of this consumer now, and the facts that it read.
    async fn policy_says(
        &self,
        trust: &Trust,
        negotiation: &Negotiation,
        now: Timestamp,
    ) -> Result<(Decision, Vec<Guard>), StoreError> {
        let refused = |rule: &str, reason: &str| Decision::Refused { rule: rule.into(), reason: reason.into() };
        let Some(version) = self.parts.store.version_by_offer(&negotiation.subject.offer).await? else {
            return Ok((refused("offer", "the offer no longer stands"), Vec::new()));
        };
        let guards = vec![Guard::Offer(version.offer.clone(), version.policy_digest)];
        let member = trust.register.member(&negotiation.peer);
        let active = member.filter(|member| member.status == crate::identity::register::Status::Active);
        let Some(member) = active else { return Ok((refused("membership", "not an active member"), guards)) };
        if !trust.register.is_current(now) {
            return Ok((refused("register", "the register has expired"), guards));
        }
        let Ok(policy) = Policy::from_value(&version.policy) else {
            return Ok((refused("policy", "the policy is not understood"), guards));
        };
        let facts = policy::Facts {
            recipient: &negotiation.peer,
            groups: &member.groups,
            purpose: Some(&negotiation.subject.purpose),
            now,
            used: 0,
        };
        Ok((policy.evaluate(&facts), guards))
    }

    async fn agree(
        &self,
        old: Negotiation,
        said: Option<Decision>,
        now: Timestamp,
    ) -> Result<Option<Change>, StoreError> {
        let Some(Decision::Permitted { rule, .. }) = said else {
            // Whoever decides may be stricter than the policy, never laxer.
            return Ok(self.terminate(old, said, "the policy does not permit it", now));
        };
        let version = self.parts.store.version_by_offer(&old.subject.offer).await?;
        let Some(version) = version else { return Err(StoreError::Conflict("the offer")) };
        let claim =
            match document::verify::<Claim>(&old.subject.claim, |kid| self.trust().register.document_key(kid, now)) {
                Ok(claim) => claim.into_body(),
                Err(error) => return Ok(self.terminate(old, None, &error.to_string(), now)),
            };
        let policy = Policy::from_value(&version.policy).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let life = now.plus_ms(limits::AGREEMENT_LIFE_MS);
        let agreement = Agreement {
            id: AgreementId::generate(self.random()),
            provider: self.me().clone(),
            consumer: old.peer.clone(),
            dataset: version.dataset,
            versions: Versions::One(version.version),
            manifest: Some(version.manifest_digest),
            policy: version.policy,
            policy_digest: version.policy_digest,
            purpose: claim.purpose,
            enterprise: claim.enterprise,
            person: claim.person,
            valid_from: now,
            valid_until: policy.end().map_or(life, |end| end.min(life)),
        };
        let id = agreement.id.clone();
        let signed = document::sign(agreement, &self.document_key());
        let Ok(mut next) = old.apply(Role::Provider, Event::Agree, now) else { return Ok(None) };
        next.agreement = Some(Signatures { provider: signed.jws().to_owned(), consumer: None });
        let Some(peer_pid) = next.peer_pid.clone() else { return Ok(None) };
        let message = Message::ContractAgreement {
            pid: next.id.clone(),
            peer_pid,
            agreement: signed.jws().to_owned(),
            signed: now,
        };
        let mut facts = moved(&next, Role::Provider);
        (facts.agreement, facts.decision, facts.rule) = (Some(id), Some(Logged::Permitted), Some(rule));
        Ok(Some(self.change_of(next, facts, Some(message))))
    }

    fn countersign(&self, old: Negotiation, now: Timestamp) -> Option<Change> {
        let provider = old.agreement.as_ref()?.provider.clone();
        let trust = self.trust();
        let agreement = document::verify::<Agreement>(&provider, |kid| trust.register.document_key(kid, now)).ok()?;
        let signed = document::countersign(&agreement, &self.document_key());
        let mut next = old.apply(Role::Consumer, Event::Verify, now).ok()?;
        next.agreement = Some(Signatures { provider, consumer: Some(signed.clone()) });
        let message =
            Message::ContractVerification { pid: next.id.clone(), peer_pid: next.peer_pid.clone()?, agreement: signed };
        let facts = moved(&next, Role::Consumer);
        Some(self.change_of(next, facts, Some(message)))
    }

    fn finalize(&self, old: Negotiation, now: Timestamp) -> Option<Change> {
        let next = old.apply(Role::Provider, Event::Finalize, now).ok()?;
        let row = self.agreement_row(&next).ok()?;
        let message = Message::ContractFinalized { pid: next.id.clone(), peer_pid: next.peer_pid.clone()? };
        let facts = moved(&next, Role::Provider);
        Some(self.change_of(next, facts, Some(message)).write(Write::InsertAgreement(Box::new(row))))
    }

    fn terminate(&self, old: Negotiation, said: Option<Decision>, reason: &str, now: Timestamp) -> Option<Change> {
        let by = old.role;
        let mut next = old.apply(by, Event::Terminate, now).ok()?;
        next.reason = Some(reason.to_owned());
        let message = Message::end_of_negotiation(&next, "refused", reason);
        let mut facts = moved(&next, by);
        facts.decision = Some(Logged::Refused);
        facts.rule = match said {
            Some(Decision::Refused { rule, .. } | Decision::Undetermined { rule }) => Some(rule),
            _ => Some("decision".into()),
        };
        facts.detail.insert("reason".into(), reason.into());
        Some(self.change_of(next, facts, message))
    }

    fn change_of(&self, next: Negotiation, facts: Facts, message: Option<Message>) -> Change {
        let change = Change::new(self.draft(Kind::NegotiationMoved, facts));
        let outgoing = message.map(|message| message.outgoing(&next.peer, &next.id, self.random()));
        let mut change = change.write(Write::PutNegotiation(Box::new(next)));
        change.outbox.extend(outgoing);
        change
    }

    /// The agreement of a negotiation that both sides signed.
    fn agreement_row(&self, negotiation: &Negotiation) -> Result<AgreementRow, Error> {
        let missing = || Error::Internal("the agreement lacks a signature".into());
        let signatures = negotiation.agreement.as_ref().ok_or_else(missing)?;
        let consumer = signatures.consumer.clone().ok_or_else(missing)?;
        let (trust, now) = (self.trust(), self.now());
        let signed = document::verify::<Agreement>(&signatures.provider, |kid| {
            self.own_key(kid).or_else(|| trust.register.document_key(kid, now))
        })
        .map_err(|error| Error::invalid("agreement", error.to_string()))?;
        Ok(AgreementRow {
            id: signed.body().id.clone(),
            peer: negotiation.peer.clone(),
            negotiation: negotiation.id.clone(),
            digest: signed.digest(),
            agreement: signed.into_body(),
            provider: signatures.provider.clone(),
            consumer,
            used: 0,
        })
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
fn moved(negotiation: &Negotiation, by: Role) -> Facts {
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
