//! Every refusal is recorded: those of members and users in a log entry each, those of other callers as counts, so that
//! callers without credentials cannot fill the log.

use super::{Counterparty, Error, Node};
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
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

/// Log entries that one member caused in the current minute.
struct Quota {
    minute: i64,
    writes: u32,
}

/// Counts refusals, and enforces each member's quota of log entries.
pub struct Refusals {
    writes_per_member_per_minute: u32,
    quotas: Mutex<HashMap<ParticipantId, Quota>>,
    /// Counted, and not yet in the log.
    pending: Mutex<BTreeMap<CountedRefusal, u64>>,
    /// Since the start, by kind of log entry or by reason.
    totals: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusals {
    /// `writes_per_member_per_minute` is the quota of log entries for each member.
    pub fn new(writes_per_member_per_minute: u32) -> Self {
        Self {
            writes_per_member_per_minute,
            quotas: Mutex::default(),
            pending: Mutex::default(),
            totals: Mutex::default(),
        }
    }

    /// Refusals since the start, by kind of log entry or by reason.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        lock(&self.totals).clone()
    }

    fn add_to_total(&self, name: String) {
        *lock(&self.totals).entry(name).or_default() += 1;
    }

    /// Counts; true if nothing was pending before.
    fn count(&self, reason: CountedRefusal) -> bool {
        self.add_to_total(reason.name().to_owned());
        let mut pending = lock(&self.pending);
        let first = pending.is_empty();
        *pending.entry(reason).or_default() += 1;
        first
    }

    fn charge(&self, member: &ParticipantId, minute: i64) -> bool {
        let mut quotas = lock(&self.quotas);
        let quota = quotas.entry(member.clone()).or_insert(Quota { minute, writes: 0 });
        if quota.minute != minute {
            *quota = Quota { minute, writes: 0 };
        }
        quota.writes = quota.writes.saturating_add(1);
        quota.writes <= self.writes_per_member_per_minute
    }
}

impl Node {
    /// Counts a refusal. The first one starts a timer that logs the counts.
    pub fn count_refusal(self: &Arc<Self>, reason: CountedRefusal) {
        if self.refusals.count(reason) {
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
        if counts.is_empty() {
            return true;
        }
        let detail = counts.iter().map(|(reason, count)| (reason.name().to_owned(), Value::from(*count))).collect();
        let facts = Facts { decision: Some(Decision::Refused), detail, ..Facts::default() };
        if let Err(error) = self.store().commit(Change::new(self.draft(Kind::RefusalsCounted, facts))).await {
            tracing::error!(%error, "counted refusals could not be logged; trying again later");
            let mut pending = lock(&self.refusals.pending);
            counts.into_iter().for_each(|(reason, count)| *pending.entry(reason).or_default() += count);
            return false;
        }
        true
    }

    /// Charges a log entry to the member's quota, or refuses.
    pub fn charge_quota(self: &Arc<Self>, member: &ParticipantId) -> Result<(), Error> {
        if self.refusals.charge(member, self.now().ms() / 60_000) {
            return Ok(());
        }
        self.count_refusal(CountedRefusal::OverQuota);
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
            Ok(mut logged) => logged.pop().map_or(error.clone(), |entry| error.with(entry)),
            // Without a log entry there can be no promise: the caller gets the store's error instead.
            Err(store) => store.into(),
        }
    }
}

/// Log entries are never deleted, so text from outside is truncated.
fn cut(text: &str) -> String {
    text.chars().take(limits::LOGGED_TEXT_CHARS_MAX).collect()
}
