//! What an enterprise does: request a peer's dataset, follow the request, open what came.

use super::catalog::peer_error;
use super::message::Message;
use super::ports::PlainData;
use super::refusal::Error;
use super::register::object;
use super::transfer::token_cell;
use super::{IdempotencyKey, Node, User, negotiate};
use crate::agreement::Claim;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::catalog::Offered;
use crate::core::id::{AgreementId, DatasetId, HoldingId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::Package;
use crate::identity::document;
use crate::identity::register::Status;
use crate::keys::Cell;
use crate::negotiation::{Negotiation, Role, State, Subject};
use crate::storage::{Change, Holding, HoldingState, Write};
use crate::transfer::{self, PULL};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::time::Duration;

/// How far a request is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestStage {
    /// The provider has not decided yet.
    Requested,
    /// The provider made an offer that a person of this park must answer.
    Offered,
    /// The contract is being concluded.
    Agreed,
    /// Sealed bytes and key are on their way.
    Delivering,
    /// One side paused the delivery.
    Suspended,
    /// Plain data can be fetched from the provider; it is not kept here.
    Ready,
    /// Verified, and kept here.
    Verified,
    /// The provider or its policy said no, or the delivery did not verify.
    Refused,
}

/// A request as its user sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestView {
    /// Its id.
    pub id: ProcessId,
    /// From whom.
    pub provider: ParticipantId,
    /// What.
    pub dataset: DatasetId,
    /// What for.
    pub purpose: Text,
    /// On whose behalf.
    pub enterprise: Text,
    /// How far.
    pub stage: RequestStage,
    /// Why not.
    pub reason: Option<String>,
    /// What came, once it is verified.
    pub holding: Option<HoldingId>,
    /// Records in it.
    pub records: Option<u64>,
    /// Why the provider withdrew the dataset, if it did.
    #[serde(default)]
    pub withdrawn: Option<String>,
    /// What log lines about it are found by, at both parks.
    pub trace: Option<crate::core::trace::TraceId>,
    /// When it was made.
    pub started: Timestamp,
}

/// What a consumer asks a provider for.
pub struct NegotiationRequest<'a> {
    /// Whom.
    pub provider: &'a ParticipantId,
    /// For which offer, of which dataset, under which policy.
    pub terms: (OfferId, DatasetId, Value),
    /// What for.
    pub purpose: &'a Text,
    /// On whose behalf.
    pub enterprise: Text,
}

impl Node {
    /// Requests a peer's dataset for a purpose, on behalf of the user's enterprise.
    pub async fn request(
        self: &std::sync::Arc<Self>,
        user: &User,
        provider: &ParticipantId,
        dataset: &DatasetId,
        purpose: &Text,
        once: Option<&IdempotencyKey>,
    ) -> Result<ProcessId, Error> {
        if let Some(id) = self.answered(user, once).await? {
            return Ok(id);
        }
        let enterprise =
            user.enterprise.clone().ok_or_else(|| Error::invalid("enterprise", "the token names no enterprise"))?;
        let trust = self.trust();
        let member = trust.member(provider)?;
        let found = self.parts.peer.dataset(member, dataset).await.map_err(|error| peer_error(provider, &error))?;
        let offered = Offered::from_dcat(&found).map_err(|error| Error::invalid("catalog", error.to_string()))?;
        if offered.dataset != *dataset {
            return Err(Error::invalid("catalog", "the peer answered with another dataset"));
        }
        let ask = NegotiationRequest {
            provider,
            terms: (offered.offer, dataset.clone(), offered.policy),
            purpose,
            enterprise,
        };
        self.ask(user, ask, once).await
    }

