//! The promise: a node's signed statement that an answer or refusal is in its log. FORMATS.md, "Promise".

use crate::core::digest::Digest;
use crate::core::id::{EntryId, LogOrigin, ParticipantId};
use crate::identity::document::Document;
use serde::{Deserialize, Serialize};

/// HTTP header that carries a promise.
pub const HEADER: &str = "crosspark-promise";

/// A node's statement that an entry is in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Log that contains the entry.
    pub origin: LogOrigin,
    /// Participant that makes the promise.
    pub participant: ParticipantId,
    /// Participant that receives the promise.
    pub to: ParticipantId,
    /// Entry.
    pub entry: EntryId,
    /// Data of the entry's leaf.
    pub leaf: Digest,
}

impl Document for Promise {
    const TYP: &'static str = "crosspark-promise+jws";
    const FORMAT: &'static str = "promise/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.participant)
    }
}
