//! Sources: where the records of a dataset come from again and again, when, and what became of the runs. A source is data;
//! `sources` carries its runs out.

mod definition;
mod progress;
mod publication;
mod schedule;
#[cfg(test)]
mod tests;

pub use definition::{Definition, Input, Pages, Pattern};
pub use progress::{After, Outcome, Progress, Run, Seen};
pub use publication::Publication;
pub use schedule::Schedule;

use crate::core::id::{DatasetId, SourceName, Text, TokenId};
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source of a dataset, as the database keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: SourceName,
    /// Number of changes; guards every update.
    pub revision: u64,
    /// What it is.
    pub definition: Definition,
    /// Dataset of which each run publishes a version.
    pub dataset: DatasetId,
    /// On whose behalf it runs: who defined or resumed it last.
    pub owner: Owner,
    /// Time of the definition.
    pub since: Timestamp,
    /// What became of its runs.
    pub progress: Progress,
}

/// On whose behalf a source publishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Owner {
    /// Token with which it was defined or resumed.
    pub token: TokenId,
    /// Person who held it.
    pub person: Text,
    /// Enterprise on whose behalf the person acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<Text>,
}

impl Source {
    /// A new source, whose first run is due at the first time of its schedule.
    pub fn new(name: SourceName, definition: Definition, dataset: DatasetId, owner: Owner, now: Timestamp) -> Self {
        let next = definition.schedule.as_ref().and_then(|schedule| schedule.next(now));
        let progress = Progress { next, ..Progress::default() };
        Self { name, revision: 1, definition, dataset, owner, since: now, progress }
    }

    /// The same source with another definition. Files of a folder that were published are not published again.
    pub fn redefined(&self, definition: Definition, owner: Owner, now: Timestamp) -> Self {
        let mut next = self.clone();
        if next.definition != definition {
            let Seen { mut files, refused, .. } = std::mem::take(&mut next.progress.seen);
            // A file that was refused may be read otherwise now.
            files.retain(|file| !refused.contains_key(file));
            next.progress.seen = Seen { files, ..Seen::default() };
            next.progress.failures = 0;
        }
        next.progress.next = definition.schedule.as_ref().and_then(|schedule| schedule.next(now));
        (next.definition, next.owner, next.since) = (definition, owner, now);
        next.revision += 1;
        next
    }

    /// What is seen after a run that began with the definition `began`, if it is another one by now: nothing that was read
    /// then is known of the present input, except which files are published.
    pub fn seen_since(&self, began: &Definition, seen: Seen) -> Seen {
        if *began == self.definition {
            return seen;
        }
        let mut files = self.progress.seen.files.clone();
        files.extend(seen.files.into_iter().filter(|file| !seen.refused.contains_key(file)));
        Seen { files, ..Seen::default() }
    }

    /// Whether its dataset has a version already.
    pub fn has_begun(&self) -> bool {
        self.progress.changed.is_some() || self.definition.publication.dataset.is_some()
    }

    /// Whether its next run was planned while the clock was ahead: the schedule has an earlier time.
    pub fn is_misplanned(&self, now: Timestamp) -> bool {
        let sooner = self.definition.schedule.as_ref().and_then(|schedule| schedule.next(now));
        sooner.is_some_and(|sooner| self.progress.next.is_some_and(|next| sooner < next))
    }

    /// Whether a run is due.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.progress.paused && self.progress.next.is_some_and(|next| next <= now)
    }

    /// Whether its folder is watched now: it has no schedule, and no pause after a failed run lasts.
    pub fn is_watched(&self, now: Timestamp) -> bool {
        self.watches() && !self.progress.paused && self.progress.next.is_none_or(|next| next <= now)
    }

    /// Whether it waits for files, without a schedule.
    pub fn watches(&self) -> bool {
        self.definition.schedule.is_none() && matches!(self.definition.input, Input::Folder { .. })
    }

    /// The source after a run. If there is more to read, the next one is due at once.
    pub fn after_run(&self, run: Run, after: After) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        let now = run.ended;
        let scheduled = self.definition.schedule.as_ref().and_then(|schedule| schedule.next(now));
        let scheduled = if after.more { Some(now) } else { scheduled };
        // A person who runs it sees what happens.
        let retried = self.definition.schedule.is_some() || self.watches();
        next.progress.record(run, after, scheduled, retried);
        next
    }

    /// The source, paused.
    pub fn paused(&self) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        next.progress.paused = true;
        next
    }

    /// The source, resumed on behalf of `owner`. It runs at the next time of its schedule.
    pub fn resumed(&self, owner: Owner, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        next.owner = owner;
        (next.progress.paused, next.progress.resumed) = (false, Some(now));
        next.progress.next = self.definition.schedule.as_ref().and_then(|schedule| schedule.next(now));
        next
    }

    /// What needs attention: failed runs, refused files, a run that did not take place, or no new content for too long.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        if self.progress.paused {
            return None;
        }
        let name = &self.name;
        if let Some((run, reason)) = self.progress.failed() {
            let times = match self.progress.failures {
                1 => "failed".to_owned(),
                failures => format!("failed {failures} times in a row, last"),
            };
            return Some(format!("source {name} {times} at {}: {reason}", run.ended));
        }
        let refused = &self.progress.seen.refused;
        if let Some(last) = refused.values().next_back() {
            let files =
                if refused.len() == 1 { "a file".to_owned() } else { format!("{} files, one of them", refused.len()) };
            return Some(format!("source {name} has refused {files}: {last}"));
        }
        if let Some(due) = self.overdue_since(now) {
            return Some(format!("source {name} is overdue: it should have run at {due}"));
        }
        let hours = self.definition.expected_hours?;
        let last = self.progress.changed.unwrap_or(self.since);
        let late = last.plus_ms(i64::from(hours) * 3_600_000) < now;
        late.then(|| format!("source {name} is overdue: nothing new since {last}, expected every {hours} hours"))
    }

    /// The time of the schedule at which a run should have ended well, if it is too long ago.
    pub fn overdue_since(&self, now: Timestamp) -> Option<Timestamp> {
        let schedule = self.definition.schedule.as_ref()?;
        // A clock that was ahead leaves times that are still to come.
        let known = [self.progress.good, self.progress.resumed, Some(self.since)].into_iter().flatten();
        let due = schedule.next(known.max()?.min(now))?;
        let waits = !self.progress.paused && self.progress.running.is_none();
        (waits && due.plus_ms(crate::core::limits::SOURCE_OVERDUE_MS) < now).then_some(due)
    }
}
