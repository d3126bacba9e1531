//! Log entries: the event, the parties, the decision and its rule. The log itself contains only a salted commitment to
//! each entry; openings are given to auditors and to the parties. FORMATS.md, "Log entry".

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, EntryId, LogOrigin, ParticipantId, ProcessId, Text};
use crate::core::json;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A salt, without which a guess of the committed value cannot be confirmed.
pub type Salt = [u8; 32];

/// Kinds of events. The names are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
pub enum Kind {
    /// The node started its log.
    #[serde(rename = "log.begun")]
    LogBegun,
    /// A register was installed.
    #[serde(rename = "register.installed")]
    RegisterInstalled,
    /// A register was refused.
    #[serde(rename = "register.refused")]
    RegisterRefused,
    /// The clock was ahead, and an administrator let the node follow it again: this entry is older than the one before.
    #[serde(rename = "clock.corrected")]
    ClockCorrected,
    /// A restored backup was compared with the checkpoints that peers hold, and the node resumed writing.
    #[serde(rename = "log.resumed")]
    LogResumed,
    /// A root document was installed.
    #[serde(rename = "root.installed")]
    RootInstalled,
    /// A root document was refused.
    #[serde(rename = "root.refused")]
    RootRefused,
    /// An administrator released a member's key from quarantine.
    #[serde(rename = "key.confirmed")]
    KeyConfirmed,
    /// The key-encryption key was changed and all secrets were wrapped again.
    #[serde(rename = "kek.changed")]
    KekChanged,
    /// A management token was created.
    #[serde(rename = "token.created")]
    TokenCreated,
    /// A management token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked,
    /// A schema of this member was published.
    #[serde(rename = "schema.published")]
    SchemaPublished,
    /// A schema of the register or of a peer was fetched and kept.
    #[serde(rename = "schema.kept")]
    SchemaKept,
    /// A peer served a schema that is not what was asked for, or a schema of this member was refused.
    #[serde(rename = "schema.refused")]
    SchemaRefused,
    /// A dataset version was published.
    #[serde(rename = "dataset.published")]
    DatasetPublished,
    /// A publication was refused.
    #[serde(rename = "dataset.refused")]
    PublicationRefused,
    /// A dataset was withdrawn by its publisher.
    #[serde(rename = "dataset.withdrawn")]
    DatasetWithdrawn,
    /// A provider withdrew a dataset for which this node has an agreement.
    #[serde(rename = "dataset.recalled")]
    DatasetRecalled,
    /// A source of a dataset was defined, or defined again.
    #[serde(rename = "source.defined")]
    SourceDefined,
    /// A source was removed.
    #[serde(rename = "source.removed")]
    SourceRemoved,
    /// A source was paused.
    #[serde(rename = "source.paused")]
    SourcePaused,
    /// A source was resumed.
    #[serde(rename = "source.resumed")]
    SourceResumed,
    /// A run of a source ended.
    #[serde(rename = "source.ran")]
    SourceRan,
    /// An enterprise subscribed to the versions of a peer's dataset.
    #[serde(rename = "subscription.begun")]
    SubscriptionBegun,
    /// A version was requested because of a subscription.
    #[serde(rename = "subscription.requested")]
    SubscriptionRequested,
    /// A subscription was ended.
    #[serde(rename = "subscription.ended")]
    SubscriptionEnded,
    /// A negotiation changed its state.
    #[serde(rename = "negotiation.moved")]
    NegotiationTransition,
    /// A person approved or rejected a pending negotiation.
    #[serde(rename = "negotiation.ruled")]
    NegotiationDecided,
    /// A transfer changed its state.
    #[serde(rename = "transfer.moved")]
    TransferTransition,
    /// A message of a negotiation or transfer was refused.
    #[serde(rename = "message.refused")]
    MessageRefused,
    /// This node requested a data key.
    #[serde(rename = "key.requested")]
    KeyRequested,
    /// This node obtained a data key and stored it wrapped.
    #[serde(rename = "key.obtained")]
    KeyObtained,
    /// A peer's checkpoints contradict each other.
    #[serde(rename = "peer.alarm")]
    PeerAlarm,
    /// A data key was released.
    #[serde(rename = "key.released")]
    KeyReleased,
    /// A data key was refused.
    #[serde(rename = "key.refused")]
    KeyRefused,
    /// Plain data was served for the first time under a transfer, which counts as a use.
    #[serde(rename = "data.released")]
    DataReleased,
    /// Plain data was refused, or a download was cut off.
    #[serde(rename = "data.refused")]
    DataRefused,
    /// A receipt arrived.
    #[serde(rename = "receipt.received")]
    ReceiptReceived,
    /// A receipt was refused.
    #[serde(rename = "receipt.refused")]
    ReceiptRefused,
    /// This node started to fetch a peer's dataset.
    #[serde(rename = "dataset.fetching")]
    DatasetFetching,
    /// This node verified and stored a peer's dataset.
    #[serde(rename = "dataset.received")]
    DatasetReceived,
    /// A delivery from a peer did not verify.
    #[serde(rename = "dataset.rejected")]
    DatasetRejected,
    /// A person or program opened the plaintext of a dataset.
    #[serde(rename = "dataset.opened")]
    DatasetOpened,
    /// Another request of a member was refused.
    #[serde(rename = "access.refused")]
    AccessRefused,
    /// A user of the management API was refused.
    #[serde(rename = "management.refused")]
    ManagementRefused,
    /// Number of refusals of unauthenticated callers and of callers above their rate limit.
    #[serde(rename = "refusals.counted")]
    RefusalsCounted,
    /// An outgoing message was abandoned.
    #[serde(rename = "message.abandoned")]
    MessageAbandoned,
}

