//! Log entries: what happened, who was concerned, what was decided and by which rule. The log itself holds only a
//! salted commitment of each; openings go to auditors and to the parties concerned. FORMATS.md, "Log entry".

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, EntryId, LogOrigin, ParticipantId, ProcessId, Text};
use crate::core::json;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A salt: without it, nobody can confirm a guess of what a commitment hides.
pub type Salt = [u8; 32];

/// What happened. The texts are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
pub enum Kind {
    /// The node began its log.
    #[serde(rename = "log.begun")]
    LogBegun,
    /// A register was installed.
    #[serde(rename = "register.installed")]
    RegisterInstalled,
    /// A register was refused.
    #[serde(rename = "register.refused")]
    RegisterRefused,
    /// A folder that was put back from a backup was compared with what the peers saw, and goes on.
    #[serde(rename = "log.resumed")]
    LogResumed,
    /// A root document was installed.
    #[serde(rename = "root.installed")]
    RootInstalled,
    /// A root document was refused.
    #[serde(rename = "root.refused")]
    RootRefused,
    /// An administrator confirmed a member's key that was in quarantine.
    #[serde(rename = "key.confirmed")]
    KeyConfirmed,
    /// The key-encryption key was changed: secrets were wrapped anew.
    #[serde(rename = "kek.changed")]
    KekChanged,
    /// A management token was made.
    #[serde(rename = "token.created")]
    TokenCreated,
    /// A management token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked,
    /// A dataset version was published.
    #[serde(rename = "dataset.published")]
    DatasetPublished,
    /// A publication was refused.
    #[serde(rename = "dataset.refused")]
    PublicationRefused,
    /// A dataset was withdrawn.
    #[serde(rename = "dataset.withdrawn")]
    DatasetWithdrawn,
    /// A provider withdrew a dataset that this node has an agreement on.
    #[serde(rename = "dataset.recalled")]
    DatasetRecalled,
    /// A negotiation moved.
    #[serde(rename = "negotiation.moved")]
    NegotiationTransition,
    /// A person said yes or no to a negotiation that waited.
    #[serde(rename = "negotiation.ruled")]
    NegotiationDecided,
    /// A transfer moved.
    #[serde(rename = "transfer.moved")]
    TransferTransition,
    /// A message of a process was refused.
    #[serde(rename = "message.refused")]
    MessageRefused,
    /// This node asked for a data key.
    #[serde(rename = "key.requested")]
    KeyRequested,
    /// This node got a data key and keeps it wrapped.
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
    /// Plain data is served for the first time under a transfer: a use.
    #[serde(rename = "data.released")]
    DataReleased,
    /// Data was refused, or was served no longer.
    #[serde(rename = "data.refused")]
    DataRefused,
    /// A receipt arrived.
    #[serde(rename = "receipt.received")]
    ReceiptReceived,
    /// A receipt was refused.
    #[serde(rename = "receipt.refused")]
    ReceiptRefused,
    /// This node began to fetch a peer's dataset.
    #[serde(rename = "dataset.fetching")]
    DatasetFetching,
    /// This node verified and keeps a peer's dataset.
    #[serde(rename = "dataset.received")]
    DatasetReceived,
    /// What a peer sent did not verify.
    #[serde(rename = "dataset.rejected")]
    DatasetRejected,
    /// A person or program took the plaintext of a dataset.
    #[serde(rename = "dataset.opened")]
    DatasetOpened,
    /// A member was refused something else.
    #[serde(rename = "access.refused")]
    AccessRefused,
    /// A user of the management listener was refused.
    #[serde(rename = "management.refused")]
    ManagementRefused,
    /// Refusals of strangers and of callers over their rate, counted.
    #[serde(rename = "refusals.counted")]
    RefusalsCounted,
    /// An outgoing message was given up.
    #[serde(rename = "message.abandoned")]
    MessageAbandoned,
}

impl Kind {
    /// Its text, as in the log.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            _ => String::new(),
        }
    }
}

/// How a request was answered.
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
    /// Version of this format: 1.
    pub version: u32,
    /// Whose log.
    pub origin: LogOrigin,
    /// Random.
    pub id: EntryId,
    /// What happened.
    pub kind: Kind,
    /// When it was committed; never before its predecessor.
    pub time: Timestamp,
    /// The facts.
    #[serde(flatten)]
    pub facts: Facts,
}

/// The facts of an entry. Participants, dataset, agreement, decision, rule and time cannot be erased.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The peers concerned: they may have the opening.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<ParticipantId>,
    /// Dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// Negotiation or transfer, as this node names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// Agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<AgreementId>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<Text>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text>,
    /// How it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Further facts of this kind of entry: digests, numbers, states, signed documents.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
    /// Personal values, each as its commitment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Digest>,
}

/// The opening of a personal value. Erasing it leaves the commitment in the entry, which then says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldOpening {
    /// Name of the field.
    pub name: String,
    /// Its salt, hexadecimal.
    #[serde(with = "hex::serde")]
    pub salt: Salt,
    /// The value.
    pub value: Text,
}

impl FieldOpening {
    /// Hides `value` behind a new salt.
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

/// An entry before the log gave it its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Random.
    pub id: EntryId,
    /// Random.
    pub salt: Salt,
    /// What happened.
    pub kind: Kind,
    /// The facts.
    pub facts: Facts,
    /// Openings of the personal values in `facts.fields`.
    pub openings: Vec<FieldOpening>,
}

impl Draft {
    /// A draft with a random id and salt.
    pub fn new(kind: Kind, facts: Facts, random: &dyn Random) -> Self {
        Self { id: EntryId::generate(random), salt: random::bytes(random), kind, facts, openings: Vec::new() }
    }

    /// Adds a personal value.
    pub fn with_field(mut self, opening: FieldOpening) -> Self {
        self.facts.fields.insert(opening.name.clone(), opening.commitment());
        self.openings.push(opening);
        self
    }

    /// The entry at its time.
    pub fn at(&self, origin: &LogOrigin, time: Timestamp) -> Entry {
        let (id, facts) = (self.id.clone(), self.facts.clone());
        Entry { version: 1, origin: origin.clone(), id, kind: self.kind, time, facts }
    }
}

/// What a party or auditor is given to open a leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Where it is in the log.
    pub index: u64,
    /// Hexadecimal.
    #[serde(with = "hex::serde")]
    pub salt: Salt,
    /// The entry.
    pub entry: Value,
    /// Openings of personal values, to those who may have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldOpening>,
}
