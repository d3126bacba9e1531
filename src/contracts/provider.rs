//! Provider side: the consumer requests, makes counter-offers, accepts and verifies; this side may make a first offer.

use super::Negotiations;
use super::facts::{BAD_AGREEMENT, Terms, new_negotiation, set_claim, transition_facts};
use crate::agreement::{Agreement, Claim};
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document;
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Member;
use crate::identity::register::Status;
use crate::negotiation::{Event, Negotiation, Role, Signatures, State, Subject};
use crate::node::{Counterparty, Error, Inbound, Message, Transition, Trust, User, details};
use crate::policy::{Channel, Policy};
use crate::storage::{Change, Conflict, Guard, StoreError, VersionRow, Write};
use serde_json::{Value, json};
use std::sync::Arc;

/// A ContractRequestMessage that opens a negotiation.
#[derive(Debug, Clone)]
pub struct ContractRequest {
    /// Consumer's process id.
    pub consumer_pid: ProcessId,
    /// Requested terms.
    pub terms: Terms,
    /// Claim, JWS; other connectors make none.
    pub claim: Option<String>,
    /// Callback address.
    pub callback: Endpoint,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

impl Negotiations {
    /// A consumer requests an offer. DSP 2025-1, "Contract Request Message".
    pub async fn requested(
        self: &Arc<Self>,
        from: &Counterparty,
        request: ContractRequest,
    ) -> Result<Transition<Negotiation>, Error> {
        let opened = async {
            let subject = self.asked_for(from, &request).await?;
            let whom = (&from.participant, Some(request.consumer_pid.clone()), Some(request.callback.clone()));
            let id = ProcessId::generate_at(self.node.now(), self.node.random());
            Ok(new_negotiation(
                id,
                (Role::Provider, State::Requested),
                whom,
                subject,
                vec![request.digest],
                self.node.now(),
            ))
        };
        let message = ("ContractRequestMessage", &request.consumer_pid, request.digest, &request.terms);
        self.open_negotiation(from, message, opened).await
    }

    /// Commits a negotiation that the peer opens. The same message again gets the same answer; another message with the
    /// same process id is refused.
    pub(super) async fn open_negotiation(
        self: &Arc<Self>,
        from: &Counterparty,
        (kind, peer_pid, digest, terms): (&str, &ProcessId, Digest, &Terms),
        opened: impl Future<Output = Result<Negotiation, Error>>,
    ) -> Result<Transition<Negotiation>, Error> {
        self.node.charge_quota(&from.participant)?;
        let detail = details(json!({"message": kind, "offer": terms.offer}));
        let facts = Facts { dataset: terms.dataset.clone(), detail, ..Facts::default() };
        if let Some(id) = self.node.store().process_by_peer(&from.participant, peer_pid).await? {
            let known = self.node.store().negotiation(&id).await?;
            if let Some(known) = known.filter(|known| known.seen.contains(&digest)) {
                self.advance(&known.id);
                return Ok(Transition::repeated(known));
            }
            let error = Error::invalid("pid", format!("the process {peer_pid} already exists"));
            return Err(self.node.refuse(from, Kind::MessageRefused, facts, error).await);
        }
        let committed = async {
            let negotiation = opened.await?;
            let by = if negotiation.role == Role::Provider { Role::Consumer } else { Role::Provider };
            let mut facts = transition_facts(&negotiation, by);
            if let Some(claim) = &negotiation.subject.claim {
                facts.detail.insert("claim".into(), claim.clone().into());
            }
            let change = Change::new(self.node.draft(Kind::NegotiationTransition, facts))
                .guard(Guard::Register(from.register))
                .guard(Guard::OpenProcesses(from.participant.clone(), limits::OPEN_PROCESSES_PER_MEMBER_MAX))
                .write(Write::PutNegotiation(Box::new(negotiation.clone())));
            match self.node.store().commit(change).await {
                Ok(mut logged) => Ok(Transition { process: negotiation, logged: logged.pop() }),
                Err(StoreError::Conflict(Conflict::OpenProcesses)) => Err(Error::TooMany),
                Err(error) => Err(error.into()),
            }
        };
        match committed.await {
            Ok(moved) => {
                self.advance(&moved.process.id);
                Ok(moved)
            }
            Err(error) => Err(self.node.refuse(from, Kind::MessageRefused, facts, error).await),
        }
    }

