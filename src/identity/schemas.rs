//! Who vouches for a schema: the register lists those that the alliance shares, and a member signs a statement for those
//! of its own. FORMATS.md, "Register" and "Schema statement".

use super::document::Document;
use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A schema shared by the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaEntry {
    /// The schema's `$id`.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
    /// The member that maintains it; absent if the alliance does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ParticipantId>,
    /// Time from which no more data is published under it; absent while it is active. Its datasets stay readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<Timestamp>,
}

/// Fails unless each schema is listed once, under one digest for each version.
pub(super) fn check(entries: &[SchemaEntry]) -> Result<(), String> {
    if entries.len() > limits::SCHEMAS_LISTED_MAX {
        return Err(format!("more than {} schemas", limits::SCHEMAS_LISTED_MAX));
    }
    let (mut versions, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        if !versions.insert((&entry.id, &entry.version)) || !digests.insert(entry.digest) {
            return Err(format!("the schema {} {} is listed twice", entry.id, entry.version));
        }
    }
    Ok(())
}

/// A member's statement that a schema in its namespace is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaStatement {
    /// The member.
    pub publisher: ParticipantId,
    /// The schema's `$id`.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
    /// Time of signing.
    pub issued: Timestamp,
}

impl Document for SchemaStatement {
    const TYP: &'static str = "crosspark-schema+jws";
    const FORMAT: &'static str = "schema/1";
    const BYTES_MAX: usize = limits::SMALL_DOCUMENT_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.publisher)
    }
}

/// The participant in whose namespace a schema's `$id` is, if it is in anybody's: `did:web:park-a.example/rents`.
pub fn namespace(id: &str) -> Option<ParticipantId> {
    let (owner, name) = id.split_once('/')?;
    ParticipantId::parse(owner).ok().filter(|_| !name.is_empty())
}
