//! Sources, runs and connections as the API shows them.

use crate::config::Connection;
use crate::core::id::{ConnectionName, DatasetId, SourceName, Text};
use crate::core::time::Timestamp;
use crate::publishing::Published;
use crate::source::{Definition, Outcome, Run, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SourceReport {
    /// Its name.
    pub name: SourceName,
    /// What it is.
    pub definition: Definition,
    /// Its dataset, once it has a version.
    pub dataset: Option<DatasetId>,
    /// Time of the definition.
    pub since: Timestamp,
    /// Person who defined it.
    pub person: Text,
    /// Whether it is paused.
    pub paused: bool,
    /// Start of the run that is under way.
    pub running: Option<Timestamp>,
    /// Failed runs since the last one that did not fail.
    pub failures: u32,
    /// Time of the next run.
    pub next: Option<Timestamp>,
    /// The last run.
    pub last: Option<Run>,
    /// End of the last run that published a version.
    pub changed: Option<Timestamp>,
    /// What needs attention.
    pub warning: Option<String>,
}

impl SourceReport {
    pub(super) fn new(source: Source, now: Timestamp) -> Self {
        let (warning, begun) = (source.warning(now), source.has_begun());
        let progress = source.progress;
        Self {
            name: source.name,
            dataset: begun.then_some(source.dataset),
            since: source.since,
            person: source.owner.person,
            paused: progress.paused,
            running: progress.running,
            failures: progress.failures,
            next: progress.next.filter(|_| !progress.paused),
            last: progress.last,
            changed: progress.changed,
            warning,
            definition: source.definition,
        }
    }
}

/// What became of a run that did not fail.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ran {
    /// Source.
    pub source: SourceName,
    /// Outcome.
    pub outcome: Outcome,
    /// The publication, if something was read.
    pub published: Option<Published>,
}

/// A connection of the configuration, without secrets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConnectionReport {
    /// Its name.
    pub name: ConnectionName,
    /// Its kind: folder, http, postgres or mysql.
    pub kind: String,
    /// Where it leads.
    pub place: String,
}

impl ConnectionReport {
    pub(super) fn new(name: &ConnectionName, connection: &Connection) -> Self {
        Self { name: name.clone(), kind: connection.kind().to_owned(), place: connection.place() }
    }
}
