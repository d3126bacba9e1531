//! Verification of a whole log, entry by entry, against the log's key and the given checkpoints.

use super::checkpoint::Checkpoint;
use super::entry::{self, Entry, FieldOpening, Kind, Salt};
use super::merkle::{Hash, leaf_hash};
use super::releases::{Finding, Releases};
use super::tile::{Edge, Tile};
use crate::core::digest::Digest;
use crate::core::id::LogOrigin;
use crate::core::json;
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// A row of the log as stored in a database, not yet verified.
#[derive(Debug, Clone)]
pub struct Row {
    /// Leaf index.
    pub index: u64,
    /// Stored identifier of the entry.
    pub id: String,
    /// Stored data of the leaf.
    pub leaf: Vec<u8>,
    /// Salt.
    pub salt: Vec<u8>,
    /// The canonical entry.
    pub body: Vec<u8>,
    /// Openings of personal values that were not erased.
    pub fields: Vec<FieldOpening>,
}

/// The last entries, if no checkpoint covers them and nothing else is wrong.
pub const UNCOVERED: &str = "uncovered";

/// A problem found in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The first entry affected; 0 if a checkpoint itself is wrong.
    pub index: u64,
    /// Identifier of that entry, if it can be read.
    pub entry: Option<String>,
    /// Kind of artifact: `entry`, `tile`, `checkpoint`, or [`UNCOVERED`].
    pub artifact: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// A checkpoint with a verified signature, and its source for the report.
#[derive(Debug, Clone)]
pub struct Held {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Source, such as "the node's own" or a file name.
    pub source: String,
}

/// Notes of one kind; those beyond the limit are counted.
#[derive(Default)]
struct Limited {
    notes: Vec<String>,
    more: u64,
}

impl Limited {
    fn add(&mut self, note: String) {
        if self.notes.len() < limits::FAULTS_REPORTED_MAX { self.notes.push(note) } else { self.more += 1 }
    }

    fn all(self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("and {} more like the last one", self.more));
        self.notes.into_iter().chain(more)
    }
}

/// What is no fault. The kinds are apart, so that many of one do not hide the other.
#[derive(Default)]
struct Notes {
    corrections: Limited,
    unchecked: Limited,
}

/// Verifies a log from its first entry.
pub struct Check {
    origin: LogOrigin,
    edge: Edge,
    full: Vec<Tile>,
    time: Timestamp,
    held: Vec<Held>,
    next_held: usize,
    last_good: u64,
    /// Time of the first entry that no checkpoint covers.
    uncovered_since: Timestamp,
    faults: Vec<Fault>,
    notes: Notes,
    releases: Releases,
    /// How far the indices differ from the positions: each difference is reported once.
    shift: i64,
}

impl Check {
    /// Starts the verification; `held` are the checkpoints that the log must match.
    pub fn new(origin: LogOrigin, mut held: Vec<Held>) -> Self {
        held.sort_by_key(|held| held.checkpoint.size);
        let (edge, full, faults) = (Edge::default(), Vec::new(), Vec::new());
        let time = Timestamp::from_ms(i64::MIN);
        let mut check = Self {
            origin,
            edge,
            full,
            time,
            held,
            next_held: 0,
            last_good: 0,
            uncovered_since: time,
            faults,
            notes: Notes::default(),
            releases: Releases::default(),
            shift: 0,
        };
        check.compare_held();
        check
    }

    fn fault(&mut self, index: u64, entry: Option<&str>, artifact: &'static str, reason: impl Into<String>) {
        if self.faults.len() < limits::FAULTS_REPORTED_MAX {
            self.faults.push(Fault { index, entry: entry.map(str::to_owned), artifact, reason: reason.into() });
        }
    }

    /// Reports a checkpoint that is not one of this log.
    pub fn wrong_checkpoint(&mut self, reason: String) {
        self.fault(0, None, "checkpoint", reason);
    }

    /// Checks the next row. Returns the tiles that became full, which the caller compares with the stored ones.
    pub fn row(&mut self, row: &Row) -> Vec<Tile> {
        let index = self.edge.size();
        let id = Some(row.id.as_str());
        let shift = row.index as i64 - index as i64;
        if shift != std::mem::replace(&mut self.shift, shift) {
            self.fault(
                index,
                id,
                "entry",
                format!("the log has entry {} at the position of {index}: entries before it are missing", row.index),
            );
        }
        self.check_entry(index, row);
        // The tree is built from the stored leaf; that the leaf commits to the entry was checked above.
        self.edge.append(leaf_hash(&row.leaf), &mut self.full);
        self.compare_held();
        std::mem::take(&mut self.full)
    }

    fn check_entry(&mut self, index: u64, row: &Row) {
        let id = Some(row.id.as_str());
        let Ok(salt) = Salt::try_from(row.salt.as_slice()) else {
            return self.fault(index, id, "entry", "its salt is not 32 bytes");
        };
        if entry::commitment(&salt, &row.body).as_bytes().as_slice() != row.leaf {
            return self.fault(index, id, "entry", "its leaf does not commit to its text and salt: it was altered");
        }
        let entry: Entry = match json::read(&row.body) {
            Ok(entry) => entry,
            Err(error) => return self.fault(index, id, "entry", format!("it cannot be read: {error}")),
        };
        if json::to_canonical(&entry) != row.body {
            self.fault(index, id, "entry", "it is not canonical, or contains members that this version does not know");
        }
        if entry.version != 1 {
            self.fault(index, id, "entry", format!("its format version is {}, not 1", entry.version));
        }
        if entry.origin != self.origin {
            self.fault(index, id, "entry", format!("it belongs to the log {}", entry.origin));
        }
        if entry.id.as_str() != row.id {
            self.fault(index, id, "entry", format!("it is stored under this id, but its text has the id {}", entry.id));
        }
        if entry.kind == Kind::ClockCorrected {
            self.note_correction(index, &entry);
        } else if entry.time < self.time {
            self.fault(index, id, "entry", "it is older than the entry before it");
        }
        match self.releases.examine(&entry) {
            Some(Finding::Contradiction(reason)) => self.fault(index, id, "entry", reason),
            Some(Finding::Unchecked(reason)) => self.notes.unchecked.add(format!("entry {index}: {reason}")),
            None => {}
        }
        self.time = self.time.max(entry.time);
        if index == self.last_good {
            self.uncovered_since = entry.time;
        }
        for field in &row.fields {
            if entry.facts.fields.get(&field.name) != Some(&field.commitment()) {
                self.fault(index, id, "entry", format!("the value of its field `{}` was altered", field.name));
            }
        }
    }

