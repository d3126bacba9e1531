//! Requests of this park's enterprises: requesting a peer's dataset, following the request, opening the delivered data.

use super::Negotiations;
use super::facts::{new_negotiation, set_claim, transition_facts};
use crate::agreement::{Claim, Versions};
use crate::audit::entry::{FieldOpening, Kind};
use crate::catalog::Offered;
use crate::core::id::{DatasetId, HoldingId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::delivery::{Downloads, Opened, Transfers};
use crate::idempotency::{Idempotency, IdempotencyKey};
use crate::identity::document;
use crate::negotiation::{Negotiation, Role, State, Subject};
use crate::node::{Error, Message, Node, Peer, TransferStep, User};
use crate::policy::Policy;
use crate::storage::{Change, HoldingState, Write};
use crate::transfer::{self, PULL};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Progress of a request, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestStage {
    /// The provider has not decided yet.
    Requested,
    /// The provider made an offer that a person of this park must answer.
    Offered,
    /// The contract is being concluded.
    Agreed,
    /// The sealed bytes and the key are being fetched.
    Delivering,
    /// One side suspended the transfer.
    Suspended,
    /// Plain data can be fetched from the provider; it is not stored here.
    Ready,
    /// The dataset is verified and stored here.
    Verified,
    /// The provider or its policy refused, or the delivery did not verify.
    Refused,
    /// A user of this park ended it.
    Cancelled,
}

impl RequestStage {
    /// Whether nothing more happens by itself.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Verified | Self::Ready | Self::Refused | Self::Cancelled)
    }
}

/// A request as shown to its user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct RequestView {
    /// Id of the request.
    pub id: ProcessId,
    /// Provider.
    pub provider: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Purpose.
    pub purpose: Text,
    /// Enterprise on whose behalf it was made.
    pub enterprise: Text,
    /// Progress.
    pub stage: RequestStage,
    /// Reason for a refusal, cancellation or suspension.
    pub reason: Option<String>,
    /// What it waits for, if it is not decided.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Terms in normal form.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub policy: Value,
    /// Version of the dataset, once agreed.
    #[serde(default)]
    pub version: Option<u64>,
    /// Holding with the verified dataset.
    pub holding: Option<HoldingId>,
    /// Records in the holding.
    pub records: Option<u64>,
    /// Why the provider withdrew the dataset, if it did.
    #[serde(default)]
    pub withdrawn: Option<String>,
    /// Trace id of the log lines about it, at both parks.
    pub trace: Option<TraceId>,
    /// Time of the request.
    pub started: Timestamp,
}

/// Content of a contract request.
pub struct NegotiationRequest<'a> {
    /// Provider.
    pub provider: &'a ParticipantId,
    /// Offer, dataset and policy.
    pub terms: (OfferId, DatasetId, Value),
    /// Purpose.
    pub purpose: &'a Text,
    /// Enterprise on whose behalf the request is made.
    pub enterprise: Text,
}

/// Requests of this park's enterprises.
pub struct Requests {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
    idempotency: Arc<Idempotency>,
    downloads: Arc<Downloads>,
    negotiations: Arc<Negotiations>,
    transfers: Arc<Transfers>,
}

impl Requests {
    /// Requests go to `peer`; `downloads` holds the delivered datasets.
    pub fn new(
        node: Arc<Node>,
        peer: Arc<dyn Peer>,
        idempotency: Arc<Idempotency>,
        downloads: Arc<Downloads>,
        negotiations: Arc<Negotiations>,
        transfers: Arc<Transfers>,
    ) -> Self {
        Self { node, peer, idempotency, downloads, negotiations, transfers }
    }

