//! Every refusal is recorded: those of members and users in a log entry each, or as counts if one member causes many of
//! the same kind; those of other callers as counts. Nobody can fill the log: each member has a quota of entries and bytes.

use super::error::Recorded;
use super::{Counterparty, Error, Node};
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::storage::Change;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reason for a refusal that is counted instead of logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountedRefusal {
    /// Peer listener: no client certificate.
    NoCertificate,
    /// Peer listener: the key of the certificate or bearer token does not belong to a member.
    Unknown,
    /// Peer listener: the register has expired.
    RegisterExpired,
    /// A member exceeded its quota of log entries.
    OverQuota,
    /// Management listener: no token, or an invalid one.
    NoToken,
    /// A connection or request was rejected before a handler saw it.
    Shed,
    /// A register or root document was offered and refused.
    Register,
    /// Unknown path or method, or a request that cannot be parsed.
    NoRoute,
}

impl CountedRefusal {
    /// The name in the log and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Unknown => "unknown-certificate",
            Self::RegisterExpired => "register-expired",
            Self::OverQuota => "over-quota",
            Self::NoToken => "no-token",
            Self::Shed => "shed",
            Self::Register => "register",
            Self::NoRoute => "no-route",
        }
    }
}

/// What each member may cause to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Quotas {
    /// Log entries per minute.
    pub writes_per_minute: u32,
    /// Bytes per day.
    pub bytes_per_day: u64,
}

/// What one member caused in the current minute and day.
#[derive(Default)]
struct Used {
    minute: i64,
    writes: u32,
    /// Refusals of this minute, by kind of entry and rule.
    refused: BTreeMap<(Kind, String), u32>,
    day: i64,
    bytes: u64,
}

impl Used {
    fn at(&mut self, now: Timestamp) -> &mut Self {
        let (minute, day) = (now.ms().div_euclid(60_000), now.ms().div_euclid(DAY_MS));
        if self.minute != minute {
            (self.minute, self.writes) = (minute, 0);
            self.refused.clear();
        }
        if self.day != day {
            (self.day, self.bytes) = (day, 0);
        }
        self
    }
}

const DAY_MS: i64 = 86_400_000;

/// Counts of refusals, by reason, of one member or of all other callers.
type Counts = BTreeMap<Option<ParticipantId>, BTreeMap<String, u64>>;

/// Counts refusals, and enforces each member's quotas.
pub struct Refusals {
    quotas: Quotas,
    used: Mutex<HashMap<ParticipantId, Used>>,
    /// Counted, and not yet in the log.
    pending: Mutex<Counts>,
    /// Since the start, by kind of log entry or by reason.
    totals: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusals {
    /// `quotas` are those of each member.
    pub fn new(quotas: Quotas) -> Self {
        Self { quotas, used: Mutex::default(), pending: Mutex::default(), totals: Mutex::default() }
    }

    /// Refusals since the start, by kind of log entry or by reason.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        lock(&self.totals).clone()
    }

    fn add_to_total(&self, name: String) {
        *lock(&self.totals).entry(name).or_default() += 1;
    }

    /// Counts; true if nothing was pending before.
    fn count(&self, of: Option<&ParticipantId>, reason: String) -> bool {
        let mut pending = lock(&self.pending);
        let first = pending.is_empty();
        *pending.entry(of.cloned()).or_default().entry(reason).or_default() += 1;
        first
    }

    fn used<T>(&self, member: &ParticipantId, now: Timestamp, work: impl FnOnce(&mut Used) -> T) -> T {
        work(lock(&self.used).entry(member.clone()).or_default().at(now))
    }

    /// Charges writes and bytes; false if a quota is exceeded.
    fn charge(&self, member: &ParticipantId, now: Timestamp, writes: u32, bytes: u64) -> bool {
        self.used(member, now, |used| {
            used.writes = used.writes.saturating_add(writes);
            used.bytes = used.bytes.saturating_add(bytes);
            used.writes <= self.quotas.writes_per_minute && used.bytes <= self.quotas.bytes_per_day
        })
    }

    /// Whether a member's refusal gets an entry of its own: the first ones of a kind in each minute do.
    fn is_single(&self, member: &ParticipantId, now: Timestamp, kind: Kind, rule: &str) -> bool {
        self.used(member, now, |used| {
            let count = used.refused.entry((kind, cut(rule))).or_default();
            *count += 1;
            *count <= limits::REFUSALS_SINGLE_PER_MINUTE
        })
    }
}

impl Node {
    /// Counts a refusal. The first one starts a timer that logs the counts.
    pub fn count_refusal(self: &Arc<Self>, reason: CountedRefusal) {
        self.refusals.add_to_total(reason.name().to_owned());
        self.count_refusal_of(None, reason.name().to_owned());
    }

