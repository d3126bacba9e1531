//! What this side of a negotiation does next: on the normal path, and after a restart.

use super::message::Message;
use super::negotiate::{Pause, moved};
use super::ports::NegotiationStep;
use super::refusal::Error;
use super::{Node, Trust, trace};
use crate::agreement::{Agreement, Claim, Versions};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::core::id::{AgreementId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document;
use crate::negotiation::{Event, Negotiation, Role, Signatures, State};
use crate::policy::{self, Decision, Policy};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use std::sync::Arc;

impl Node {
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
    pub(super) fn agreement_row(&self, negotiation: &Negotiation) -> Result<AgreementRow, Error> {
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
