//! The nodes of other members, as a port.

use super::{Error, Message};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, MessageId, ParticipantId, ProcessId};
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Member;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::Value;

/// Why a call to a peer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer refused.
    #[error("refused ({status}): {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code for programs, if it sent one.
        code: Option<String>,
        /// Reason for people; shown and logged, never used in decisions.
        reason: String,
        /// Promise that the refusal is in the peer's log.
        promise: Option<String>,
    },
    /// The peer did not answer.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The peer's answer violates the protocol.
    #[error("sent an answer that violates the protocol: {0}")]
    Invalid(String),
}

impl PeerError {
    /// As an error of this node's user.
    pub fn for_user(&self, peer: &ParticipantId) -> Error {
        match self {
            Self::Refused { .. } if !self.is_transient() => Error::invalid("peer", format!("{peer} {self}")),
            _ => Error::Unavailable(format!("{peer} {self}")),
        }
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether another attempt can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Unreachable(_) => true,
            Self::Invalid(_) => false,
        }
    }
}

/// An answer with the peer's promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// Answer.
    pub body: T,
    /// Promise that the peer's log holds the entry, JWS.
    pub promise: Option<String>,
}

/// A message to be delivered.
pub struct Envelope<'a> {
    /// Message id; every attempt uses the same one.
    pub id: &'a MessageId,
    /// Callback address from the peer's message, checked against the register.
    pub callback: Option<&'a Endpoint>,
    /// Message.
    pub message: &'a Message,
    /// Transfer token of a start message.
    pub token: Option<&'a str>,
}

/// A page of a peer's catalog.
pub struct PeerCatalogPage {
    /// DCAT catalog.
    pub body: Value,
    /// Address of the next page.
    pub next: Option<String>,
}

/// A schema, as a peer serves it.
pub struct PeerSchema {
    /// JSON.
    pub text: String,
    /// The statement of the member in whose namespace it is, JWS.
    pub statement: Option<String>,
}

/// A stream of plain data.
pub struct PlainData {
    /// Stated media type.
    pub kind: Option<String>,
    /// Stated length in bytes.
    pub length: Option<u64>,
    /// Data.
    pub stream: BoxStream<'static, Result<Bytes, PeerError>>,
}

/// The nodes of other members. Calls go to the addresses that the register lists for the member, and nowhere else.
#[async_trait]
pub trait Peer: Send + Sync {
    /// A page of its catalog: the one at `next`, or else the first; only changes after `since`, if given.
    async fn catalog(&self, to: &Member, since: Option<u64>, next: Option<&str>) -> Result<PeerCatalogPage, PeerError>;
    /// A dataset of its catalog.
    async fn dataset(&self, to: &Member, id: &DatasetId) -> Result<Value, PeerError>;
    /// Delivers a message; returns the peer's id of the process that it opens.
    async fn deliver(&self, to: &Member, envelope: &Envelope<'_>) -> Result<Answer<Option<ProcessId>>, PeerError>;
    /// A manifest.
    async fn manifest(&self, to: &Member, digest: &Digest) -> Result<String, PeerError>;
    /// A schema.
    async fn schema(&self, to: &Member, digest: &Digest) -> Result<PeerSchema, PeerError>;
    /// Sealed bytes from `range`.
    async fn data(
        &self,
        to: &Member,
        transfer: &ProcessId,
        token: &str,
        range: std::ops::Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError>;
    /// Plain data at an address that the register lists for the member.
    async fn pull(&self, to: &Member, address: &Endpoint, token: Option<&str>) -> Result<PlainData, PeerError>;
    /// Requests a data key.
    async fn key(&self, to: &Member, transfer: &ProcessId, request: &str) -> Result<Answer<String>, PeerError>;
    /// Its newest checkpoint.
    async fn checkpoint(&self, to: &Member) -> Result<String, PeerError>;
    /// The newest checkpoint of this node's log that the peer observed.
    async fn observed_checkpoint(&self, to: &Member) -> Result<Option<String>, PeerError>;
    /// The register with this sequence, or the newest.
    async fn register(&self, to: &Member, sequence: Option<u64>) -> Result<String, PeerError>;
    /// The time at the peer, if it states one; fails if the peer cannot be reached.
    async fn reach(&self, to: &Member) -> Result<Option<Timestamp>, PeerError>;
    /// The root document of this version.
    async fn root(&self, to: &Member, version: u64) -> Result<String, PeerError>;
}