    /// A clock that was ahead was set back. That is no fault, but everything after it happened at an earlier time than
    /// the log had reached.
    fn note_correction(&mut self, index: u64, entry: &Entry) {
        let before = self.time;
        self.notes.corrections.add(format!(
            "entry {index}: the park set its clock back from {before} to {}, as these peers confirmed: {}",
            entry.time,
            entry.facts.detail.get("peers").map(Value::to_string).unwrap_or_default()
        ));
        self.time = entry.time;
    }

    /// Compares a stored tile with the one computed from the entries.
    pub fn tile(&mut self, expected: &Tile, stored: Option<&[Hash]>) {
        let stored = stored.unwrap_or_default();
        let differs = expected.hashes.iter().zip(stored).position(|(a, b)| a != b);
        let missing = (stored.len() < expected.hashes.len()).then_some(stored.len());
        if let Some(at) = differs.or(missing) {
            let span = 256u64.pow(u32::from(expected.level));
            let index = (expected.index * 256 + at as u64) * span;
            let reason = format!("tile {}/{} does not contain the hash of this entry", expected.level, expected.index);
            self.fault(index, None, "tile", reason);
        }
    }

    fn compare_held(&mut self) {
        while let Some(held) = self.held.get(self.next_held) {
            if held.checkpoint.size > self.edge.size() {
                return;
            }
            let (size, from) = (held.checkpoint.size, self.last_good);
            if held.checkpoint.root == self.edge.root() {
                self.last_good = size;
            } else {
                let reason = format!(
                    "{} at size {size} has another root: at least one of the entries {from} to {} was changed, removed or added",
                    held.source,
                    size.saturating_sub(1)
                );
                self.fault(from, None, "checkpoint", reason);
            }
            self.next_held += 1;
        }
    }

    /// Compares the stored size of the log with the number of entries read.
    pub fn head(&mut self, claimed: u64) {
        let size = self.edge.size();
        if claimed != size {
            self.fault(size, None, "entry", format!("the log claims to have {claimed} entries, but has {size}"));
        }
    }

    /// The partial tiles computed from the entries.
    pub fn partial(&self) -> Vec<Tile> {
        self.edge.partial().collect()
    }

    /// Ends the verification: checkpoints beyond the last entry mean that entries are withheld.
    pub fn finish(mut self) -> Report {
        let size = self.edge.size();
        while let Some(held) = self.held.get(self.next_held).cloned() {
            let reason = format!(
                "{} covers {} entries, but there are {size}: this copy is older, or entries were removed from it; take a \
                 newer copy",
                held.source, held.checkpoint.size,
            );
            self.fault(size, None, "checkpoint", reason);
            self.next_held += 1;
        }
        if self.faults.is_empty() && self.last_good < size {
            // A node signs a checkpoint soon after an entry. A longer end without one is not that of a running node:
            // somebody may have altered entries and removed the checkpoints that would show it.
            let short = self.time.ms().saturating_sub(self.uncovered_since.ms()) <= limits::UNCOVERED_MS_MAX;
            let artifact = if short && self.last_good > 0 { UNCOVERED } else { "checkpoint" };
            let reason = format!(
                "no signed checkpoint covers the entries {} to {}: they are no evidence",
                self.last_good,
                size - 1
            );
            self.fault(self.last_good, None, artifact, reason);
        }
        // Faults of entries come first, as they name the cause; a checkpoint only gives a range.
        let rank =
            |artifact: &str| ["entry", "tile", "checkpoint", UNCOVERED].iter().position(|known| *known == artifact);
        self.faults.sort_by_key(|fault| (rank(fault.artifact), fault.index));
        Report {
            origin: self.origin,
            entries: size,
            covered: self.last_good,
            root: Digest::from_bytes(self.edge.root()),
            checkpoints: self.held.len(),
            faults: self.faults,
            notes: self.notes.corrections.all().chain(self.notes.unchecked.all()).collect(),
        }
    }
}

/// Result of a verification.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Log.
    pub origin: LogOrigin,
    /// Number of entries read.
    pub entries: u64,
    /// Number of these entries covered by a signed checkpoint that matches.
    pub covered: u64,
    /// Root over all entries.
    pub root: Digest,
    /// Number of checkpoints compared.
    pub checkpoints: usize,
    /// What is no fault, but must be known: corrections of the clock, and releases that could not be checked.
    pub notes: Vec<String>,
    /// Faults: of entries first, then of tiles, then of checkpoints; empty if there are none.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether no fault was found.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether everything is in order except that the last entries are not covered yet.
    pub fn is_good_so_far(&self) -> bool {
        self.faults.iter().all(|fault| fault.artifact == UNCOVERED)
    }
}
