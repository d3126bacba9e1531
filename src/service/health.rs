//! How the node is doing, for whoever is on duty: figures, and what needs somebody's attention.

use super::refusal::Error;
use super::{Node, UserRole};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::Status;
use crate::storage::StoreStats;
use serde::Serialize;
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;

/// Something that ends.
#[derive(Debug, Clone, Serialize)]
pub struct Expiry {
    /// What: `register`, `certificate`, or a key's name.
    pub what: String,
    /// When.
    pub until: Timestamp,
    /// Whole days until then; negative when it is over.
    pub days: i64,
}

impl Expiry {
    fn new(what: impl Into<String>, until: Timestamp, now: Timestamp) -> Self {
        let days = until.ms().saturating_sub(now.ms()).div_euclid(DAY_MS);
        Self { what: what.into(), until, days }
    }

    /// The step of warning that it has reached: the fewest days of [`limits::EXPIRY_WARNED_DAYS`] that are left. A register
    /// lives for 14 days and is renewed from day 7.
    pub fn warning(&self) -> Option<i64> {
        let steps = limits::EXPIRY_WARNED_DAYS.into_iter().filter(|step| self.what != "register" || *step <= 7);
        steps.filter(|step| self.days < *step).min()
    }

    /// In words.
    pub fn words(&self) -> String {
        let remedy = match self.what.as_str() {
            "register" => "the alliance operator renews it",
            "certificate" => "run `crosspark node rotate --certificate`",
            _ => "run `crosspark node rotate --key`",
        };
        if self.days < 0 {
            return format!("the {} expired at {}: {remedy}", self.what, self.until);
        }
        format!("the {} expires at {}, in {} days: {remedy}", self.what, self.until, self.days)
    }
}

/// How a node is doing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Why it takes no changes; none if it does.
    pub read_only: Option<String>,
    /// What ends, and when.
    pub expiries: Vec<Expiry>,
    /// The store.
    #[serde(skip)]
    pub stats: StoreStats,
    /// Seconds for which the oldest message waits.
    pub outbox_oldest_seconds: i64,
    /// Entries of the log.
    pub log_entries: u64,
    /// Entries that no checkpoint covers yet.
    pub log_unsigned: u64,
    /// Negotiations and transfers that are not over.
    pub open_processes: u64,
    /// Deliveries under way at this node.
    pub deliveries: u64,
    /// Free and total bytes where sealed bytes are.
    pub disk: Option<(u64, u64)>,
    /// Keys in quarantine.
    pub quarantine: u64,
    /// Connections of peers.
    pub connections: u64,
    /// Refusals since the start.
    pub refusals: BTreeMap<String, u64>,
    /// What needs attention, in words.
    pub warnings: Vec<String>,
}

impl Node {
    /// What of this node ends, and when.
    pub fn expiries(&self) -> Vec<Expiry> {
        let (trust, now) = (self.trust(), self.now());
        let mut expiries = vec![
            Expiry::new("register", trust.register.body().expires, now),
            Expiry::new("certificate", self.certificate_end(), now),
        ];
        // Of each use the key that ends last: older ones end by themselves.
        let own = trust.register.member(&self.parts.me);
        let mut last: BTreeMap<_, Timestamp> = BTreeMap::new();
        for key in own.into_iter().flat_map(|member| &member.keys) {
            let until = last.entry(key.usage).or_insert(key.until);
            *until = (*until).max(key.until);
        }
        expiries
            .extend(last.into_iter().map(|(usage, until)| Expiry::new(format!("{} key", usage.name()), until, now)));
        expiries
    }

    /// How this node is doing.
    pub async fn health(&self) -> Result<Health, Error> {
        let (stats, now) = (self.parts.store.stats().await?, self.now());
        let age = |since: Option<Timestamp>| since.map_or(0, |since| now.ms().saturating_sub(since.ms()) / 1_000);
        let mut health = Health {
            read_only: self.parts.read_only.reason(),
            expiries: self.expiries(),
            outbox_oldest_seconds: age(stats.outbox_since),
            log_entries: stats.entries,
            log_unsigned: stats.entries.saturating_sub(stats.signed),
            open_processes: stats.open_processes,
            deliveries: self.delivering().len() as u64,
            disk: self.parts.received.space().ok(),
            quarantine: self.trust().quarantine.len() as u64,
            connections: self.counters.connections.load(std::sync::atomic::Ordering::Relaxed),
            refusals: self.counters.refusals(),
            warnings: Vec::new(),
            stats,
        };
        health.warnings = health.judge(age(health.stats.signed_at));
        health.warnings.extend(self.standing().map(str::to_owned));
        health.warnings.extend(self.last_admin_token(now).await?);
        Ok(health)
    }