    /// Begins a negotiation as consumer.
    pub async fn ask(
        self: &std::sync::Arc<Self>,
        user: &User,
        ask: NegotiationRequest<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<ProcessId, Error> {
        let (now, id, provider) = (self.now(), ProcessId::generate_at(self.now(), self.random()), ask.provider);
        let connector = self.trust().member(provider)?.connector.is_some();
        let (offer, dataset, policy) = ask.terms;
        let person = FieldOpening::new("person", user.person.clone(), self.random());
        let claim = Claim {
            consumer: self.me().clone(),
            provider: provider.clone(),
            process: id.clone(),
            offer: offer.clone(),
            dataset: dataset.clone(),
            purpose: ask.purpose.clone(),
            enterprise: ask.enterprise.clone(),
            person: person.commitment(),
            issued: now,
        };
        let signed = document::sign(claim, &self.document_key());
        let mut subject = Subject {
            dataset,
            offer,
            asked: Some(policy.clone()),
            policy,
            claim: None,
            purpose: None,
            enterprise: None,
        };
        negotiate::claimed(&mut subject, signed.body(), signed.jws());
        let parties = (provider, None, None);
        let negotiation =
            negotiate::begin(id.clone(), (Role::Consumer, State::Requested), parties, subject, Vec::new(), now);
        let message = Message::request(&negotiation, connector);
        let mut facts = negotiate::moved(&negotiation, Role::Consumer);
        facts.detail.insert("claim".into(), signed.jws().into());
        facts.detail.insert("token".into(), user.token.to_string().into());
        let mut change = Change::new(self.draft(Kind::NegotiationTransition, facts).with_field(person))
            .write(Write::PutNegotiation(Box::new(negotiation)))
            .send(message.outgoing(provider, &id, self.random()));
        change.writes.extend(self.remember(user, once, &id));
        if let Err(error) = self.parts.store.commit(change).await {
            return self.answered_meanwhile(user, once, error).await;
        }
        tracing::info!(process = %id, %provider, "requested");
        Ok(id)
    }

    /// A request of the user's enterprise.
    pub async fn request_view(&self, user: &User, id: &ProcessId) -> Result<RequestView, Error> {
        let found = self.parts.store.negotiation(id).await?.filter(|n| is_own(user, n));
        let negotiation = found.ok_or_else(|| Error::not_found(format!("there is no request {id}")))?;
        self.view(negotiation).await
    }

    /// Waits until the request is past `stage`, or the time is over; then tells how far it is.
    pub async fn wait_request(&self, user: &User, id: &ProcessId, wait: Duration) -> Result<RequestView, Error> {
        let deadline = tokio::time::Instant::now() + wait.min(limits::WAIT_TIME_MAX);
        // Nothing was committed before zero commits: the first wait returns at once if anything ever was.
        let mut seen = 0;
        let first = self.request_view(user, id).await?;
        loop {
            let view = self.request_view(user, id).await?;
            let settled = matches!(view.stage, RequestStage::Verified | RequestStage::Ready | RequestStage::Refused);
            if settled || (view.stage != first.stage && wait.is_zero()) {
                return Ok(view);
            }
            match tokio::time::timeout_at(deadline, self.parts.store.changed(seen)).await {
                Ok(commits) => seen = commits,
                Err(_) => return Ok(view),
            }
        }
    }

    /// A page of the requests of the user's enterprise, newest first, and where the next one begins.
    pub async fn request_views(
        &self,
        user: &User,
        before: Option<(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Result<(Vec<RequestView>, Option<(Timestamp, ProcessId)>), Error> {
        let (mut views, mut before) = (Vec::new(), before);
        loop {
            let found = self.parts.store.requests(before.as_ref(), limits::PAGE_ROWS_MAX).await?;
            let last = found.len() < limits::PAGE_ROWS_MAX;
            for negotiation in found {
                if views.len() == limit {
                    return Ok((views, before));
                }
                before = Some((negotiation.started, negotiation.id.clone()));
                if is_own(user, &negotiation) {
                    views.push(self.view(negotiation).await?);
                }
            }
            if last {
                return Ok((views, None));
            }
        }
    }

    async fn view(&self, negotiation: Negotiation) -> Result<RequestView, Error> {
        let unclaimed = || Error::Internal("a request without claim".into());
        let transfer = self.parts.store.transfer_of(&negotiation.id).await?;
        let holding = match &transfer {
            Some(transfer) => self.parts.store.holding_of(&transfer.id).await?,
            None => None,
        };
        let verified = holding.as_ref().filter(|holding| holding.state == HoldingState::Verified);
        let ended = transfer.as_ref().filter(|transfer| transfer.state == transfer::State::Terminated);
        let (stage, reason) = match (&negotiation.state, verified, ended) {
            (_, Some(_), _) => (RequestStage::Verified, None),
            (State::Terminated, ..) => (RequestStage::Refused, negotiation.reason.clone()),
            (_, None, Some(ended)) => (RequestStage::Refused, ended.reason.clone()),
            (..) if transfer.as_ref().is_some_and(|t| t.state == transfer::State::Completed) => {
                (RequestStage::Refused, Some("the provider ended the transfer before anything was verified".into()))
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
        let withdrawn = self.parts.store.recalled(&negotiation.peer, &negotiation.subject.dataset).await?;
        Ok(RequestView {
            withdrawn,
            id: negotiation.id,
            provider: negotiation.peer,
            dataset: negotiation.subject.dataset,
            purpose: negotiation.subject.purpose.ok_or_else(unclaimed)?,
            enterprise: negotiation.subject.enterprise.ok_or_else(unclaimed)?,
            stage,
            reason,
            holding: verified.map(|holding| holding.id.clone()),
            records: verified.map(|holding| holding.records),
            trace: negotiation.trace,
            started: negotiation.started,
        })
    }

    /// The manifest of a holding, believed by the register of the time when it came.
    async fn manifest_of(&self, holding: &Holding) -> Result<document::Signed<Manifest>, Error> {
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let signer =
            document::claimed_signer(&holding.manifest).ok_or_else(|| internal(&"a manifest without signer"))?;
        let key = self.document_key_then(&signer, holding.updated).await;
        let manifest = document::verify::<Manifest>(&holding.manifest, |kid| key.filter(|_| *kid == signer));
        manifest.map_err(|error| internal(&error))
    }

    /// The schema of a holding's records.
    pub async fn schema_of(&self, holding: &Holding) -> Result<crate::schema::Schema, Error> {
        let digest = self.manifest_of(holding).await?.body().schema.digest;
        let known = self.known_schemas().into_iter().find(|compiled| compiled.schema.digest() == digest);
        known.map(|compiled| compiled.schema.clone()).ok_or_else(|| Error::not_found("the schema is not known here"))
    }

    /// Opens what a request brought: logged as an opening before the first byte of plaintext leaves.
    pub async fn open_request(&self, user: &User, id: &ProcessId) -> Result<Opened, Error> {
        let view = self.request_view(user, id).await?;
        if view.stage == RequestStage::Ready {
            return self.open_plain(user, view).await.map(Opened::Plain);
        }
        let holding = view.holding.clone().ok_or_else(|| {
            let reason = match view.stage {
                RequestStage::Refused => {
                    format!("the request was refused: {}", view.reason.as_deref().unwrap_or("no reason was given"))
                }
                _ => format!("nothing is delivered yet; wait with: crosspark request show {id} --wait 60"),
            };
            Error::invalid("not-verified", reason)
        })?;
        let holding = self.parts.store.holding(&holding).await?;
        let holding = holding.ok_or_else(|| Error::Internal("a request without its holding".into()))?;
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let cell = Cell { table: "holding", row: holding.id.as_str(), column: "key" };
        let wrapped = holding.wrapped_key.as_deref().ok_or_else(|| Error::not_found("the key was destroyed"))?;
        let key = self.parts.kek.unwrap(cell, wrapped).map_err(|error| internal(&error))?;
        let key = DataKey::from_slice(&key).ok_or_else(|| internal(&"a data key has 32 bytes"))?;
        let manifest = self.manifest_of(&holding).await?;
        let file = self.parts.received.read(holding.id.as_str());
        let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
        let package = Package::open(file, &key, manifest.body()).map_err(|error| internal(&error))?;
        let detail = json!({"holding": holding.id, "token": user.token});
        self.log_opening(user, view, &holding.transfer, &holding.agreement, detail).await?;
        Ok(Opened::Kept(Box::new((package, holding))))
    }

    /// Plain data straight from the provider: it passes through, and is not kept.
    async fn open_plain(&self, user: &User, view: RequestView) -> Result<PlainData, Error> {
        let missing = || Error::Internal("a transfer without its address".into());
        let transfer = self.parts.store.transfer_of(&view.id).await?.ok_or_else(missing)?;
        let trust = self.trust();
        let provider = trust.member(&transfer.peer)?;
        let address = transfer.data.clone().ok_or_else(missing)?;
        // It was covered when it came; the register may have changed since.
        if !provider.has_data_at(&address) || provider.status != Status::Active {
            let reason = format!("the register has {address} no longer for {}, or it is suspended", provider.id);
            return Err(Error::forbidden("register", reason));
        }
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let token = match &transfer.wrapped_token {
            Some(wrapped) => {
                let token = self.parts.kek.unwrap(token_cell(&transfer.id), wrapped).map_err(|e| internal(&e))?;
                Some(String::from_utf8(token.to_vec()).map_err(|e| internal(&e))?)
            }
            None => None,
        };
        let detail = json!({"plain": true, "token": user.token});
        self.log_opening(user, view, &transfer.id, &transfer.agreement, detail).await?;
        let pulled = self.parts.peer.pull(provider, &address, token.as_deref()).await;
        pulled.map_err(|error| peer_error(&transfer.peer, &error))
    }

    async fn log_opening(
        &self,
        user: &User,
        view: RequestView,
        transfer: &ProcessId,
        agreement: &AgreementId,
        detail: Value,
    ) -> Result<(), Error> {
        let facts = Facts {
            parties: Vec::new(),
            dataset: Some(view.dataset),
            process: Some(transfer.clone()),
            agreement: Some(agreement.clone()),
            enterprise: user.enterprise.clone(),
            purpose: Some(view.purpose),
            detail: object(detail),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.random());
        self.parts.store.commit(Change::new(self.draft(Kind::DatasetOpened, facts).with_field(person))).await?;
        Ok(())
    }
}

/// What a request brought, opened.
pub enum Opened {
    /// What is kept here.
    Kept(Box<(Package<File>, Holding)>),
    /// What comes straight from the provider.
    Plain(PlainData),
}

/// A requester sees the requests of the own enterprise.
fn is_own(user: &User, negotiation: &Negotiation) -> bool {
    negotiation.role == Role::Consumer && user.enterprise.is_some() && user.enterprise == negotiation.subject.enterprise
}
