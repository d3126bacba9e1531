//! The writer thread: commits many changes in one transaction, each in a savepoint. The log is sequenced in the same
//! transaction, so that state and log cannot diverge.

use super::{apply, log::Sequencer};
use crate::audit::checkpoint::CheckpointSigner;
use crate::core::id::LogOrigin;
use crate::core::limits;
use crate::core::time::{Clock, NodeClock, Timestamp};
use crate::storage::{Change, Logged, Maintenance, StoreError};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A job for the writer.
pub enum Job {
    /// A change.
    Commit(Box<Change>, Reply<Vec<Logged>>),
    /// Maintenance tasks.
    Maintain(Vec<Maintenance>, Reply<()>),
}

pub struct Writer {
    connection: Connection,
    sequencer: Sequencer,
    signer: Arc<dyn CheckpointSigner>,
    clock: Arc<NodeClock>,
    commits: watch::Sender<u64>,
    outbox: Arc<Notify>,
    signed: Signed,
    /// The latest time of the node that is stored: a quiet log alone would not know it after a restart.
    stored: Timestamp,
    /// Whether the last transaction failed.
    failed: bool,
    /// Whether no more changes are accepted.
    closed: bool,
}

/// The last checkpoint.
#[derive(Clone, Copy)]
struct Signed {
    size: u64,
    time: Timestamp,
}

/// A reply to send once the transaction is durable.
enum Outcome {
    Commit(Reply<Vec<Logged>>, Result<Vec<Logged>, StoreError>),
    Maintain(Reply<()>, Result<(), StoreError>),
}

