//! The promise: a node's signed word that an answer or refusal is in its log. FORMATS.md, "Promise".

use crate::core::digest::Digest;
use crate::core::id::{EntryId, LogOrigin, ParticipantId};
use crate::identity::document::Document;
use serde::{Deserialize, Serialize};

/// Header that carries it.
pub const HEADER: &str = "crosspark-promise";

/// What is promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Whose log.
    pub origin: LogOrigin,
    /// The promising participant.
    pub participant: ParticipantId,
    /// To whom.
    pub to: ParticipantId,
    /// Which entry.
    pub entry: EntryId,
    /// The leaf's data.
    pub leaf: Digest,
}

impl Document for Promise {
    const TYP: &'static str = "crosspark-promise+jws";
    const FORMAT: &'static str = "promise/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.participant)
    }
}
