//! Rows of the store other than negotiations and transfers.

use crate::agreement::Agreement;
use crate::catalog::About;
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, HoldingId, MessageId, OfferId, ParticipantId, ProcessId, SubscriptionId, Text, TokenId,
};
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::dataset::manifest::SchemaRef;
use crate::dataset::quality::Quality;
use crate::identity::endpoint::Endpoint;
use crate::keys::Cell;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// A published dataset version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Dataset.
    pub dataset: DatasetId,
    /// Version, from 1.
    pub version: u64,
    /// Title.
    pub title: Text,
    /// Longer description.
    pub description: String,
    /// Offer of the version.
    pub offer: OfferId,
    /// The offer's policy in normal form.
    pub policy: Value,
    /// SHA-256 of the policy.
    pub policy_digest: Digest,
    /// The manifest, JWS.
    pub manifest: String,
    /// SHA-256 of the manifest.
    pub manifest_digest: Digest,
    /// Schema.
    pub schema: SchemaRef,
    /// Number of records.
    pub records: u64,
    /// Size of the sealed container in bytes.
    pub bytes: u64,
    /// Digest of the sealed container, which names its blob.
    pub blob: Digest,
    /// The data key, wrapped.
    pub wrapped_key: String,
    /// Time of publication.
    pub published: Timestamp,
    /// Optional metadata from the publisher.
    #[serde(default)]
    pub about: About,
    /// What the records have in their fields, as the manifest states it.
    #[serde(default, skip_serializing_if = "Quality::is_empty")]
    pub quality: Quality,
    /// Participants that may see it: keys of [`crate::policy::Policy::audience`].
    #[serde(default)]
    pub audience: BTreeSet<String>,
    /// Time of the withdrawal, if it was withdrawn.
    #[serde(default)]
    pub withdrawn: Option<Timestamp>,
}

/// A change in the part of this node's catalog that is visible to some audience keys.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogChange {
    /// Change number; increases with each change.
    pub change: u64,
    /// Dataset.
    pub dataset: DatasetId,
    /// The newest version; `None` if the dataset is no longer visible.
    pub version: Option<VersionRow>,
}

/// A concluded agreement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// Identifier of the agreement.
    pub id: AgreementId,
    /// The peer.
    pub peer: ParticipantId,
    /// This node's identifier of the negotiation.
    pub negotiation: ProcessId,
    /// Digest of the agreement.
    pub digest: Digest,
    /// The agreement.
    pub agreement: Agreement,
    /// The provider's signature, JWS; only crosspark nodes sign.
    #[serde(default)]
    pub provider: Option<String>,
    /// The consumer's signature, JWS; only crosspark nodes sign.
    #[serde(default)]
    pub consumer: Option<String>,
    /// Whether a person at the provider approved the negotiation.
    #[serde(default)]
    pub approved: bool,
    /// Number of uses so far; maintained by the store.
    #[serde(skip)]
    pub used: u64,
}

/// A key release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Digest of the request.
    pub request: Digest,
    /// Consumer.
    pub peer: ParticipantId,
    /// Nonce of the request, base64url.
    pub nonce: String,
    /// SHA-256 of the one-time public key.
    pub one_time_key: Digest,
    /// This node's identifier of the transfer.
    pub transfer: ProcessId,
    /// The answer, JWS; it contains the data key sealed to the one-time key.
    pub answer: String,
    /// End of the time in which a repeated request gets the same answer.
    pub expires: Timestamp,
}

/// Progress of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldingState {
    /// The sealed bytes are being fetched.
    Fetching,
    /// The sealed bytes are complete, and the key was requested.
    Asked,
    /// The key was obtained, and the content is being verified.
    Keyed,
    /// Verified and stored.
    Verified,
    /// Verification failed, or the delivery was refused.
    Failed,
}

/// A dataset obtained from a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// Identifier of the holding.
    pub id: HoldingId,
    /// Number of changes; guards every update.
    pub revision: u64,
    /// Provider.
    pub provider: ParticipantId,
    /// This node's identifier of the transfer.
    pub transfer: ProcessId,
    /// This node's identifier of the negotiation, which its users know as the request.
    pub request: ProcessId,
    /// Agreement.
    pub agreement: AgreementId,
    /// Progress.
    pub state: HoldingState,
    /// The manifest, JWS.
    pub manifest: String,
    /// SHA-256 of the manifest.
    pub manifest_digest: Digest,
    /// Digest of the sealed container.
    pub blob: Digest,
    /// Size of the sealed container in bytes.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// Title in the provider's catalog.
    pub title: Text,
    /// The pending key request, JWS.
    pub key_request: Option<String>,
    /// The one-time key of the request, wrapped.
    pub wrapped_one_time_key: Option<String>,
    /// The data key, wrapped.
    pub wrapped_key: Option<String>,
    /// Reason of the failure.
    pub reason: Option<String>,
    /// Time of the last change.
    pub updated: Timestamp,
}

