//! What a version of a dataset has otherwise than the one before, by the key of the schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// The version with which this one is compared.
    pub since: u64,
    /// Records with keys that are new.
    pub added: u64,
    /// Records of the version before whose keys are gone.
    pub removed: u64,
    /// Records that are different under the same key.
    pub changed: u64,
}

impl Changes {
    /// Whether the records are the same.
    pub fn is_nothing(&self) -> bool {
        (self.added, self.removed, self.changed) == (0, 0, 0)
    }

    /// In words.
    pub fn in_words(&self) -> String {
        let Self { since, added, removed, changed } = self;
        let records = if *added == 1 { "record" } else { "records" };
        format!("{added} {records} added, {removed} removed, {changed} changed since version {since}")
    }
}
