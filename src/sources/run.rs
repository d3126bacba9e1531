//! One run of a source: its input is opened, published, and what became of it is recorded.

use super::input::{self, Found, Look, Opened};
use super::report::Ran;
use super::{Sources, missing};
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::id::SourceName;
use crate::core::time::Timestamp;
use crate::ingest::Format;
use crate::node::{Error, User, UserRole, details};
use crate::publishing::{Origin, Published, Records};
use crate::source::{Input, Outcome, Seen, Source};
use crate::storage::{Change, Conflict, Maintenance, StoreError, Write};
use serde_json::json;
use std::sync::{Arc, PoisonError};

/// Attempts to record the end of a run while its source is being changed.
const RECORD_ATTEMPTS: usize = 8;

/// What a run reads.
pub enum Reads {
    /// What its input has.
    Input(Look),
    /// What a program sends.
    Sent(Box<dyn Records>),
}

/// Marks a source as running until it is dropped.
struct Alone {
    sources: Arc<Sources>,
    name: SourceName,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.sources.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.sources.wake.notify_one();
    }
}

/// A run that has ended, before it is recorded.
struct Ended {
    outcome: Outcome,
    seen: Seen,
    result: Result<Option<Published>, Error>,
}

impl Sources {
    /// Runs a source now, because a person asks for it.
    pub async fn run_now(self: &Arc<Self>, name: &SourceName) -> Result<Ran, Error> {
        self.run_apart(name, Reads::Input(Look { again: true, before: None })).await
    }

    /// Publishes records that a program sends.
    pub async fn push(self: &Arc<Self>, name: &SourceName, records: impl Records) -> Result<Ran, Error> {
        let source = self.source(name).await?;
        if !matches!(source.definition.input, Input::Pushed {}) {
            let reason = format!("{name} reads its {} itself; run it without records", source.definition.input.kind());
            return Err(Error::invalid("source", reason));
        }
        self.run_apart(name, Reads::Sent(Box::new(records))).await
    }

    /// In a task of its own: the run ends and is recorded even if nobody waits for it any more.
    async fn run_apart(self: &Arc<Self>, name: &SourceName, reads: Reads) -> Result<Ran, Error> {
        let (sources, name) = (self.clone(), name.clone());
        let run = tokio::spawn(async move { sources.run_once(&name, reads).await });
        run.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    fn alone(self: &Arc<Self>, name: &SourceName) -> Result<Alone, Error> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.insert(name.clone()) {
            return Ok(Alone { sources: self.clone(), name: name.clone() });
        }
        Err(Error::invalid("conflict", format!("a run of {name} is under way")))
    }

    /// Runs a source, and records what became of it.
    pub(super) async fn run_once(self: &Arc<Self>, name: &SourceName, reads: Reads) -> Result<Ran, Error> {
        let _alone = self.alone(name)?;
        let _place = self.places.acquire().await.map_err(|error| Error::Internal(error.to_string()))?;
        let source = self.source(name).await?;
        self.node.ensure_writable()?;
        let started = self.node.now();
        self.node.store().maintain(vec![Maintenance::SourceRunning { name: name.clone(), at: started }]).await?;
        let Ended { outcome, seen, result } = self.carry_out(&source, reads).await;
        if let Outcome::Failed { reason, .. } = &outcome {
            tracing::warn!(source = %name, reason, "the run of a source failed");
        }
        self.record(name, started, outcome.clone(), seen).await?;
        result.map(|published| Ran { source: name.clone(), outcome, published })
    }

