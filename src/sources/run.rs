//! One run of a source: its input is opened, published, and what became of it is recorded.

use super::Sources;
use super::input::{self, Found, Look, Opened};
use super::report::Ran;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::id::SourceName;
use crate::core::limits;
use crate::core::time::{Timestamp, backoff};
use crate::ingest::Format;
use crate::node::{Error, User, UserRole, details};
use crate::publishing::{Origin, Published, Records};
use crate::source::{After, Input, Outcome, Run, Seen, Source};
use crate::storage::{Change, Conflict, Maintenance, StoreError, VersionRow, Write};
use serde_json::json;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Pause before a run that could not even begin is tried again.
const BEGIN_PAUSE: Duration = Duration::from_secs(5);

/// Characters that are kept of a reason; the whole is for who runs the source.
const REASON_CHARS_MAX: usize = 300;

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
    after: After,
    result: Result<Option<Published>, Error>,
}

impl Ended {
    fn failed(error: Error, seen: Seen) -> Self {
        let reason = in_words(&error, None);
        let outcome = Outcome::Failed { code: error.code().to_owned(), reason };
        Self { outcome, after: After { seen, ..After::default() }, result: Err(error) }
    }

    fn good(outcome: Outcome, seen: Seen) -> Self {
        Self { outcome, after: After { seen, ..After::default() }, result: Ok(None) }
    }
}

impl Sources {
    /// Runs a source now, because a user asks for it.
    pub async fn run_now(self: &Arc<Self>, user: &User, name: &SourceName) -> Result<Ran, Error> {
        if let Input::Pushed {} = self.source(name).await?.definition.input {
            let reason = format!("records are sent to {name}: crosspark source run {name} --file FILE");
            return Err(Error::invalid("source", reason));
        }
        self.run_apart(user, name, Reads::Input(Look { again: true, before: None })).await
    }

    /// Publishes records that a user's program sends.
    pub async fn push(self: &Arc<Self>, user: &User, name: &SourceName, records: impl Records) -> Result<Ran, Error> {
        let input = self.source(name).await?.definition.input;
        if !matches!(input, Input::Pushed {}) {
            let reason = format!("{name} reads its {} itself; run it without records", input.kind());
            return Err(Error::invalid("source", reason));
        }
        self.run_apart(user, name, Reads::Sent(Box::new(records))).await
    }

    /// In a task of its own: the run ends and is recorded even if nobody waits for it any more.
    async fn run_apart(self: &Arc<Self>, user: &User, name: &SourceName, reads: Reads) -> Result<Ran, Error> {
        let (sources, user, name) = (self.clone(), user.clone(), name.clone());
        let run = tokio::spawn(async move { sources.run_once(Some(&user), &name, reads).await });
        run.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    fn alone(self: &Arc<Self>, name: &SourceName) -> Result<Alone, Error> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.insert(name.clone()) {
            return Ok(Alone { sources: self.clone(), name: name.clone() });
        }
        Err(Error::invalid("conflict", format!("a run of {name} is under way")))
    }

    /// Runs a source, for a user or because it is due, and records what became of it.
    pub(super) async fn run_once(
        self: &Arc<Self>,
        user: Option<&User>,
        name: &SourceName,
        reads: Reads,
    ) -> Result<Ran, Error> {
        let _alone = self.alone(name)?;
        let input = self.source(name).await?.definition.input;
        let _turn = match input.connection() {
            Some(connection) => Some(self.turns.take(connection).await?),
            None => None,
        };
        let (source, started) = match self.begin(user, name).await {
            Err(error) if user.is_none() => {
                tokio::time::sleep(BEGIN_PAUSE).await;
                return Err(error);
            }
            begun => begun?,
        };
        let ended = self.carry_out(user, &source, reads).await;
        if let Outcome::Failed { reason, .. } = &ended.outcome {
            tracing::warn!(source = %name, reason, "the run of a source failed");
        }
        let run = Run { started, ended: self.node.now(), outcome: ended.outcome };
        self.record(user, &source, &run, &ended.after).await?;
        ended.result.map(|published| Ran { source: name.clone(), outcome: run.outcome, published })
    }

    /// The source as it is when its run begins.
    async fn begin(&self, user: Option<&User>, name: &SourceName) -> Result<(Source, Timestamp), Error> {
        let source = self.source(name).await?;
        if user.is_none() && source.progress.paused {
            return Err(Error::invalid("conflict", format!("{name} is paused")));
        }
        self.node.ensure_writable()?;
        let started = self.node.now();
        self.node.store().maintain(vec![Maintenance::SourceRunning { name: name.clone(), at: started }]).await?;
        Ok((source, started))
    }

