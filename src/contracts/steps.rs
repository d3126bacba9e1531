//! The next steps of this side in a negotiation, on the normal path and after a restart.

use super::Negotiations;
use super::facts::transition_facts;
use crate::agreement::{Agreement, Claim, Versions};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::core::id::{AgreementId, DatasetId, KeyId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document;
use crate::identity::register::Status;
use crate::negotiation::{Event, Illegal, Negotiation, Role, Signatures, State};
use crate::node::{Assessment, Error, Message, NegotiationStep, Trust, run_steps, trace};
use crate::policy::{self, Decision, Policy, PolicyError};
use crate::storage::{AgreementRow, Change, Conflict, Guard, StoreError, Write};
use serde_json::Value;
use std::sync::Arc;

impl Negotiations {
    /// Takes this side's next steps in the background, as long as there are any.
    pub fn advance(self: &Arc<Self>, id: &ProcessId) {
        let (negotiations, id) = (self.clone(), id.clone());
        run_steps(id.clone(), move || {
            let (negotiations, id) = (negotiations.clone(), id.clone());
            async move {
                match negotiations.node.store().negotiation(&id).await? {
                    Some(old) => trace::within(old.trace, negotiations.step(old)).await,
                    None => Ok(false),
                }
            }
        });
    }

    /// Evaluates the open negotiations about a dataset again after its offer changed or ended.
    pub async fn reconsider(self: &Arc<Self>, dataset: &DatasetId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let open = self.node.store().open_negotiations(after.as_ref(), limits::PAGE_ROWS_MAX).await?;
            let Some(last) = open.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for one in open.iter().filter(|one| one.role == Role::Provider && one.subject.dataset == *dataset) {
                self.advance(&one.id);
            }
        }
    }

    /// Takes one step; false if there is none.
    async fn step(self: &Arc<Self>, old: Negotiation) -> Result<bool, StoreError> {
        if old.state.is_final() {
            return Ok(false);
        }
        let (trust, now) = (self.node.trust(), self.node.now());
        trust.ensure_current(now)?;
        let (says, guards) = self.assess(&trust, &old, now).await?;
        let step = self.decisions.negotiation(&old, &says);
        let sequence = trust.register.body().sequence;
        let guards = guards.into_iter().chain([Guard::Register(sequence)]);
        let change = match step {
            NegotiationStep::Wait => return Ok(false),
            NegotiationStep::Offer => self.offer(old, now).await?,
            NegotiationStep::Counter(policy) => self.counter(old, &policy, now),
            NegotiationStep::Accept => self.accept(old, now),
            NegotiationStep::Agree => self.agree(old, says, now).await?,
            NegotiationStep::Verify => self.countersign(old, now),
            NegotiationStep::Finalize => self.finalize(old, now),
            NegotiationStep::Terminate(reason) => self.terminate(old, says.policy, &reason, now),
        };
        let Some(mut change) = change else { return Ok(false) };
        change.guards.extend(guards);
        self.node.store().commit(change).await.map(|_| true)
    }

    /// The input of a decision, and guards for the facts that were read for it.
    pub(super) async fn assess(
        &self,
        trust: &Trust,
        old: &Negotiation,
        now: Timestamp,
    ) -> Result<(Assessment, Vec<Guard>), StoreError> {
        let corrupt = |error: PolicyError| StoreError::Corrupt(error.to_string());
        let terms = Policy::from_value(&old.subject.policy).map_err(corrupt)?;
        match (old.role, old.state) {
            (Role::Provider, State::Requested | State::Accepted) => self.evaluate_offer(trust, old, &terms, now).await,
            (Role::Consumer, State::Offered) => {
                let asked = old.subject.asked.as_ref().map(Policy::from_value).transpose().map_err(corrupt)?;
                let fits = asked.is_some_and(|asked| asked.is_subset_of(&terms));
                Ok((Assessment { policy: None, fits }, Vec::new()))
            }
            _ => Ok((Assessment { policy: None, fits: true }, Vec::new())),
        }
    }

    /// Evaluates the terms and the offer for the consumer.
    async fn evaluate_offer(
        &self,
        trust: &Trust,
        negotiation: &Negotiation,
        terms: &Policy,
        now: Timestamp,
    ) -> Result<(Assessment, Vec<Guard>), StoreError> {
        let refused = |rule: &str, reason: &str, guards: Vec<Guard>| {
            let policy = Some(Decision::Refused { rule: rule.into(), reason: reason.into() });
            Ok((Assessment { policy, fits: true }, guards))
        };
        let Some(version) = self.node.store().version_by_offer(&negotiation.subject.offer).await? else {
            return refused("offer", "the offer is no longer valid", Vec::new());
        };
        let guards = vec![Guard::Offer(version.offer.clone(), version.policy_digest)];
        let member = trust.register.member(&negotiation.peer);
        let active = member.filter(|member| member.status == Status::Active);
        let Some(member) = active else { return refused("membership", "the consumer is not an active member", guards) };
        if !trust.register.is_current(now) {
            return refused("register", "the register has expired", guards);
        }
        let Ok(offered) = Policy::from_value(&version.policy) else {
            return refused("policy", "the policy of the offer is not understood", guards);
        };
        let facts = policy::Facts {
            recipient: &negotiation.peer,
            groups: &member.groups,
            purpose: negotiation.subject.purpose.as_ref(),
            now,
            used: 0,
            channel: None,
            approved: negotiation.approval.as_ref().is_some_and(|approval| approval.approved),
        };
        // A consumer that the offer refuses altogether gets no counter-offer.
        let says = match offered.evaluate(&facts) {
            refusal @ Decision::Refused { .. } => Assessment { policy: Some(refusal), fits: true },
            _ => Assessment { policy: Some(terms.evaluate(&facts)), fits: terms.is_subset_of(&offered) },
        };
        Ok((says, guards))
    }

    async fn offer(&self, old: Negotiation, now: Timestamp) -> Result<Option<Change>, StoreError> {
        let version = self.node.store().version_by_offer(&old.subject.offer).await?;
        let Some(version) = version else { return Err(StoreError::Conflict(Conflict::Offer)) };
        let Ok(mut next) = by_own(old, Event::Offer, now) else { return Ok(None) };
        (next.subject.policy, next.subject.written) = (version.policy, None);
        let (facts, message) = (transition_facts(&next, Role::Provider), Message::offer(&next));
        Ok(Some(self.change_of(next, facts, Some(message))))
    }

    fn counter(&self, old: Negotiation, policy: &Value, now: Timestamp) -> Option<Change> {
        let policy = Policy::from_value(policy).ok()?.to_value();
        let mut next = by_own(old, Event::Request, now).ok()?;
        (next.subject.policy, next.subject.asked) = (policy.clone(), Some(policy));
        self.claim_anew(&mut next, now)?;
        let (facts, message) =
            (transition_facts(&next, Role::Consumer), Message::request(&next, self.is_connector(&next.peer)));
        Some(self.change_of(next, facts, Some(message)))
    }

    fn accept(&self, old: Negotiation, now: Timestamp) -> Option<Change> {
        let mut next = by_own(old, Event::Accept, now).ok()?;
        self.claim_anew(&mut next, now)?;
        let message = Message::accept(&next, self.is_connector(&next.peer))?;
        let facts = transition_facts(&next, Role::Consumer);
        Some(self.change_of(next, facts, Some(message)))
    }

    /// Signs the claim again for the current offer. `None` if there is no claim yet.
    fn claim_anew(&self, next: &mut Negotiation, now: Timestamp) -> Option<()> {
        let before = document::verify::<Claim>(next.subject.claim.as_deref()?, |kid| self.node.own_key(kid)).ok()?;
        let claim = Claim { offer: next.subject.offer.clone(), issued: now, ..before.into_body() };
        next.subject.claim = Some(document::sign(claim, &self.node.document_key()).jws().to_owned());
        Some(())
    }

    fn is_connector(&self, peer: &ParticipantId) -> bool {
        self.node.trust().register.member(peer).is_some_and(|member| member.connector.is_some())
    }

    async fn agree(&self, old: Negotiation, says: Assessment, now: Timestamp) -> Result<Option<Change>, StoreError> {
        let rule = match says.policy {
            Some(Decision::Permitted { rule, .. }) if says.fits => rule,
            // The decision maker may be stricter than the policy, never laxer.
            said => return Ok(self.terminate(old, said, "the policy does not permit this use", now)),
        };
        let version = self.node.store().version_by_offer(&old.subject.offer).await?;
        let Some(version) = version else { return Err(StoreError::Conflict(Conflict::Offer)) };
        let claim = old
            .subject
            .claim
            .as_ref()
            .map(|jws| document::verify::<Claim>(jws, |kid| self.node.trust().register.document_key(kid, now)));
        let person = match claim.transpose() {
            Ok(claim) => claim.map(|claim| claim.body().person),
            Err(error) => return Ok(self.terminate(old, None, &error.to_string(), now)),
        };
        let policy = Policy::from_value(&old.subject.policy).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let life = now.plus_ms(limits::AGREEMENT_LIFE_MS);
        let agreement = Agreement {
            id: AgreementId::generate_at(self.node.now(), self.node.random()),
            provider: self.node.me().clone(),
            consumer: old.peer.clone(),
            dataset: version.dataset,
            versions: Versions::One(version.version),
            manifest: Some(version.manifest_digest),
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            purpose: old.subject.purpose.clone(),
            enterprise: old.subject.enterprise.clone(),
            person,
            valid_from: now,
            valid_until: policy.end().map_or(life, |end| end.min(life)),
        };
        let id = agreement.id.clone();
        let signed = document::sign(agreement, &self.node.document_key());
        let Ok(mut next) = by_own(old, Event::Agree, now) else { return Ok(None) };
        next.agreement = Some(Signatures { provider: Some(signed.jws().to_owned()), consumer: None });
        let Some(peer_pid) = next.peer_pid.clone() else { return Ok(None) };
        let message = Message::ContractAgreement {
            pid: next.id.clone(),
            peer_pid,
            agreement: signed.jws().to_owned(),
            terms: next.subject.written.clone(),
            signed: now,
        };
        let mut facts = transition_facts(&next, Role::Provider);
        (facts.agreement, facts.decision, facts.rule) = (Some(id), Some(Logged::Permitted), Some(rule));
        Ok(Some(self.change_of(next, facts, Some(message))))
    }

    /// Verifies the agreement, and countersigns that of a crosspark node.
    fn countersign(&self, old: Negotiation, now: Timestamp) -> Option<Change> {
        let signatures = old.agreement.clone()?;
        let trust = self.node.trust();
        let (agreement, signatures) = match signatures.provider {
            None => (None, signatures),
            Some(provider) => {
                let key = |kid: &KeyId| trust.register.document_key(kid, now);
                let agreement = document::verify::<Agreement>(&provider, key).ok()?;
                let signed = document::countersign(&agreement, &self.node.document_key());
                (Some(signed.clone()), Signatures { provider: Some(provider), consumer: Some(signed) })
            }
        };
        let mut next = by_own(old, Event::Verify, now).ok()?;
        next.agreement = Some(signatures);
        let message =
            Message::ContractVerification { pid: next.id.clone(), peer_pid: next.peer_pid.clone()?, agreement };
        let facts = transition_facts(&next, Role::Consumer);
        Some(self.change_of(next, facts, Some(message)))
    }

    fn finalize(&self, old: Negotiation, now: Timestamp) -> Option<Change> {
        let next = by_own(old, Event::Finalize, now).ok()?;
        let row = self.agreement_row(&next, self.is_connector(&next.peer)).ok()?;
        let message = Message::ContractFinalized { pid: next.id.clone(), peer_pid: next.peer_pid.clone()? };
        let facts = transition_facts(&next, Role::Provider);
        Some(self.change_of(next, facts, Some(message)).write(Write::InsertAgreement(Box::new(row))))
    }

    pub(super) fn terminate(
        &self,
        old: Negotiation,
        said: Option<Decision>,
        reason: &str,
        now: Timestamp,
    ) -> Option<Change> {
        let by = old.role;
        let mut next = old.apply(by, Event::Terminate, now).ok()?;
        next.reason = Some(reason.to_owned());
        let code = if next.cancelled { "cancelled" } else { "refused" };
        let message = Message::end_of_negotiation(&next, code, reason);
        let mut facts = transition_facts(&next, by);
        facts.decision = (!next.cancelled).then_some(Logged::Refused);
        facts.rule = match said {
            Some(Decision::Refused { rule, .. } | Decision::Undetermined { rule, .. }) => Some(rule),
            _ if next.cancelled => Some("person".into()),
            _ => Some("decision".into()),
        };
        facts.detail.insert("reason".into(), reason.into());
        Some(self.change_of(next, facts, message))
    }

    fn change_of(&self, next: Negotiation, facts: Facts, message: Option<Message>) -> Change {
        let change = Change::new(self.node.draft(Kind::NegotiationTransition, facts));
        let outgoing = message
            .map(|message| message.outgoing(&next.peer, &next.id, self.node.random()).with_callback(&next.callback));
        let mut change = change.write(Write::PutNegotiation(Box::new(next)));
        change.outbox.extend(outgoing);
        change
    }

    /// The agreement of a negotiation, signed by both sides; with another connector, by this side only.
    pub(super) fn agreement_row(&self, negotiation: &Negotiation, connector: bool) -> Result<AgreementRow, Error> {
        let missing = || Error::Internal("the agreement lacks a signature".into());
        let signatures = negotiation.agreement.clone().ok_or_else(missing)?;
        if !connector && (signatures.provider.is_none() || signatures.consumer.is_none()) {
            return Err(missing());
        }
        let jws = signatures.provider.as_ref().or(signatures.consumer.as_ref()).ok_or_else(missing)?;
        let (trust, now) = (self.node.trust(), self.node.now());
        let signed = document::verify::<Agreement>(jws, |kid| {
            self.node.own_key(kid).or_else(|| trust.register.document_key(kid, now))
        })
        .map_err(|error| Error::invalid("agreement", error.to_string()))?;
        Ok(AgreementRow {
            id: signed.body().id.clone(),
            peer: negotiation.peer.clone(),
            negotiation: negotiation.id.clone(),
            digest: signed.digest(),
            agreement: signed.into_body(),
            provider: signatures.provider,
            consumer: signatures.consumer,
            approved: negotiation.approval.as_ref().is_some_and(|approval| approval.approved),
            used: 0,
        })
    }
}

/// Applies an event of this side; events of the peer are not this side's to decide.
fn by_own(negotiation: Negotiation, event: Event, now: Timestamp) -> Result<Negotiation, Illegal> {
    let by = negotiation.role;
    negotiation.apply(by, event, now)
}