    /// Requests a peer's dataset for a purpose, on behalf of the user's enterprise.
    pub async fn request(
        &self,
        user: &User,
        provider: &ParticipantId,
        dataset: &DatasetId,
        purpose: &Text,
        once: Option<&IdempotencyKey>,
    ) -> Result<ProcessId, Error> {
        let _alone = self.idempotency.alone(user, once).await?;
        if let Some(id) = self.idempotency.answered(user, once).await? {
            return Ok(id);
        }
        let enterprise =
            user.enterprise.clone().ok_or_else(|| Error::invalid("enterprise", "the token names no enterprise"))?;
        if provider == self.node.me() {
            return Err(Error::invalid("provider", "this is your own park; request datasets of other parks"));
        }
        let trust = self.node.trust();
        let member = trust.member(provider)?;
        let found = match self.peer.dataset(member, dataset).await {
            Ok(found) => found,
            Err(error) => match self.node.store().recalled(provider, dataset).await? {
                Some(reason) => return Err(Error::not_found(format!("the provider withdrew the dataset: {reason}"))),
                None => return Err(error.for_user(provider)),
            },
        };
        let offered = Offered::from_dcat(&found).map_err(|error| Error::invalid("catalog", error.to_string()))?;
        if offered.dataset != *dataset {
            return Err(Error::invalid("catalog", "the provider answered with another dataset"));
        }
        let ask = NegotiationRequest {
            provider,
            terms: (offered.offer, dataset.clone(), offered.policy),
            purpose,
            enterprise,
        };
        self.ask(user, ask, once).await
    }