/// A management token. Only the hash of its secret is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Identifier of the token.
    pub id: TokenId,
    /// SHA-256("crosspark/token/v1" || 0x00 || secret).
    pub hash: Digest,
    /// Role: admin, publisher, requester or auditor.
    pub role: String,
    /// Person who uses it.
    pub person: Text,
    /// Enterprise on whose behalf a requester acts.
    pub enterprise: Option<Text>,
    /// Time of creation.
    pub created: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A subscription: each new version of a peer's dataset is requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionRow {
    /// Identifier of the subscription.
    pub id: SubscriptionId,
    /// Number of changes; guards every update.
    pub revision: u64,
    /// Provider.
    pub provider: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Purpose of the requests.
    pub purpose: Text,
    /// Enterprise on whose behalf they are made.
    pub enterprise: Text,
    /// Person who subscribed.
    pub person: Text,
    /// Token with which the person subscribed.
    pub token: TokenId,
    /// Time of the subscription.
    pub since: Timestamp,
    /// Newest version that was requested; 0 before the first.
    pub version: u64,
    /// The request for it.
    pub request: Option<ProcessId>,
}

/// A message to a peer: a versioned domain message without bearer tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Identifier of the message.
    pub id: MessageId,
    /// Recipient.
    pub to: ParticipantId,
    /// Process; messages of one process are sent in order.
    pub process: ProcessId,
    /// The message.
    pub message: Value,
    /// Callback address that another connector sent, if any.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// Trace id, the same at both parks.
    #[serde(default)]
    pub trace: Option<TraceId>,
    /// Number of delivery attempts; maintained by the store.
    #[serde(skip)]
    pub attempts: u32,
    /// Number of attempts that the peer answered with a conflict; maintained by the store.
    #[serde(skip)]
    pub conflicts: u32,
    /// Why the last attempt failed, for people; maintained by the store.
    #[serde(skip)]
    pub failure: String,
}

/// A due message, with its recipient known before the message is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Message.
    pub id: MessageId,
    /// Recipient.
    pub to: ParticipantId,
}

impl Outgoing {
    /// Sets the callback address.
    pub fn with_callback(mut self, callback: &Option<Endpoint>) -> Self {
        self.callback.clone_from(callback);
        self
    }
}

/// A log entry with its opening.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EntryRow {
    /// Leaf index.
    pub index: u64,
    /// Entry.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub entry: Value,
    /// Data of the leaf.
    pub leaf: Digest,
    /// Salt, hexadecimal.
    #[serde(with = "hex::serde")]
    #[schemars(with = "String")]
    pub salt: [u8; 32],
    /// Openings of personal values that were not erased.
    pub fields: Vec<crate::audit::entry::FieldOpening>,
}

/// A creation requested with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// Token used for the request.
    pub token: TokenId,
    /// Idempotency key.
    pub key: String,
    /// Digest of the request.
    pub request: Digest,
    /// The response, JSON, without secrets.
    pub answer: String,
    /// Time of the creation.
    pub at: Timestamp,
}

/// A schema that this node has published or fetched, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRow {
    /// Digest of its canonical form.
    pub digest: Digest,
    /// `$id`
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Title.
    pub title: String,
    /// The statement of the member in whose namespace it is, JWS.
    pub statement: Option<String>,
}

/// Statistics of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Number of log entries.
    pub entries: u64,
    /// Number of log entries covered by the newest checkpoint.
    pub signed: u64,
    /// Time of that checkpoint.
    pub signed_at: Option<Timestamp>,
    /// Number of messages in the outbox.
    pub outbox: u64,
    /// Time since when the oldest of them has been waiting.
    pub outbox_since: Option<Timestamp>,
    /// Number of negotiations and transfers that are not in a final state.
    pub open_processes: u64,
    /// Size of the database in bytes.
    pub bytes: u64,
}

/// Kind of a wrapped secret, which also determines where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// The data key of a version; the row is `DATASET/VERSION`.
    VersionKey,
    /// The data key of a holding.
    HoldingKey,
    /// The one-time key of a holding.
    OneTimeKey,
    /// The token of a transfer.
    TransferToken,
}

/// A wrapped secret in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Kind.
    pub kind: SecretKind,
    /// Row.
    pub row: String,
    /// The wrapped secret.
    pub wrapped: String,
}

impl Secret {
    /// The location to which the wrapping is bound.
    pub fn cell(&self) -> Cell<'_> {
        let (table, column) = match self.kind {
            SecretKind::VersionKey => ("version", "key"),
            SecretKind::HoldingKey => ("holding", "key"),
            SecretKind::OneTimeKey => ("holding", "one-time-key"),
            SecretKind::TransferToken => ("process", "token"),
        };
        Cell { table, row: &self.row, column }
    }
}
