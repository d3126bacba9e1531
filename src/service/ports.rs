//! What the use cases need from outside, as traits.

use super::message::Message;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, ProcessId};
use crate::identity::register::Member;
use crate::negotiation::Negotiation;
use crate::policy::Decision;
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

/// The nodes of other members. Every call goes to the member's endpoint in the register, and to no other place.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Its catalog.
    async fn catalog(&self, to: &Member) -> Result<Value, PeerError>;
    /// One dataset of it.
    async fn dataset(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError>;
    /// Delivers a message; answers with the other side's name for the process. `token` goes with a transfer's start.
    async fn deliver(
        &self,
        to: &Member,
        message: &Message,
        token: Option<&str>,
    ) -> Result<Answer<Option<ProcessId>>, PeerError>;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NegotiationStep {
    /// Nothing yet.
    Wait,
    /// Provider: agree.
    Agree,
    /// Consumer: countersign the agreement.
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
    /// Provider: start.
    Start,
    /// End it, with a reason.
    Terminate(String),
}

/// Decides where a decision is this side's. The policy's word is an input: who decides may be stricter, never laxer;
/// the service refuses a step that the policy does not permit.
pub trait DecisionMaker: Send + Sync {
    /// The next step of a negotiation. `policy` is what the policy says of the consumer, where this side is the provider.
    fn negotiation(&self, negotiation: &Negotiation, policy: Option<&Decision>) -> NegotiationStep;
    /// The next step of a transfer.
    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep;
}

/// The policy alone decides.
pub struct PolicyDecides;

impl DecisionMaker for PolicyDecides {
    fn negotiation(&self, negotiation: &Negotiation, policy: Option<&Decision>) -> NegotiationStep {
        use crate::negotiation::{Role, State};
        match (negotiation.role, negotiation.state, policy) {
            (Role::Provider, State::Requested, Some(Decision::Permitted { .. })) => NegotiationStep::Agree,
            (Role::Provider, State::Requested, Some(Decision::Refused { reason, .. })) => {
                NegotiationStep::Terminate(reason.clone())
            }
            (Role::Provider, State::Requested, _) => {
                NegotiationStep::Terminate("the policy leaves this undetermined".into())
            }
            (Role::Provider, State::Verified, _) => NegotiationStep::Finalize,
            (Role::Consumer, State::Agreed, _) => NegotiationStep::Verify,
            _ => NegotiationStep::Wait,
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
}
