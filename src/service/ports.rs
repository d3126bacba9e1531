//! What the use cases need from outside, as traits.

use super::message::Message;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, MessageId, ProcessId};
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Member;
use crate::negotiation::Negotiation;
use crate::policy::{Channel, Decision, Missing, Permission, Policy};
use crate::transfer::Transfer;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::Value;

/// Why a peer did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It answered no.
    #[error("refused ({status}): {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In its words.
        reason: String,
        /// Its promise that the refusal is in its log.
        promise: Option<String>,
    },
    /// It did not answer, or asked for patience.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Its answer is not what the protocol says.
    #[error("answered what the protocol does not allow: {0}")]
    Invalid(String),
}

impl PeerError {
    /// Whether trying again can help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Unreachable(_) => true,
            Self::Invalid(_) => false,
        }
    }
}

/// An answer and the promise that came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The answer.
    pub body: T,
    /// The promise.
    pub promise: Option<String>,
}

/// A message on its way.
pub struct Envelope<'a> {
    /// Its own name: the same message again has the same, and another one with the same words another.
    pub id: &'a MessageId,
    /// Where another connector wants it, if it said so: the register covers it.
    pub callback: Option<&'a Endpoint>,
    /// The message.
    pub message: &'a Message,
    /// What goes with a transfer's start.
    pub token: Option<&'a str>,
}

/// A page of a peer's catalog.
pub struct PeerPage {
    /// The catalog.
    pub body: Value,
    /// Where the next page is.
    pub next: Option<String>,
}

/// Plain data as it arrives.
pub struct PlainData {
    /// The media type that is stated.
    pub kind: Option<String>,
    /// How many bytes, if that is stated.
    pub length: Option<u64>,
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes, PeerError>>,
}

