//! Consumer side: the provider offers, agrees and finalizes.

use super::Negotiations;
use super::facts::{BAD_AGREEMENT, Terms, new_negotiation};
use crate::agreement::{Agreement, Claim, Versions};
use crate::audit::entry::Kind;
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::delivery;
use crate::identity::document;
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Event, Negotiation, Role, Signatures, State, Subject};
use crate::node::{Counterparty, Error, Inbound, Message, Transition, Trust};
use crate::policy::{Decision, Policy};
use crate::storage::Write;
use serde_json::Value;
use std::sync::Arc;

/// A ContractOfferMessage that opens a negotiation.
#[derive(Debug, Clone)]
pub struct ContractOffer {
    /// Provider's process id.
    pub provider_pid: ProcessId,
    /// Offered terms.
    pub terms: Terms,
    /// Callback address.
    pub callback: Endpoint,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

/// The agreement in another connector's ContractAgreementMessage.
#[derive(Debug, Clone)]
pub struct PlainAgreement {
    /// Agreement id.
    pub id: AgreementId,
    /// Provider.
    pub assigner: ParticipantId,
    /// Consumer.
    pub assignee: ParticipantId,
    /// Policy.
    pub terms: Value,
    /// Dataset.
    pub target: DatasetId,
}

impl Negotiations {
    /// The provider opens a negotiation with an offer, which a person of this park answers. DSP 2025-1, "Contract Offer
    /// Message".
    pub async fn first_offered(
        self: &Arc<Self>,
        from: &Counterparty,
        offer: ContractOffer,
    ) -> Result<Transition<Negotiation>, Error> {
        let opened = async {
            from.check_callback(&self.node.trust(), &offer.callback)?;
            let dataset = offer.terms.dataset.clone();
            let dataset = dataset.ok_or_else(|| Error::invalid("target", "the offer names no dataset"))?;
            let subject = Subject {
                dataset,
                offer: offer.terms.offer.clone(),
                policy: offer.terms.policy()?.to_value(),
                asked: None,
                written: None,
                claim: None,
                purpose: None,
                enterprise: None,
            };
            let whom = (&from.participant, Some(offer.provider_pid.clone()), Some(offer.callback.clone()));
            let id = ProcessId::generate_at(self.node.now(), self.node.random());
            Ok(new_negotiation(
                id,
                (Role::Consumer, State::Offered),
                whom,
                subject,
                vec![offer.digest],
                self.node.now(),
            ))
        };
        let message = ("ContractOfferMessage", &offer.provider_pid, offer.digest, &offer.terms);
        self.open_negotiation(from, message, opened).await
    }

    /// The provider answers with an offer. DSP 2025-1, "Contract Offer Message" with `consumerPid`.
    pub async fn offered(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        terms: Terms,
    ) -> Result<Transition<Negotiation>, Error> {
        self.apply_message(&inbound, Event::Offer, |_, next, _| {
            terms.ensure_about(&next.subject.dataset)?;
            next.subject.policy = terms.policy()?.to_value();
            next.subject.offer = terms.offer.clone();
            Ok(())
        })
        .await
    }

    /// The provider agreed: `signed` by a crosspark node, or `plain`. DSP 2025-1, "Contract Agreement Message".
    pub async fn agreed(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        signed: Option<&str>,
        plain: Option<&PlainAgreement>,
    ) -> Result<Transition<Negotiation>, Error> {
        let now = self.node.now();
        let taken = self.apply_message(&inbound, Event::Agree, |trust, next, _| {
            next.agreement = Some(match (&trust.member(&next.peer)?.connector, signed) {
                (None, None) => {
                    let reason = "the provider's signature `crosspark:agreement` is missing";
                    return Err(Error::invalid(BAD_AGREEMENT, reason));
                }
                (None, Some(jws)) => self.check_signed(trust, jws, next, now)?,
                (Some(_), _) => self.write_down(plain, next, now)?,
            });
            Ok(())
        });
        let taken = taken.await;
        if let Err(error) = &taken
            && error.code() == BAD_AGREEMENT
        {
            self.turn_down(&inbound, &error.to_string()).await;
        }
        taken
    }

    fn own_claim(&self, negotiation: &Negotiation) -> Result<Claim, Error> {
        let jws = negotiation.subject.claim.as_deref();
        let jws = jws.ok_or_else(|| Error::invalid(BAD_AGREEMENT, "this side has not made a claim yet"))?;
        let claim = document::verify::<Claim>(jws, |kid| self.node.own_key(kid));
        Ok(claim.map_err(|error| Error::Internal(error.to_string()))?.into_body())
    }