    async fn carry_out(&self, user: Option<&User>, source: &Source, reads: Reads) -> Ended {
        let known = source.progress.seen.clone();
        let newest = match self.newest(user, source).await {
            Ok(newest) => newest,
            Err(error) => return Ended::failed(error, known),
        };
        let opened = match reads {
            Reads::Sent(records) => Ok(Found::Records(Opened::new(records, Seen::default()))),
            Reads::Input(look) => {
                let version = newest.as_ref().map(|newest| newest.version);
                input::open(source, (&self.connections(), &self.looks), look, version).await
            }
        };
        let Opened { records, seen, file, more, told, kept } = match opened {
            Ok(Found::Records(opened)) => opened,
            Err(error) => return Ended::failed(error, known),
            Ok(Found::Nothing(seen)) => return Ended::good(Outcome::Nothing, seen),
            Ok(Found::Unchanged(version)) => return Ended::good(Outcome::Unchanged { version }, known),
        };
        let mut after = After { seen, more, passed: false };
        match self.publish(user, source, newest, records).await {
            Ok(published) => {
                let seen = &mut after.seen;
                seen.version = seen.etag.as_ref().or(seen.modified.as_ref()).map(|_| published.version);
                Ended { outcome: outcome_of(&published), after, result: Ok(Some(published)) }
            }
            Err(error) => {
                let refused = matches!(&error, Error::InvalidRecords(_)) || error.code() == "source";
                let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut reason = in_words(&error, told);
                // A file that is refused does not keep later ones waiting; one that could not be read is tried again.
                match file {
                    Some(file) => {
                        reason = format!("{}: {reason}", file.name);
                        after.passed = refused && kept.is_whole();
                        let told = after.seen.refused.len() < limits::REFUSED_FILES_TOLD_MAX;
                        let kept = if told { reason.clone() } else { file.name.clone() };
                        after.seen.refused.insert(file.fingerprint(), kept);
                    }
                    None => after.seen = known.clone(),
                }
                if !after.passed {
                    after = After { seen: known, ..After::default() };
                }
                Ended { outcome: Outcome::Failed { code: error.code().to_owned(), reason }, after, result: Err(error) }
            }
        }
    }

    /// The newest version of the source's dataset, if it has one. Fails if nothing may be published from the source any
    /// more.
    async fn newest(&self, user: Option<&User>, source: &Source) -> Result<Option<VersionRow>, Error> {
        let tokens = self.node.store().tokens().await?;
        if user.is_none() && tokens.iter().any(|token| token.id == source.owner.token && token.revoked) {
            let name = &source.name;
            let reason = format!(
                "the token on whose behalf it runs is revoked; to go on with yours: crosspark source resume {name}"
            );
            return Err(Error::forbidden("token", reason));
        }
        let newest = self.node.store().dataset(&source.dataset).await?;
        if newest.is_none() && source.has_begun() {
            let reason = format!("{} was withdrawn: remove the source, or define it again", source.dataset);
            return Err(Error::invalid("dataset", reason));
        }
        Ok(newest)
    }

    async fn publish(
        &self,
        user: Option<&User>,
        source: &Source,
        newest: Option<VersionRow>,
        records: Box<dyn Records>,
    ) -> Result<Published, Error> {
        let owner = source.owner.clone();
        let owner =
            User { token: owner.token, role: UserRole::Publisher, person: owner.person, enterprise: owner.enterprise };
        let mut publication = source.definition.publication.clone();
        if let Input::Http { pages: Some(_), .. } = source.definition.input {
            // The records of all pages, one a line.
            (publication.format, publication.reading.at) = (Format::Ndjson, String::new());
        }
        // A run may have ended with the publication, before that was recorded.
        publication.dataset = newest.map(|_| source.dataset.clone());
        let origin = Origin::Source { name: &source.name, creates: Some(&source.dataset) };
        self.publishing.publish(user.unwrap_or(&owner), publication, origin, records).await
    }

    /// Records the end of a run in the source as it is then: it may have been defined again meanwhile, or removed. It is
    /// tried until it succeeds, or another source has the name.
    pub(super) async fn record(
        &self,
        user: Option<&User>,
        began: &Source,
        run: &Run,
        after: &After,
    ) -> Result<(), Error> {
        for attempt in 0.. {
            match self.try_record(user, began, run, after).await {
                Err(StoreError::Conflict(Conflict::Source)) => {}
                Err(StoreError::Closed) => break,
                Err(error) => {
                    tracing::warn!(source = %began.name, %error, "the end of a run could not be recorded; trying again");
                    tokio::time::sleep(backoff(attempt)).await;
                }
                Ok(()) => return Ok(()),
            }
        }
        Err(Error::Unavailable("the node is stopping".into()))
    }

    async fn try_record(
        &self,
        user: Option<&User>,
        began: &Source,
        run: &Run,
        after: &After,
    ) -> Result<(), StoreError> {
        let source = self.node.store().source(&began.name).await?;
        let Some(source) = source.filter(|source| source.dataset == began.dataset) else { return Ok(()) };
        let seen = source.seen_since(&began.definition, after.seen.clone());
        let next = source.after_run(run.clone(), After { seen, ..after.clone() });
        let (person, token) = match user {
            Some(user) => (&user.person, &user.token),
            None => (&source.owner.person, &source.owner.token),
        };
        let mut detail = details(logged(&source.name, run));
        detail.insert("token".into(), json!(token));
        let facts = Facts {
            dataset: Some(source.dataset.clone()),
            enterprise: source.owner.enterprise.clone(),
            detail,
            ..Facts::default()
        };
        let person = FieldOpening::new("person", person.clone(), self.node.random());
        let entry = self.node.draft(Kind::SourceRan, facts).with_field(person);
        let change = Change::new(entry).write(Write::PutSource(Box::new(next)));
        self.node.store().commit(change).await.map(drop)
    }
}

/// The run in the log. A reason may name what only the park should know.
fn logged(name: &SourceName, run: &Run) -> serde_json::Value {
    let mut detail = json!({"source": name, "started": run.started, "outcome": run.outcome.name()});
    match &run.outcome {
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

/// A failure as it is kept: without values of the records, which a node keeps only sealed. `told`: what may be kept of an
/// error that may quote some.
fn in_words(error: &Error, told: Option<String>) -> String {
    let reason = match error {
        Error::InvalidRecords(rejection) => {
            let first = rejection.first.first();
            let first = first.map(|first| format!(", the first in line {} ({})", first.line, first.violation.rule));
            let (invalid, records) = (rejection.invalid, rejection.records);
            format!("{invalid} of {records} records are invalid{}", first.unwrap_or_default())
        }
        other => told.unwrap_or_else(|| other.to_string()),
    };
    // Some list what would be right.
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason,
    }
}