    async fn carry_out(&self, source: &Source, reads: Reads) -> Ended {
        let known = || source.progress.seen.clone();
        let version = || async {
            let newest = self.node.store().dataset(&source.dataset).await;
            newest.ok().flatten().map_or(0, |newest| newest.version)
        };
        let opened = match reads {
            Reads::Sent(records) => {
                Ok(Found::Records(Opened { records, ..Opened::new(std::io::Cursor::new(vec![]), Seen::default()) }))
            }
            Reads::Input(look) => input::open(source, &self.connections, look).await,
        };
        match opened {
            Err(error) => Ended { outcome: failed(&error), seen: known(), result: Err(error) },
            Ok(Found::Nothing(seen)) => Ended { outcome: Outcome::Nothing, seen, result: Ok(None) },
            Ok(Found::Unchanged) => {
                Ended { outcome: Outcome::Unchanged { version: version().await }, seen: known(), result: Ok(None) }
            }
            Ok(Found::Records(Opened { records, seen, passed, changed })) => {
                match self.publish(source, records).await {
                    Ok(published) => Ended { outcome: outcome_of(&published), seen, result: Ok(Some(published)) },
                    Err(error) => {
                        let refused = matches!(&error, Error::InvalidRecords(_)) || error.code() == "source";
                        let passed = Opened::seen_if_refused(passed.filter(|_| refused), &changed);
                        Ended { outcome: failed(&error), seen: passed.unwrap_or_else(known), result: Err(error) }
                    }
                }
            }
        }
    }

    async fn publish(&self, source: &Source, records: Box<dyn Records>) -> Result<Published, Error> {
        let owner = source.owner.clone();
        let user =
            User { token: owner.token, role: UserRole::Publisher, person: owner.person, enterprise: owner.enterprise };
        let mut publication = source.definition.publication.clone();
        if let Input::Http { pages: Some(_), .. } = source.definition.input {
            // The records of all pages, one a line.
            (publication.format, publication.reading.at) = (Format::Ndjson, String::new());
        }
        // A run may have ended with the publication, before that was recorded.
        let begun = source.has_begun() || self.node.store().dataset(&source.dataset).await?.is_some();
        publication.dataset = begun.then(|| source.dataset.clone());
        let origin = Origin::Source { name: &source.name, creates: Some(&source.dataset) };
        self.publishing.publish(&user, publication, origin, records).await
    }

    /// Records the end of a run in the source as it is then: it may have been changed meanwhile, or removed.
    pub(super) async fn record(
        &self,
        name: &SourceName,
        started: Timestamp,
        outcome: Outcome,
        seen: Seen,
    ) -> Result<(), Error> {
        for _ in 0..RECORD_ATTEMPTS {
            let Some(source) = self.node.store().source(name).await? else { return Err(missing(name)) };
            let next = source.after_run(started, self.node.now(), outcome.clone(), seen.clone());
            let facts = Facts {
                dataset: Some(source.dataset.clone()),
                enterprise: source.owner.enterprise.clone(),
                detail: details(logged(name, started, &outcome)),
                ..Facts::default()
            };
            let person = FieldOpening::new("person", source.owner.person.clone(), self.node.random());
            let entry = self.node.draft(Kind::SourceRan, facts).with_field(person);
            match self.node.store().commit(Change::new(entry).write(Write::PutSource(Box::new(next)))).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(Conflict::Source)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable(format!("{name} keeps changing; its run could not be recorded")))
    }
}

/// The run in the log. A reason may name what only the park should know.
fn logged(name: &SourceName, started: Timestamp, outcome: &Outcome) -> serde_json::Value {
    let mut detail = json!({"source": name, "started": started, "outcome": outcome.name()});
    match outcome {
        Outcome::Published { version, .. } | Outcome::Unchanged { version } => detail["version"] = json!(version),
        Outcome::Failed { code, .. } => detail["code"] = json!(code),
        Outcome::Nothing => {}
    }
    detail
}

fn outcome_of(published: &Published) -> Outcome {
    let (version, records) = (published.version, published.records);
    if published.unchanged { Outcome::Unchanged { version } } else { Outcome::Published { version, records } }
}

/// A failure as it is kept: without values of the records, which a node keeps only sealed.
fn failed(error: &Error) -> Outcome {
    let reason = match error {
        Error::InvalidRecords(rejection) => {
            let first = rejection.first.first();
            let first = first.map(|first| format!(", the first in line {} ({})", first.line, first.violation.rule));
            let (invalid, records) = (rejection.invalid, rejection.records);
            format!("{invalid} of {records} records are invalid{}", first.unwrap_or_default())
        }
        other => other.to_string(),
    };
    Outcome::Failed { code: error.code().to_owned(), reason }
}
