//! What became of a source's runs.

use crate::core::limits;
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Progress of a source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
    /// Start of the run that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Timestamp>,
    /// Failed runs since the last one that did not fail.
    #[serde(default)]
    pub failures: u32,
    /// Time of the next run, by the schedule or after a failed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Run>,
    /// End of the last run that did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Timestamp>,
    /// End of the last run that published a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// When it was resumed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Timestamp>,
    /// What it has seen of its input.
    #[serde(default)]
    pub seen: Seen,
}

/// What tells new input from input that was published before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Fingerprints (of name, size and time) of the files of a folder that are published or passed over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub files: BTreeSet<String>,
    /// Those of them that were refused, with name and reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
    /// `ETag` of the last response (RFC 9110 section 8.8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified` of the last response (RFC 9110 section 8.8.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// The version that has what that response had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Run {
    /// Its start.
    pub started: Timestamp,
    /// Its end.
    pub ended: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum Outcome {
    /// A version was published.
    Published {
        /// Version.
        version: u64,
        /// Number of records.
        records: u64,
    },
    /// The content is that of the newest version.
    Unchanged {
        /// Version.
        version: u64,
    },
    /// There was nothing new to read.
    Nothing,
    /// Nothing was published.
    Failed {
        /// Code for programs.
        code: String,
        /// Reason for people; without values of the records.
        reason: String,
    },
}

impl Outcome {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Published { .. } => "published",
            Self::Unchanged { .. } => "unchanged",
            Self::Nothing => "nothing",
            Self::Failed { .. } => "failed",
        }
    }
}

/// What is known after a run besides its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct After {
    /// What it has seen of its input.
    pub seen: Seen,
    /// Whether there is more to read.
    pub more: bool,
    /// Whether a file was refused, which keeps no others waiting and is not tried again.
    pub passed: bool,
}

/// The pause after this many failed runs in a row: a minute, doubled for each, at most an hour.
fn retry_after_ms(failures: u32) -> i64 {
    let doubled = limits::SOURCE_RETRY_MS << failures.saturating_sub(1).min(16);
    doubled.min(limits::SOURCE_RETRY_MS_MAX)
}

impl Progress {
    /// The last run, if it failed, and why.
    pub fn failed(&self) -> Option<(&Run, &str)> {
        let run = self.last.as_ref().filter(|_| self.failures > 0)?;
        match &run.outcome {
            Outcome::Failed { reason, .. } => Some((run, reason)),
            _ => None,
        }
    }

    /// Records a run that has ended. The next one is at `scheduled`; after a failed one earlier, if it is `retried`.
    pub(super) fn record(&mut self, run: Run, after: After, scheduled: Option<Timestamp>, retried: bool) {
        self.running = None;
        self.next = scheduled;
        self.seen = after.seen;
        match run.outcome {
            // A file that was refused is told as such.
            Outcome::Failed { .. } if after.passed => (self.failures, self.good) = (0, Some(run.ended)),
            Outcome::Failed { .. } => {
                self.failures = self.failures.saturating_add(1);
                if retried {
                    let retry = run.ended.plus_ms(retry_after_ms(self.failures));
                    self.next = Some(scheduled.map_or(retry, |scheduled| scheduled.min(retry)));
                }
            }
            Outcome::Published { .. } => {
                (self.failures, self.good, self.changed) = (0, Some(run.ended), Some(run.ended))
            }
            Outcome::Unchanged { .. } | Outcome::Nothing => (self.failures, self.good) = (0, Some(run.ended)),
        }
        self.last = Some(run);
    }
}