/// The nodes of other members. Every call goes to the member's endpoint in the register, and to no other place.
#[async_trait]
pub trait Peer: Send + Sync {
    /// A page of its catalog: the first one, of what changed after `since` if that is given, or the one at `next`.
    async fn catalog(&self, to: &Member, since: Option<u64>, next: Option<&str>) -> Result<PeerPage, PeerError>;
    /// One dataset of it.
    async fn dataset(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError>;
    /// Delivers a message; answers with the other side's name for the process that it opens.
    async fn deliver(&self, to: &Member, letter: &Envelope<'_>) -> Result<Answer<Option<ProcessId>>, PeerError>;
    /// A manifest.
    async fn manifest(&self, to: &Member, digest: &Digest) -> Result<String, PeerError>;
    /// Sealed bytes from `range`.
    async fn data(
        &self,
        to: &Member,
        transfer: &ProcessId,
        token: &str,
        range: std::ops::Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError>;
    /// Plain data at an address that the register has for the member, and what kind it is.
    async fn pull(&self, to: &Member, address: &Endpoint, token: Option<&str>) -> Result<PlainData, PeerError>;
    /// Asks for a data key.
    async fn key(&self, to: &Member, transfer: &ProcessId, request: &str) -> Result<Answer<String>, PeerError>;
    /// Its newest checkpoint.
    async fn checkpoint(&self, to: &Member) -> Result<String, PeerError>;
    /// The newest checkpoint of this node's own log that it holds.
    async fn seen(&self, to: &Member) -> Result<Option<String>, PeerError>;
    /// The register with this sequence, or the newest.
    async fn register(&self, to: &Member, sequence: Option<u64>) -> Result<String, PeerError>;
    /// Whether it can be reached at all.
    async fn reach(&self, to: &Member) -> Result<(), PeerError>;
    /// The root document of this version.
    async fn root(&self, to: &Member, version: u64) -> Result<String, PeerError>;
}

/// What to do next in a negotiation that waits for this side.
#[derive(Debug, Clone, PartialEq)]
pub enum NegotiationStep {
    /// Nothing yet.
    Wait,
    /// Provider: offer the dataset under its own policy.
    Offer,
    /// Consumer: ask again, under this policy.
    Counter(Value),
    /// Consumer: accept the offer.
    Accept,
    /// Provider: agree.
    Agree,
    /// Consumer: verify the agreement.
    Verify,
    /// Provider: finalize.
    Finalize,
    /// End it, with a reason.
    Terminate(String),
}

/// What to do next in a transfer that waits for this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferStep {
    /// Nothing yet.
    Wait,
    /// Provider: start; either side: go on with what it paused.
    Start,
    /// Pause it, with a reason.
    Suspend(String),
    /// It is done.
    Complete,
    /// End it, with a reason.
    Terminate(String),
}

/// What a decision on a negotiation can rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Provider: what the policy says of the consumer under the terms on the table.
    pub policy: Option<Decision>,
    /// Provider: whether what is asked for is within the offer. Consumer: whether what is offered gives all that was
    /// asked for.
    pub fits: bool,
}

/// Decides where a decision is this side's. The policy's word is an input: who decides may be stricter, never laxer;
/// the service refuses a step that the policy does not permit. It is asked again after each step, until it waits.
pub trait DecisionMaker: Send + Sync {
    /// The next step of a negotiation.
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep;
    /// The next step of a transfer. `policy` is what the policy says of the consumer, where this side is the provider.
    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep;
    /// Consumer: how to ask for the data once the negotiation is finalized; none if not at once.
    fn delivery(&self, negotiation: &Negotiation, connector: bool) -> Option<Channel>;
}

/// The policy decides, and people where it wants their word.
pub struct PolicyDecides;

impl DecisionMaker for PolicyDecides {
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep {
        use crate::negotiation::{Role, State};
        use NegotiationStep::{Accept, Agree, Finalize, Offer, Terminate, Verify, Wait};
        let rejected = negotiation.ruling.as_ref().filter(|ruling| !ruling.approved);
        if let Some(ruling) = rejected.filter(|_| !negotiation.state.is_final()) {
            let comment = ruling.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
            return Terminate(format!("a person said no{comment}"));
        }
        match (negotiation.role, negotiation.state) {
            (Role::Provider, State::Requested) if !says.fits => Offer,
            (Role::Provider, State::Requested | State::Accepted) => match &says.policy {
                Some(Decision::Permitted { .. }) => Agree,
                Some(Decision::Refused { reason, .. }) => Terminate(reason.clone()),
                Some(Decision::Undetermined { missing: Missing::Consent, .. }) => Wait,
                _ => Terminate("the policy depends on the purpose: ask for the offer under one purpose".into()),
            },
            (Role::Provider, State::Verified) => Finalize,
            // A first offer waits for a person; so does nothing else.
            (Role::Consumer, State::Offered) if negotiation.subject.asked.is_none() => Wait,
            (Role::Consumer, State::Offered) if says.fits => Accept,
            (Role::Consumer, State::Offered) => {
                Terminate("the terms that are offered do not give what was asked for; read the catalog again".into())
            }
            (Role::Consumer, State::Agreed) => Verify,
            _ => Wait,
        }
    }

    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep {
        use crate::{negotiation::Role, transfer::State};
        match (transfer.role, transfer.state, policy) {
            (Role::Provider, State::Requested, Some(Decision::Permitted { .. })) => TransferStep::Start,
            (Role::Provider, State::Requested, Some(Decision::Refused { reason, .. })) => {
                TransferStep::Terminate(reason.clone())
            }
            (Role::Provider, State::Requested, _) => {
                TransferStep::Terminate("the policy leaves this undetermined".into())
            }
            _ => TransferStep::Wait,
        }
    }

    fn delivery(&self, negotiation: &Negotiation, connector: bool) -> Option<Channel> {
        let policy = Policy::from_value(&negotiation.subject.policy).ok();
        let sealed = |permission: &Permission| permission.channels().contains(&Channel::Sealed);
        let can_be_sealed = policy.is_some_and(|policy| policy.permissions().iter().any(sealed));
        Some(if can_be_sealed && !connector { Channel::Sealed } else { Channel::Pull })
    }
}