    /// The request, checked against the register and the offer.
    async fn asked_for(&self, from: &Counterparty, request: &ContractRequest) -> Result<Subject, Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        from.check_callback(&trust, &request.callback)?;
        let version = self.node.store().version_by_offer(&request.terms.offer).await?;
        let missing = || Error::not_found(format!("there is no offer {}", request.terms.offer));
        let version = version.ok_or_else(missing)?;
        request.terms.ensure_about(&version.dataset)?;
        let asked = request.terms.policy()?;
        let mut subject = subject_of(&version, asked.to_value());
        let about = (&request.consumer_pid, &subject.offer.clone(), &version.dataset);
        match self.check_claim(&trust, from, request.claim.as_deref(), about, now)? {
            Some((claim, jws)) => set_claim(&mut subject, &claim, &jws),
            None => (subject.purpose, subject.written) = (asked.sole_purpose().cloned(), request.terms.kept()),
        }
        Ok(subject)
    }

    /// The claim of a crosspark node, which is mandatory. Claims of other connectors are ignored: by agreeing to the
    /// terms they state the purpose, if the terms permit only one.
    fn check_claim(
        &self,
        trust: &Trust,
        from: &Counterparty,
        jws: Option<&str>,
        (process, offer, dataset): (&ProcessId, &OfferId, &DatasetId),
        now: Timestamp,
    ) -> Result<Option<(Claim, String)>, Error> {
        if trust.member(&from.participant)?.connector.is_some() {
            return Ok(None);
        }
        let jws = jws.ok_or_else(|| Error::invalid("claim", "`crosspark:claim` is missing"))?;
        let claim = document::verify::<Claim>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| trust.signature_error("claim", &error))?
            .into_body();
        let wrong = [
            ("consumer", claim.consumer != from.participant),
            ("provider", claim.provider != *self.node.me()),
            ("process", claim.process != *process),
            ("offer", claim.offer != *offer),
            ("dataset", claim.dataset != *dataset),
        ];
        let ahead_ms = claim.issued.ms().saturating_sub(now.ms());
        if !(-limits::CLAIM_AGE_MS_MAX..=limits::SKEW_MS_MAX).contains(&ahead_ms) {
            let side = if ahead_ms > 0 { "after" } else { "before" };
            let reason = format!(
                "the claim was issued {} s {side} this node's time: compare the clocks of both nodes",
                ahead_ms.unsigned_abs() / 1_000
            );
            return Err(Error::invalid("claim", reason));
        }
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((what, _)) => {
                Err(Error::invalid("claim", format!("`{what}` of the claim does not match the message")))
            }
            None => Ok(Some((claim, jws.to_owned()))),
        }
    }

    /// The consumer makes a counter-offer. DSP 2025-1, "Contract Request Message" with `providerPid`.
    pub async fn countered(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        terms: Terms,
        claim: Option<&str>,
    ) -> Result<Transition<Negotiation>, Error> {
        self.apply_message(&inbound, Event::Request, |trust, next, _| {
            let subject = &mut next.subject;
            terms.ensure_about(&subject.dataset)?;
            if terms.offer != subject.offer {
                return Err(Error::invalid("offer", format!("this negotiation is about the offer {}", subject.offer)));
            }
            let asked = terms.policy()?;
            let about = (inbound.peer_pid, &subject.offer.clone(), &subject.dataset.clone());
            match self.check_claim(trust, inbound.from, claim.or(subject.claim.as_deref()), about, self.node.now())? {
                Some((claim, jws)) => set_claim(subject, &claim, &jws),
                None => (subject.purpose, subject.written) = (asked.sole_purpose().cloned(), terms.kept()),
            }
            (subject.policy, subject.asked) = (asked.to_value(), Some(asked.to_value()));
            // A person's decision was about other terms.
            next.approval = None;
            Ok(())
        })
        .await
    }

    /// The consumer accepts this side's offer. DSP 2025-1, "Contract Negotiation Event Message" ACCEPTED.
    pub async fn accepted(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        claim: Option<&str>,
    ) -> Result<Transition<Negotiation>, Error> {
        self.apply_message(&inbound, Event::Accept, |trust, next, _| {
            let subject = &mut next.subject;
            let about = (inbound.peer_pid, &subject.offer.clone(), &subject.dataset.clone());
            if let Some((claim, jws)) = self.check_claim(trust, inbound.from, claim, about, self.node.now())? {
                set_claim(subject, &claim, &jws);
            } else if let Ok(policy) = Policy::from_value(&subject.policy) {
                subject.purpose = policy.sole_purpose().cloned();
            }
            subject.asked = Some(subject.policy.clone());
            Ok(())
        })
        .await
    }

    /// The consumer verified, and a crosspark node countersigned, the agreement. DSP 2025-1, "Contract Agreement
    /// Verification Message".
    pub async fn verified(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        agreement: Option<&str>,
    ) -> Result<Transition<Negotiation>, Error> {
        let now = self.node.now();
        self.apply_message(&inbound, Event::Verify, |trust, next, _| {
            let ours = next.agreement.as_ref().and_then(|signatures| signatures.provider.clone());
            let ours = ours.ok_or_else(|| Error::Internal("an agreed negotiation has no agreement".into()))?;
            if trust.member(&next.peer)?.connector.is_some() {
                return Ok(());
            }
            let missing = || Error::invalid(BAD_AGREEMENT, "the consumer's signature `crosspark:agreement` is missing");
            let agreement = agreement.ok_or_else(missing)?;
            let theirs = self.check_agreement(trust, agreement, Role::Consumer, next, now)?;
            let own = document::verify::<Agreement>(&ours, |kid| self.node.own_key(kid))
                .map_err(|error| Error::Internal(error.to_string()))?;
            if own.digest() != theirs.digest() {
                return Err(Error::invalid(
                    BAD_AGREEMENT,
                    "the consumer signed an agreement other than the one it received",
                ));
            }
            next.agreement = Some(Signatures { provider: Some(ours), consumer: Some(agreement.to_owned()) });
            Ok(())
        })
        .await
    }

    /// Opens a negotiation with an offer of `dataset` to `consumer`. DSP 2025-1, "Contract Offer Message" with
    /// `callbackAddress`.
    pub async fn offer_to(
        self: &Arc<Self>,
        user: &User,
        consumer: &ParticipantId,
        dataset: &DatasetId,
    ) -> Result<ProcessId, Error> {
        let trust = self.node.trust();
        if consumer == self.node.me() {
            return Err(Error::invalid("consumer", "a park cannot offer a dataset to itself; name another member"));
        }
        if trust.member(consumer)?.status == Status::Suspended {
            return Err(Error::invalid("conflict", format!("{consumer} is suspended by the alliance")));
        }
        let version = self.node.store().dataset(dataset).await?;
        let version = version.ok_or_else(|| Error::not_found(format!("there is no dataset {dataset} here")))?;
        may_be_offered(&version, trust.member(consumer)?)?;
        let now = self.node.now();
        let id = ProcessId::generate_at(now, self.node.random());
        let subject = Subject { asked: None, ..subject_of(&version, version.policy.clone()) };
        let negotiation = new_negotiation(
            id.clone(),
            (Role::Provider, State::Offered),
            (consumer, None, None),
            subject,
            Vec::new(),
            now,
        );
        let mut facts = transition_facts(&negotiation, Role::Provider);
        facts.detail.insert("token".into(), user.token.to_string().into());
        let message = Message::offer(&negotiation).outgoing(consumer, &id, self.node.random());
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let change = Change::new(self.node.draft(Kind::NegotiationTransition, facts).with_field(person))
            .guard(Guard::Offer(version.offer, version.policy_digest))
            .guard(Guard::Register(trust.register.body().sequence))
            .write(Write::PutNegotiation(Box::new(negotiation)))
            .send(message);
        self.node.store().commit(change).await?;
        Ok(id)
    }
}

/// Fails for another connector if the policy permits only sealed data, which it cannot open.
fn may_be_offered(version: &VersionRow, consumer: &Member) -> Result<(), Error> {
    let policy = Policy::from_value(&version.policy).map_err(|error| Error::Internal(error.to_string()))?;
    let plain = policy.permissions().iter().any(|permission| permission.channels().contains(&Channel::Pull));
    match consumer.connector.is_some() && !plain {
        true => Err(Error::invalid(
            "consumer",
            format!(
                "{} accepts only plain data, which the policy does not permit: publish a version whose policy has the \
                 `deliveryChannel` HttpData-PULL",
                consumer.id
            ),
        )),
        false => Ok(()),
    }
}

fn subject_of(version: &VersionRow, asked: Value) -> Subject {
    Subject {
        dataset: version.dataset.clone(),
        offer: version.offer.clone(),
        policy: asked.clone(),
        asked: Some(asked),
        written: None,
        claim: None,
        purpose: None,
        enterprise: None,
    }
}