impl Kind {
    /// The name in the log.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            _ => String::new(),
        }
    }
}

/// The decision on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Granted.
    Permitted,
    /// Not granted.
    Refused,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the format: 1.
    pub version: u32,
    /// Log that contains the entry.
    pub origin: LogOrigin,
    /// Random identifier.
    pub id: EntryId,
    /// Kind of the event.
    pub kind: Kind,
    /// Time of the commit; never earlier than that of the previous entry.
    pub time: Timestamp,
    /// Facts.
    #[serde(flatten)]
    pub facts: Facts,
}

/// The facts of an entry. Only the values behind `fields` can be erased.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The peers concerned, which may receive the opening.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<ParticipantId>,
    /// Dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// This node's identifier of the negotiation or transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// Agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<AgreementId>,
    /// Enterprise on whose behalf the consumer asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<Text>,
    /// Purpose of the use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    /// Decision on the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The rule on which the decision is based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Further facts of this kind of event: digests, numbers, states, signed documents.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
    /// Commitments to personal values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Digest>,
}

/// The opening of a personal value. Erasing it leaves only the commitment in the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FieldOpening {
    /// Name of the field.
    pub name: String,
    /// Salt, hexadecimal.
    #[serde(with = "hex::serde")]
    #[schemars(with = "String")]
    pub salt: Salt,
    /// Value.
    pub value: Text,
}

impl FieldOpening {
    /// Creates an opening of `value` with a new salt.
    pub fn new(name: &str, value: Text, random: &dyn Random) -> Self {
        Self { name: name.to_owned(), salt: random::bytes(random), value }
    }

    /// SHA-256("crosspark/field/v1" || 0x00 || salt || JCS([name, value])).
    pub fn commitment(&self) -> Digest {
        let text = json::to_canonical(&(&self.name, &self.value));
        Digest::labelled("crosspark/field/v1", &[&self.salt, &text])
    }
}

/// SHA-256("crosspark/entry/v1" || 0x00 || salt || JCS(entry)): the leaf's data.
pub fn commitment(salt: &Salt, canonical_entry: &[u8]) -> Digest {
    Digest::labelled("crosspark/entry/v1", &[salt, canonical_entry])
}

/// An entry that has no time yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Random identifier.
    pub id: EntryId,
    /// Random salt.
    pub salt: Salt,
    /// Kind of the event.
    pub kind: Kind,
    /// Facts.
    pub facts: Facts,
    /// Openings of the personal values in `facts.fields`.
    pub openings: Vec<FieldOpening>,
}

impl Draft {
    /// A draft with a random id and salt.
    pub fn new(kind: Kind, facts: Facts, random: &dyn Random) -> Self {
        Self { id: EntryId::generate(random), salt: random::bytes(random), kind, facts, openings: Vec::new() }
    }

    /// Adds a personal value and its commitment.
    pub fn with_field(mut self, opening: FieldOpening) -> Self {
        self.facts.fields.insert(opening.name.clone(), opening.commitment());
        self.openings.push(opening);
        self
    }

    /// The entry with its origin and time.
    pub fn at(&self, origin: &LogOrigin, time: Timestamp) -> Entry {
        let (id, facts) = (self.id.clone(), self.facts.clone());
        Entry { version: 1, origin: origin.clone(), id, kind: self.kind, time, facts }
    }
}

/// The data that opens a leaf for a party or auditor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Leaf index.
    pub index: u64,
    /// Salt, hexadecimal.
    #[serde(with = "hex::serde")]
    pub salt: Salt,
    /// Entry.
    pub entry: Value,
    /// Openings of personal values, for recipients that may see them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldOpening>,
}