    /// What the register says against this node; nothing if it is an active member.
    fn standing(&self) -> Option<&'static str> {
        match self.trust().register.member(&self.parts.me).map(|member| member.status) {
            Some(Status::Active) => None,
            Some(Status::Suspended) => {
                Some("the alliance has suspended this park: its peers refuse it; ask the alliance operator")
            }
            None => Some("the register no longer lists this park: ask the alliance operator"),
        }
    }

    /// A word on the administrators' tokens if the one that lasts longest ends within a week.
    async fn last_admin_token(&self, now: Timestamp) -> Result<Option<String>, Error> {
        let tokens = self.parts.store.tokens().await?;
        let admins = tokens.into_iter().filter(|token| token.role == UserRole::Admin.name() && !token.revoked);
        let last = admins.map(|token| token.expires).max().unwrap_or(now);
        let soon = last <= now.plus_ms(limits::ADMIN_TOKEN_WARNED_DAYS * DAY_MS);
        Ok(soon.then(|| format!("the last administrator's token ends at {last}: run `crosspark token create`")))
    }

    /// Says what is about to end: once at each step of warning.
    pub fn warn_of_expiries(&self, said: &mut BTreeMap<String, i64>) {
        for expiry in self.expiries() {
            match expiry.warning() {
                Some(step) if said.get(&expiry.what) != Some(&step) => {
                    tracing::warn!(what = expiry.what, days = expiry.days, "{}", expiry.words());
                    said.insert(expiry.what, step);
                }
                Some(_) => {}
                None => drop(said.remove(&expiry.what)),
            }
        }
    }
}

impl Health {
    fn judge(&self, signed_seconds_ago: i64) -> Vec<String> {
        let mut warnings: Vec<String> = self.read_only.iter().map(|reason| format!("read-only: {reason}")).collect();
        let ending = self.expiries.iter().filter(|expiry| expiry.warning().is_some());
        warnings.extend(ending.map(Expiry::words));
        if self.outbox_oldest_seconds > limits::OUTBOX_AGE_WARNED_SECONDS {
            let seconds = self.outbox_oldest_seconds;
            warnings.push(format!(
                "a message waits for {seconds} seconds: a peer cannot be reached; run `crosspark doctor`"
            ));
        }
        if self.log_unsigned > 0 && signed_seconds_ago > limits::LOG_LAG_WARNED_SECONDS {
            let (entries, seconds) = (self.log_unsigned, signed_seconds_ago);
            warnings.push(format!(
                "{entries} log entries wait for a checkpoint; the last was signed {seconds} seconds ago"
            ));
        }
        if let Some((free, total)) = self.disk.filter(|(free, total)| *free < total / limits::DISK_WARNED_FRACTION) {
            let (free, total) = (free >> 20, total >> 20);
            warnings.push(format!("the disk is nearly full: {free} of {total} MiB are free"));
        }
        if self.quarantine > 0 {
            let keys = self.quarantine;
            warnings.push(format!("{keys} keys are in quarantine: see `crosspark members list`"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_warning() {
        let now = Timestamp::from_ms(0);
        let step = |what: &str, days: i64| Expiry::new(what, now.plus_ms(days * DAY_MS + 1), now).warning();
        for (what, days, expected) in [
            ("certificate", 31, None),
            ("certificate", 29, Some(30)),
            ("certificate", 14, Some(30)),
            ("certificate", 13, Some(14)),
            ("certificate", 6, Some(7)),
            ("certificate", 0, Some(1)),
            ("certificate", -3, Some(1)),
            ("register", 13, None),
            ("register", 6, Some(7)),
            ("register", 0, Some(1)),
        ] {
            assert_eq!(step(what, days), expected, "{what} {days}");
        }
    }
}
