//! What is stored beside the processes themselves.

use crate::agreement::Agreement;
use crate::catalog::About;
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, HoldingId, MessageId, OfferId, ParticipantId, ProcessId, Text, TokenId};
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::dataset::manifest::SchemaRef;
use crate::identity::endpoint::Endpoint;
use crate::keys::Cell;
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
    /// More about it.
    pub description: String,
    /// Its offer.
    pub offer: OfferId,
    /// The offer's policy in normal form.
    pub policy: Value,
    /// Its digest.
    pub policy_digest: Digest,
    /// The manifest, JWS.
    pub manifest: String,
    /// Its digest.
    pub manifest_digest: Digest,
    /// Schema.
    pub schema: SchemaRef,
    /// Records.
    pub records: u64,
    /// Sealed bytes.
    pub bytes: u64,
    /// The blob.
    pub blob: Digest,
    /// The data key, wrapped.
    pub wrapped_key: String,
    /// When.
    pub published: Timestamp,
    /// What its publisher says of it beside the records.
    #[serde(default)]
    pub about: About,
    /// Who may see it at all: keys of [`crate::policy::Policy::audience`].
    #[serde(default)]
    pub audience: BTreeSet<String>,
    /// When it was withdrawn.
    #[serde(default)]
    pub withdrawn: Option<Timestamp>,
}

/// A change in what somebody may see of this node's catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogChange {
    /// Its number; each change has a higher one.
    pub change: u64,
    /// Which dataset.
    pub dataset: DatasetId,
    /// The newest version; none if it is no longer to be seen.
    pub version: Option<VersionRow>,
}

/// An agreement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// Its id.
    pub id: AgreementId,
    /// The other side.
    pub peer: ParticipantId,
    /// The negotiation, as this node names it.
    pub negotiation: ProcessId,
    /// Digest of the agreement.
    pub digest: Digest,
    /// The agreement.
    pub agreement: Agreement,
    /// The provider's signature, JWS; another connector makes none.
    #[serde(default)]
    pub provider: Option<String>,
    /// The consumer's signature, JWS; another connector makes none.
    #[serde(default)]
    pub consumer: Option<String>,
    /// Whether a person of the provider approved what led to it.
    #[serde(default)]
    pub approved: bool,
    /// Releases counted so far; kept by the store.
    #[serde(skip)]
    pub used: u64,
}

/// A released key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Digest of the request.
    pub request: Digest,
    /// Who asked.
    pub peer: ParticipantId,
    /// Its nonce, base64url.
    pub nonce: String,
    /// SHA-256 of its one-time public key.
    pub one_time_key: Digest,
    /// The transfer, as this node names it.
    pub transfer: ProcessId,
    /// The answer, JWS. The data key in it is sealed to the one-time key.
    pub answer: String,
    /// Until when the same request gets the same answer.
    pub expires: Timestamp,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldingState {
    /// The sealed bytes are being fetched.
    Fetching,
    /// They are complete; the key was asked for.
    Asked,
    /// The key is here; everything is being checked.
    Keyed,
    /// Verified and kept.
    Verified,
    /// Did not verify, or was refused.
    Failed,
}

/// A dataset of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// Its id.
    pub id: HoldingId,
    /// Counts the changes; a guard of every update.
    pub revision: u64,
    /// From whom.
    pub provider: ParticipantId,
    /// By which transfer, as this node names it.
    pub transfer: ProcessId,
    /// The negotiation before it: the request, as this node's users name it.
    pub request: ProcessId,
    /// Under which agreement.
    pub agreement: AgreementId,
    /// How far it is.
    pub state: HoldingState,
    /// The manifest, JWS.
    pub manifest: String,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The blob.
    pub blob: Digest,
    /// Sealed bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Title in the provider's catalog.
    pub title: Text,
    /// The key request under way, JWS.
    pub key_request: Option<String>,
    /// The one-time key for it, wrapped.
    pub wrapped_one_time_key: Option<String>,
    /// The data key, wrapped.
    pub wrapped_key: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it last changed.
    pub updated: Timestamp,
}

/// A management token. Its secret is not here, only the secret's hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its name.
    pub id: TokenId,
    /// SHA-256("crosspark/token/v1" || 0x00 || secret).
    pub hash: Digest,
    /// admin, publisher, requester or auditor.
    pub role: String,
    /// Who uses it.
    pub person: Text,
    /// On whose behalf, for requesters.
    pub enterprise: Option<Text>,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A message to a peer: a versioned domain message without bearer secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Its id.
    pub id: MessageId,
    /// To whom.
    pub to: ParticipantId,
    /// Messages of one process are sent in order.
    pub process: ProcessId,
    /// The message.
    pub message: Value,
    /// Where another connector wants it, if it said so.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// What it is found by, at both parks.
    #[serde(default)]
    pub trace: Option<TraceId>,
    /// Deliveries tried; kept by the store.
    #[serde(skip)]
    pub attempts: u32,
}

/// A message that is due: who gets it is known before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The message.
    pub id: MessageId,
    /// To whom.
    pub to: ParticipantId,
}

impl Outgoing {
    /// The message for where the other side wants it.
    pub fn with_callback(mut self, callback: &Option<Endpoint>) -> Self {
        self.callback.clone_from(callback);
        self
    }
}

/// An entry of the log with its opening.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryRow {
    /// Index.
    pub index: u64,
    /// The entry.
    pub entry: Value,
    /// Leaf data.
    pub leaf: Digest,
    /// Salt, hexadecimal.
    #[serde(with = "hex::serde")]
    pub salt: [u8; 32],
    /// Personal values that were not erased.
    pub fields: Vec<crate::audit::entry::FieldOpening>,
}

/// A creation that was asked for with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// With which token.
    pub token: TokenId,
    /// The key.
    pub key: String,
    /// Digest of the request.
    pub request: Digest,
    /// The answer, JSON; without secrets.
    pub answer: String,
    /// When.
    pub at: Timestamp,
}

/// How the store is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Entries of the log.
    pub entries: u64,
    /// Entries under the newest checkpoint.
    pub signed: u64,
    /// When it was signed.
    pub signed_at: Option<Timestamp>,
    /// Messages that wait.
    pub outbox: u64,
    /// Since when the oldest of them waits.
    pub outbox_since: Option<Timestamp>,
    /// Negotiations and transfers that are not over.
    pub open_processes: u64,
    /// Bytes of the database.
    pub bytes: u64,
}

/// What a wrapped secret is, and with it where it is.
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
    /// What it is.
    pub kind: SecretKind,
    /// Of which row.
    pub row: String,
    /// As it is wrapped.
    pub wrapped: String,
}

impl Secret {
    /// What its wrapping is bound to.
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