    fn check_signed(
        &self,
        trust: &Trust,
        jws: &str,
        negotiation: &Negotiation,
        now: Timestamp,
    ) -> Result<Signatures, Error> {
        let signed = self.check_agreement(trust, jws, Role::Provider, negotiation, now)?;
        let (claim, policy) = (self.own_claim(negotiation)?, terms_of(negotiation)?);
        let fits = signed.body().check_against(&claim, &policy);
        fits.map_err(|error| Error::invalid(BAD_AGREEMENT, error.to_string()))?;
        Ok(Signatures { provider: Some(jws.to_owned()), consumer: None })
    }

    /// Another connector's agreement as a crosspark agreement that only this side signs: connectors sign nothing.
    fn write_down(
        &self,
        plain: Option<&PlainAgreement>,
        negotiation: &Negotiation,
        now: Timestamp,
    ) -> Result<Signatures, Error> {
        let bad = |reason: String| Error::invalid(BAD_AGREEMENT, reason);
        let plain = plain.ok_or_else(|| bad("`agreement` is missing or not understood".into()))?;
        let policy = terms_of(negotiation)?;
        let agreed = Policy::from_value(&plain.terms).map_err(|error| bad(error.to_string()))?;
        let wrong = [
            ("assigner", plain.assigner != negotiation.peer),
            ("assignee", plain.assignee != *self.node.me()),
            ("target", plain.target != negotiation.subject.dataset),
            ("policy", agreed.digest() != policy.digest()),
        ];
        if let Some((what, _)) = wrong.into_iter().find(|(_, wrong)| *wrong) {
            return Err(bad(format!("`{what}` of the agreement differs from the negotiated terms")));
        }
        let claim = self.own_claim(negotiation)?;
        let life = now.plus_ms(limits::AGREEMENT_LIFE_MS);
        let agreement = Agreement {
            id: plain.id.clone(),
            provider: negotiation.peer.clone(),
            consumer: self.node.me().clone(),
            dataset: negotiation.subject.dataset.clone(),
            versions: Versions::All,
            manifest: None,
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            purpose: Some(claim.purpose),
            enterprise: Some(claim.enterprise),
            person: Some(claim.person),
            valid_from: now,
            valid_until: policy.end().map_or(life, |end| end.min(life)),
        };
        let signed = document::sign(agreement, &self.node.document_key());
        Ok(Signatures { provider: None, consumer: Some(signed.jws().to_owned()) })
    }

    /// Terminates after an invalid agreement. The provider may not terminate an agreed negotiation (DSP 2025-1,
    /// "Contract Negotiation States"), so this side does; otherwise both would wait forever.
    async fn turn_down(&self, inbound: &Inbound<'_>, reason: &str) {
        let found = self.node.store().negotiation(inbound.pid).await;
        let Ok(Some(mut old)) = found else { return };
        old.peer_pid.get_or_insert_with(|| inbound.peer_pid.clone());
        let said = Decision::Refused { rule: BAD_AGREEMENT.into(), reason: reason.to_owned() };
        let Some(change) = self.terminate(old, Some(said), reason, self.node.now()) else { return };
        if let Err(error) = self.node.store().commit(change).await {
            tracing::warn!(%error, process = %inbound.pid, "could not terminate after an invalid agreement");
        }
    }

    /// The negotiation is finalized; the same commit requests the transfer. DSP 2025-1, "Contract Negotiation Event
    /// Message" FINALIZED.
    pub async fn finalized(self: &Arc<Self>, inbound: Inbound<'_>) -> Result<Transition<Negotiation>, Error> {
        self.apply_message(&inbound, Event::Finalize, |trust, next, effects| {
            let connector = trust.member(&next.peer)?.connector.is_some();
            let row = self.agreement_row(next, connector)?;
            if let Some(channel) = self.decisions.delivery(next, connector) {
                let transfer = delivery::new_transfer(&row, channel, next.trace, self.node.random(), next.updated);
                let message = Message::TransferRequest {
                    pid: transfer.id.clone(),
                    agreement: row.id.clone(),
                    format: channel.name().to_owned(),
                };
                let facts = delivery::transition_facts(&transfer, Role::Consumer, Some(&row));
                effects.entry = Some(self.node.draft(Kind::TransferTransition, facts));
                effects.outbox.push(message.outgoing(&next.peer, &transfer.id, self.node.random()));
                effects.writes.push(Write::PutTransfer(Box::new(transfer)));
            }
            effects.writes.push(Write::InsertAgreement(Box::new(row)));
            Ok(())
        })
        .await
    }
}

/// The current terms.
fn terms_of(negotiation: &Negotiation) -> Result<Policy, Error> {
    Policy::from_value(&negotiation.subject.policy).map_err(|error| Error::Internal(error.to_string()))
}