impl Writer {
    /// Loads the edge of the log and compares it with the last checkpoint.
    pub fn open(
        connection: Connection,
        origin: LogOrigin,
        signer: Arc<dyn CheckpointSigner>,
        clock: Arc<NodeClock>,
        commits: watch::Sender<u64>,
        outbox: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let sequencer = Sequencer::load(&connection, origin)?;
        let signed = connection
            .query_row("SELECT size, time FROM checkpoint ORDER BY size DESC LIMIT 1", [], |row| {
                Ok(Signed { size: row.get::<_, i64>(0)? as u64, time: Timestamp::from_ms(row.get(1)?) })
            })
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(Signed { size: 0, time: Timestamp::from_ms(i64::MIN) }),
                error => Err(error),
            })?;
        if signed.size > sequencer.size() {
            let reason = format!("the log has {} entries, but {} were signed", sequencer.size(), signed.size);
            return Err(StoreError::Corrupt(reason));
        }
        sequencer.check_signed(&connection)?;
        let stored = connection.query_row("SELECT COALESCE(MAX(ms), ?1) FROM clock", [i64::MIN], |row| row.get(0))?;
        let stored = Timestamp::from_ms(stored);
        clock.observe(sequencer.time().max(stored));
        Ok(Self { connection, sequencer, signer, clock, commits, outbox, signed, stored, failed: false, closed: false })
    }

    /// Runs until all senders are dropped, then signs the remaining entries.
    pub fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let first = match self.wait(queue) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.batch(Vec::new(), false);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.batch(Vec::new(), true);
                    return;
                }
            };
            let mut jobs = vec![first];
            jobs.extend(queue.try_iter().take(limits::COMMIT_BATCH_MAX - 1));
            self.batch(jobs, false);
        }
    }

    /// Milliseconds until the next checkpoint is due. By the system's clock: one that was ahead must not stop checkpoints.
    fn checkpoint_due_ms(&self) -> i64 {
        let (now, last) = (self.clock.system_now(), self.signed.time);
        if now < last { 0 } else { last.plus_ms(limits::CHECKPOINT_INTERVAL_MS).ms().saturating_sub(now.ms()).max(0) }
    }

    /// Waits for a job, at most until a checkpoint for the unsigned entries of an idle log is due.
    fn wait(&self, queue: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        if self.signed.size == self.sequencer.size() {
            return queue.recv_timeout(limits::CLOCK_STORED_INTERVAL);
        }
        // A minimum wait prevents a busy loop if the clock stands still or the disk is full.
        let least = if self.failed || !self.signer.is_ready() { 1_000 } else { 5 };
        let wait = self.checkpoint_due_ms().clamp(least, limits::CHECKPOINT_INTERVAL_MS);
        queue.recv_timeout(Duration::from_millis(wait as u64))
    }

    fn batch(&mut self, jobs: Vec<Job>, last: bool) {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let before = (self.sequencer.clone(), self.signed, self.stored, self.closed);
        let result = self.transact(jobs, last, &mut outcomes);
        let mut sent = false;
        let failed = result.as_ref().err().cloned();
        self.failed = failed.is_some();
        if failed.is_some() {
            (self.sequencer, self.signed, self.stored, self.closed) = before;
        }
        for outcome in outcomes {
            match (outcome, &failed) {
                (Outcome::Commit(reply, Ok(_)), Some(error)) => drop(reply.send(Err(error.clone()))),
                (Outcome::Maintain(reply, Ok(())), Some(error)) => drop(reply.send(Err(error.clone()))),
                (Outcome::Commit(reply, result), _) => drop(reply.send(result)),
                (Outcome::Maintain(reply, result), _) => drop(reply.send(result)),
            }
        }
        match result {
            Ok(outbox_filled) => sent |= outbox_filled,
            Err(error) => tracing::error!(%error, "the database failed to commit a batch of changes"),
        }
        self.commits.send_modify(|count| *count += 1);
        if sent {
            self.outbox.notify_one();
        }
    }

    /// Runs one transaction. Returns whether the outbox may have new due messages.
    fn transact(&mut self, jobs: Vec<Job>, last: bool, outcomes: &mut Vec<Outcome>) -> Result<bool, StoreError> {
        let due_ms = self.checkpoint_due_ms();
        let (now, behind) = (self.clock.now(), self.clock.behind());
        let mut force_checkpoint = last;
        let mut outbox_filled = false;
        let mut corrected = false;
        let mut jobs = jobs.into_iter();
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                let error = StoreError::from(error);
                outcomes.extend(jobs.map(|job| refused(job, &error)));
                return Err(error);
            }
        };
        while let Some(job) = jobs.next() {
            // Some failures (disk full, I/O) make SQLite roll back the whole transaction. Statements executed after
            // that would be outside of the transaction and would persist.
            if transaction.is_autocommit() {
                let error = StoreError::Unavailable("the database rolled back the transaction".into());
                outcomes.push(refused(job, &error));
                outcomes.extend(jobs.map(|job| refused(job, &error)));
                return Err(error);
            }
            match job {
                Job::Commit(change, reply) if behind.is_some() && !change.corrects_clock() => {
                    let reason = behind.clone().unwrap_or_default();
                    outcomes.push(Outcome::Commit(reply, Err(StoreError::ReadOnly(reason))));
                }
                Job::Commit(_, reply) if self.closed => {
                    outcomes.push(Outcome::Commit(reply, Err(StoreError::Closed)));
                }
                Job::Commit(change, reply) => {
                    let now = if change.corrects_clock() { self.clock.system_now() } else { now };
                    let before = self.sequencer.clone();
                    let result = apply_change(&mut transaction, &mut self.sequencer, &change, now);
                    match &result {
                        Ok(_) => {
                            outbox_filled |= !change.outbox.is_empty();
                            corrected |= change.corrects_clock();
                        }
                        // Dropping the savepoint has rolled it back.
                        Err(_) => self.sequencer = before,
                    }
                    outcomes.push(Outcome::Commit(reply, result));
                }
                Job::Maintain(tasks, reply) => {
                    force_checkpoint |= tasks.contains(&Maintenance::Checkpoint);
                    self.closed |= tasks.contains(&Maintenance::Close);
                    // The next message of the same process may now be due.
                    outbox_filled |=
                        tasks.iter().any(|task| matches!(task, Maintenance::Sent(_) | Maintenance::Retry { .. }));
                    outcomes.push(Outcome::Maintain(reply, apply::tasks(&transaction, &tasks)));
                }
            }
        }
        if transaction.is_autocommit() {
            return Err(StoreError::Unavailable("the database rolled back the transaction".into()));
        }
        let signed = self.sequencer.finish(&transaction).and_then(|()| {
            let due = due_ms == 0;
            if self.sequencer.size() == self.signed.size || !(due || force_checkpoint) || !self.signer.is_ready() {
                return Ok(self.signed);
            }
            let checkpoint = self.sequencer.checkpoint();
            let (signing, note) = (self.clock.system_now(), self.signer.sign(&checkpoint));
            transaction.execute(
                "INSERT INTO checkpoint (size, time, note) VALUES (?1, ?2, ?3)",
                params![checkpoint.size as i64, signing.ms(), note],
            )?;
            Ok(Signed { size: checkpoint.size, time: signing })
        })?;
        let seen = if corrected { self.clock.system_now() } else { now };
        let due = seen.ms() - self.stored.ms() >= limits::CLOCK_STORED_INTERVAL.as_millis() as i64;
        if corrected || (behind.is_none() && (due || last)) {
            transaction.execute("INSERT OR REPLACE INTO clock (one, ms) VALUES (1, ?1)", [seen.ms()])?;
            self.stored = seen;
        }
        transaction.commit()?;
        if corrected {
            self.clock.follow_system();
        }
        self.clock.observe(self.sequencer.time());
        self.signed = signed;
        Ok(outbox_filled)
    }
}

/// Applies one change in a savepoint, which is rolled back if dropped without commit.
fn apply_change(
    transaction: &mut Transaction<'_>,
    sequencer: &mut Sequencer,
    change: &Change,
    now: Timestamp,
) -> Result<Vec<Logged>, StoreError> {
    let savepoint = transaction.savepoint()?;
    apply::guards(&savepoint, &change.guards, now)?;
    apply::writes(&savepoint, &change.writes)?;
    apply::outbox(&savepoint, &change.outbox, now)?;
    let logged = sequencer.append(&savepoint, change.entries(), now)?;
    savepoint.commit()?;
    Ok(logged)
}

fn refused(job: Job, error: &StoreError) -> Outcome {
    match job {
        Job::Commit(_, reply) => Outcome::Commit(reply, Err(error.clone())),
        Job::Maintain(_, reply) => Outcome::Maintain(reply, Err(error.clone())),
    }
}