    /// Opens a negotiation as consumer.
    pub async fn ask(
        &self,
        user: &User,
        ask: NegotiationRequest<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<ProcessId, Error> {
        let (now, id, provider) =
            (self.node.now(), ProcessId::generate_at(self.node.now(), self.node.random()), ask.provider);
        let connector = self.node.trust().member(provider)?.connector.is_some();
        let (offer, dataset, policy) = ask.terms;
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let claim = Claim {
            consumer: self.node.me().clone(),
            provider: provider.clone(),
            process: id.clone(),
            offer: offer.clone(),
            dataset: dataset.clone(),
            purpose: ask.purpose.clone(),
            enterprise: ask.enterprise.clone(),
            person: person.commitment(),
            issued: now,
        };
        let signed = document::sign(claim, &self.node.document_key());
        let mut subject = Subject {
            dataset,
            offer,
            asked: Some(policy.clone()),
            policy,
            written: None,
            claim: None,
            purpose: None,
            enterprise: None,
        };
        set_claim(&mut subject, signed.body(), signed.jws());
        let parties = (provider, None, None);
        let negotiation =
            new_negotiation(id.clone(), (Role::Consumer, State::Requested), parties, subject, Vec::new(), now);
        let message = Message::request(&negotiation, connector);
        let mut facts = transition_facts(&negotiation, Role::Consumer);
        facts.detail.insert("claim".into(), signed.jws().into());
        facts.detail.insert("token".into(), user.token.to_string().into());
        let mut change = Change::new(self.node.draft(Kind::NegotiationTransition, facts).with_field(person))
            .write(Write::PutNegotiation(Box::new(negotiation)))
            .send(message.outgoing(provider, &id, self.node.random()));
        change.writes.extend(self.idempotency.remember(user, once, &id));
        if let Err(error) = self.node.store().commit(change).await {
            return self.idempotency.answered_meanwhile(user, once, error).await;
        }
        tracing::info!(process = %id, %provider, "requested");
        Ok(id)
    }

    /// A request of the user's enterprise.
    pub async fn view(&self, user: &User, id: &ProcessId) -> Result<RequestView, Error> {
        self.view_of(self.own(user, id).await?).await
    }

    async fn own(&self, user: &User, id: &ProcessId) -> Result<Negotiation, Error> {
        let found = self.node.store().negotiation(id).await?.filter(|n| is_own(user, n));
        found.ok_or_else(|| Error::not_found(format!("there is no request {id}")))
    }

    /// Waits until the request is settled or `wait` has passed, and returns it.
    pub async fn wait(&self, user: &User, id: &ProcessId, wait: Duration) -> Result<RequestView, Error> {
        let begun = tokio::time::Instant::now();
        let deadline = begun + wait.min(limits::WAIT_TIME_MAX);
        // The store counts its commits: unless it is empty, the first wait returns immediately.
        let mut seen = 0;
        let first = self.view(user, id).await?;
        loop {
            let view = self.view(user, id).await?;
            if view.stage.is_settled() || (view.stage != first.stage && wait.is_zero()) {
                return Ok(view);
            }
            match tokio::time::timeout_at(deadline, self.node.store().changed(seen)).await {
                Ok(commits) => seen = commits,
                Err(_) => return Ok(view),
            }
            // Each commit wakes every wait: the longer one lasts, the more rarely it looks.
            tokio::time::sleep((begun.elapsed() / 10).min(limits::WAIT_PAUSE_MAX)).await;
        }
    }

    /// Cancels a request that is not delivered yet; the provider receives the reason.
    pub async fn cancel(&self, user: &User, id: &ProcessId, reason: &str) -> Result<RequestView, Error> {
        let negotiation = self.own(user, id).await?;
        if !negotiation.state.is_final() {
            self.negotiations.cancel(user, id, reason).await?;
            return self.view(user, id).await;
        }
        let open = self.node.store().transfer_of(id).await?.filter(|transfer| !transfer.state.is_final());
        let transfer = open.ok_or_else(|| Error::invalid("conflict", "the request has ended already"))?;
        self.transfers.apply_user_step(user, &transfer.id, TransferStep::Terminate(reason.to_owned())).await?;
        self.view(user, id).await
    }

    /// What an undecided request waits for.
    async fn waits_for(&self, negotiation: &Negotiation) -> Result<Option<String>, Error> {
        let policy = Policy::from_value(&negotiation.subject.policy).ok();
        let consent = policy.is_some_and(|policy| policy.permissions().iter().any(|permission| permission.consent));
        let waits_for = match negotiation.state {
            State::Requested | State::Accepted => match self.node.store().first_outgoing(&negotiation.id).await? {
                Some(sending) if sending.attempts == 0 => "the request is being sent to the provider".to_owned(),
                Some(sending) => format!(
                    "the provider has not accepted the request yet, after {} attempts; it is sent again until it is \
                     accepted. The provider {}",
                    sending.attempts, sending.failure
                ),
                None if consent => "a person at the provider decides".to_owned(),
                None => "the provider decides".to_owned(),
            },
            State::Offered => "a person of this park answers the provider's offer (crosspark approvals)".to_owned(),
            _ => return Ok(None),
        };
        Ok(Some(waits_for))
    }

    /// A page of the requests of the user's enterprise, newest first, and where the next page begins.
    pub async fn list(
        &self,
        user: &User,
        before: Option<(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Result<(Vec<RequestView>, Option<(Timestamp, ProcessId)>), Error> {
        let Some(enterprise) = &user.enterprise else { return Ok((Vec::new(), None)) };
        let mut found = self.node.store().requests(enterprise, before.as_ref(), limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(|last| (last.started, last.id.clone()));
        let mut views = Vec::with_capacity(found.len());
        for negotiation in found {
            views.push(self.view_of(negotiation).await?);
        }
        Ok((views, last))
    }

    async fn view_of(&self, negotiation: Negotiation) -> Result<RequestView, Error> {
        let unclaimed = || Error::Internal("a request has no claim".into());
        let transfer = self.node.store().transfer_of(&negotiation.id).await?;
        let holding = match &transfer {
            Some(transfer) => self.node.store().holding_of(&transfer.id).await?,
            None => None,
        };
        let verified = holding.as_ref().filter(|holding| holding.state == HoldingState::Verified);
        let ended = transfer.as_ref().filter(|transfer| transfer.state == transfer::State::Terminated);
        let (stage, reason) = match (&negotiation.state, verified, ended) {
            (_, Some(_), _) => (RequestStage::Verified, None),
            (State::Terminated, ..) if negotiation.cancelled => (RequestStage::Cancelled, negotiation.reason.clone()),
            (State::Terminated, ..) => (RequestStage::Refused, negotiation.reason.clone()),
            (_, None, Some(ended)) if ended.cancelled => (RequestStage::Cancelled, ended.reason.clone()),
            (_, None, Some(ended)) => (RequestStage::Refused, ended.reason.clone()),
            (..) if transfer.as_ref().is_some_and(|t| t.state == transfer::State::Completed) => {
                (RequestStage::Refused, Some("the provider completed the transfer before verification".into()))
            }
            _ if transfer.as_ref().is_some_and(|t| t.state == transfer::State::Started && t.format == PULL) => {
                (RequestStage::Ready, None)
            }
            _ if transfer.as_ref().is_some_and(|t| t.state == transfer::State::Suspended) => {
                (RequestStage::Suspended, transfer.as_ref().and_then(|t| t.reason.clone()))
            }
            (State::Requested, ..) => (RequestStage::Requested, None),
            (State::Offered, ..) => (RequestStage::Offered, None),
            (State::Finalized, ..) => (RequestStage::Delivering, None),
            _ => (RequestStage::Agreed, None),
        };
        let waits_for = self.waits_for(&negotiation).await?;
        let agreement = match &transfer {
            Some(transfer) => self.node.store().agreement(&transfer.agreement).await?,
            None => None,
        };
        let version = agreement.and_then(|row| match row.agreement.versions {
            Versions::One(version) => Some(version),
            Versions::All => None,
        });
        let withdrawn = self.node.store().recalled(&negotiation.peer, &negotiation.subject.dataset).await?;
        Ok(RequestView {
            withdrawn,
            id: negotiation.id,
            provider: negotiation.peer,
            dataset: negotiation.subject.dataset,
            purpose: negotiation.subject.purpose.ok_or_else(unclaimed)?,
            enterprise: negotiation.subject.enterprise.ok_or_else(unclaimed)?,
            stage,
            reason,
            waits_for,
            policy: negotiation.subject.policy,
            version,
            holding: verified.map(|holding| holding.id.clone()),
            records: verified.map(|holding| holding.records),
            trace: negotiation.trace,
            started: negotiation.started,
        })
    }

    /// The request that delivered the newest version of a dataset which the user's enterprise has.
    pub async fn latest(&self, user: &User, dataset: &DatasetId) -> Result<ProcessId, Error> {
        let missing = || Error::not_found(format!("no verified version of {dataset} was delivered to the enterprise"));
        let enterprise = user.enterprise.as_ref().ok_or_else(missing)?;
        let (mut best, mut before, mut looked_at) = (None::<RequestView>, None, 0);
        while looked_at < limits::REQUESTS_LOOKED_AT_MAX {
            let page = self.node.store().requests(enterprise, before.as_ref(), limits::PAGE_ROWS_MAX).await?;
            let Some(last) = page.last() else { break };
            before = Some((last.started, last.id.clone()));
            looked_at += page.len();
            for negotiation in page.into_iter().filter(|negotiation| negotiation.subject.dataset == *dataset) {
                let view = self.view_of(negotiation).await?;
                if view.stage != RequestStage::Verified {
                    continue;
                }
                // Another park could give its data the same id.
                if best.as_ref().is_some_and(|best| best.provider != view.provider) {
                    let reason = format!("several parks delivered a dataset {dataset}; read it by its request");
                    return Err(Error::invalid("provider", reason));
                }
                let newer =
                    best.as_ref().is_none_or(|best| (view.version, view.started) > (best.version, best.started));
                if newer {
                    best = Some(view);
                }
            }
        }
        best.map(|view| view.id).ok_or_else(missing)
    }

    /// Opens the delivered dataset of a request.
    pub async fn open(&self, user: &User, id: &ProcessId) -> Result<Opened, Error> {
        let negotiation = self.own(user, id).await?;
        let subject = negotiation.subject.clone();
        let view = self.view_of(negotiation).await?;
        let missing = |what: &str| Error::Internal(format!("a request has no {what}"));
        match (view.stage, &view.holding) {
            (RequestStage::Ready, _) => {
                let transfer = self.node.store().transfer_of(id).await?.ok_or_else(|| missing("transfer"))?;
                self.downloads.open_plain(user, &subject, transfer).await
            }
            (_, Some(holding)) => {
                let holding = self.node.store().holding(holding).await?.ok_or_else(|| missing("holding"))?;
                self.downloads.open(user, &subject, holding).await
            }
            (RequestStage::Refused, None) => {
                let reason = view.reason.as_deref().unwrap_or("no reason was given");
                Err(Error::invalid("not-verified", format!("the request was refused: {reason}")))
            }
            (RequestStage::Cancelled, None) => {
                Err(Error::invalid("not-verified", "the request was cancelled; make another one"))
            }
            _ => {
                let reason =
                    format!("the dataset is not delivered yet; wait with: crosspark request show {id} --wait 60");
                Err(Error::invalid("not-verified", reason))
            }
        }
    }
}

/// Requesters see the requests of their own enterprise.
fn is_own(user: &User, negotiation: &Negotiation) -> bool {
    negotiation.role == Role::Consumer && user.enterprise.is_some() && user.enterprise == negotiation.subject.enterprise
}