    fn count_refusal_of(self: &Arc<Self>, member: Option<&ParticipantId>, reason: String) {
        if self.refusals.count(member, reason) {
            let node = self.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(limits::REFUSAL_COUNT_INTERVAL).await;
                    if node.flush_counted_refusals().await {
                        break;
                    }
                }
            });
        }
    }

    /// Logs the counted refusals; false if that failed and they stay pending.
    pub async fn flush_counted_refusals(&self) -> bool {
        let counts = std::mem::take(&mut *lock(&self.refusals.pending));
        let entry = |(of, counts): (&Option<ParticipantId>, &BTreeMap<String, u64>)| {
            let detail = counts.iter().map(|(reason, count)| (reason.clone(), Value::from(*count))).collect();
            let parties = of.iter().cloned().collect();
            let facts = Facts { decision: Some(Decision::Refused), parties, detail, ..Facts::default() };
            self.draft(Kind::RefusalsCounted, facts)
        };
        let mut entries = counts.iter().map(entry);
        let Some(first) = entries.next() else { return true };
        let change = entries.fold(Change::new(first), Change::entry);
        if let Err(error) = self.store().commit(change).await {
            tracing::error!(%error, "counted refusals could not be logged; trying again later");
            let mut pending = lock(&self.refusals.pending);
            for (of, counts) in counts {
                let of = pending.entry(of).or_default();
                counts.into_iter().for_each(|(reason, count)| *of.entry(reason).or_default() += count);
            }
            return false;
        }
        true
    }

    /// Charges a log entry to the member's quotas, or refuses.
    pub fn charge_quota(self: &Arc<Self>, member: &ParticipantId) -> Result<(), Error> {
        self.charge(member, 1, limits::ENTRY_BYTES_CHARGED)
    }

    /// Charges the bytes of a message, parts of which are stored, or refuses.
    pub fn charge_bytes(self: &Arc<Self>, member: &ParticipantId, bytes: usize) -> Result<(), Error> {
        self.charge(member, 0, bytes as u64)
    }

    fn charge(self: &Arc<Self>, member: &ParticipantId, writes: u32, bytes: u64) -> Result<(), Error> {
        if self.refusals.charge(member, self.now(), writes, bytes) {
            return Ok(());
        }
        self.refusals.add_to_total(CountedRefusal::OverQuota.name().to_owned());
        self.count_refusal_of(Some(member), CountedRefusal::OverQuota.name().to_owned());
        Err(Error::TooMany)
    }

    /// Logs the refusal of a member's request and returns the error with its entry. Faults of this node are returned
    /// unchanged.
    pub async fn refuse(self: &Arc<Self>, from: &Counterparty, kind: Kind, mut facts: Facts, error: Error) -> Error {
        if matches!(error, Error::TooMany) {
            self.count_refusal(CountedRefusal::OverQuota);
        }
        if !error.is_refusal() {
            return error;
        }
        let rule = facts.rule.as_deref().unwrap_or(error.code()).to_owned();
        if !self.refusals.is_single(&from.participant, self.now(), kind, &rule) {
            self.refusals.add_to_total(kind.name());
            self.count_refusal_of(Some(&from.participant), format!("{}: {}", kind.name(), cut(&rule)));
            return error.with(Recorded::Counted);
        }
        if let Err(over) = self.charge_quota(&from.participant) {
            return over;
        }
        facts.parties = vec![from.participant.clone()];
        self.log_refusal(kind, facts, error).await
    }

    /// Logs the refusal of a user's request.
    pub async fn refuse_user(&self, kind: Kind, facts: Facts, error: Error) -> Error {
        if error.is_refusal() { self.log_refusal(kind, facts, error).await } else { error }
    }

    async fn log_refusal(&self, kind: Kind, mut facts: Facts, error: Error) -> Error {
        facts.decision = Some(Decision::Refused);
        let rule = facts.rule.take().unwrap_or_else(|| error.code().to_owned());
        facts.rule = Some(cut(&rule));
        // The reason may quote records, which must not enter the log.
        let reason = if kind == Kind::PublicationRefused { error.code().to_owned() } else { error.to_string() };
        facts.detail.insert("reason".into(), Value::String(cut(&reason)));
        let reason = cut(&reason);
        for value in facts.detail.values_mut() {
            if let Value::String(text) = value {
                *text = cut(text);
            }
        }
        tracing::info!(peer = ?facts.parties.first(), rule = facts.rule, reason, "refused");
        self.refusals.add_to_total(kind.name());
        match self.store().commit(Change::new(self.draft(kind, facts))).await {
            Ok(mut logged) => logged.pop().map_or(error.clone(), |entry| error.with(Recorded::Entry(entry))),
            // Without a log entry there can be no promise: the caller gets the store's error instead.
            Err(store) => store.into(),
        }
    }
}

/// Log entries are never deleted, so text from outside is truncated.
fn cut(text: &str) -> String {
    text.chars().take(limits::LOGGED_TEXT_CHARS_MAX).collect()
}
