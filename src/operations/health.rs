//! The state of the node for its operators: figures and warnings.

use super::expiry::{DAY_MS, Expiry};
use crate::core::id::SourceName;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::delivery::Downloads;
use crate::identity::register::Status;
use crate::node::{Error, Node, UserRole};
use crate::source::Source;
use crate::storage::{EntryRow, StoreStats};
use crate::subscriptions::Subscriptions;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The state of a node.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct HealthReport {
    /// Why no changes are accepted: the reason of read-only mode, a clock that is behind, or a full disk.
    pub read_only: Option<String>,
    /// Expiry of the register, certificate and keys.
    pub expiries: Vec<Expiry>,
    /// Statistics of the store.
    #[serde(skip)]
    pub stats: StoreStats,
    /// Age of the oldest message in the outbox, in seconds.
    pub outbox_oldest_seconds: i64,
    /// State of the log.
    pub log: LogHealth,
    /// Negotiations and transfers that are not in a final state.
    pub open_processes: u64,
    /// Downloads in progress.
    pub downloads: u64,
    /// The disk that holds received datasets.
    pub disk: Option<DiskSpace>,
    /// Keys in quarantine.
    pub quarantined_keys: u64,
    /// Open connections of peers.
    pub peer_connections: u64,
    /// Refusals since the start, by kind of log entry or by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Sources of datasets, by name.
    pub sources: Vec<SourceHealth>,
    /// Warnings that need attention.
    pub warnings: Vec<String>,
}

/// The state of a source.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SourceHealth {
    /// Its name.
    pub name: SourceName,
    /// Failed runs since the last one that did not fail.
    pub failures: u32,
    /// Seconds since the end of the last run that did not fail.
    pub good_seconds_ago: Option<i64>,
    /// What needs attention, unless it is paused.
    pub warning: Option<String>,
}

/// The state of the log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct LogHealth {
    /// Entries.
    pub entries: u64,
    /// Entries that no checkpoint covers yet.
    pub unsigned_entries: u64,
}

/// The space on a disk.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct DiskSpace {
    /// Free bytes.
    pub free_bytes: u64,
    /// Size in bytes.
    pub total_bytes: u64,
}

/// Reports the state of the node.
pub struct Health {
    node: Arc<Node>,
    downloads: Arc<Downloads>,
    subscriptions: Arc<Subscriptions>,
    certificate_end: AtomicI64,
    peer_connections: Arc<AtomicU64>,
}

impl Health {
    /// The health of this node.
    pub fn new(node: Arc<Node>, downloads: Arc<Downloads>, subscriptions: Arc<Subscriptions>) -> Arc<Self> {
        let certificate_end = AtomicI64::new(i64::MAX);
        Arc::new(Self { node, downloads, subscriptions, certificate_end, peer_connections: Arc::default() })
    }

    /// The counter of open peer connections, for the listener.
    pub fn peer_connections(&self) -> Arc<AtomicU64> {
        self.peer_connections.clone()
    }

    /// Sets the end of the certificate that this node presents.
    pub fn set_certificate_end(&self, at: Timestamp) {
        self.certificate_end.store(at.ms(), Ordering::Relaxed);
    }

    /// Fails when the database does not answer.
    pub async fn check_store(&self) -> Result<(), Error> {
        Ok(self.node.store().register_sequence().await.map(drop)?)
    }

    /// Time of the next delivery from the outbox, and the number of waiting messages.
    pub async fn outbox(&self) -> Result<(Option<Timestamp>, u64), Error> {
        Ok(self.node.store().outbox_next(self.node.now()).await?)
    }

    fn expiries(&self) -> Vec<Expiry> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let certificate_end = Timestamp::from_ms(self.certificate_end.load(Ordering::Relaxed));
        let mut expiries = vec![
            Expiry::new("register", trust.register.body().expires, now),
            Expiry::new("certificate", certificate_end, now),
        ];
        // Only the key of each use that is valid longest: earlier ones are meant to expire.
        let own = trust.register.member(self.node.me());
        let mut last: BTreeMap<_, Timestamp> = BTreeMap::new();
        for key in own.into_iter().flat_map(|member| &member.keys) {
            let until = last.entry(key.usage).or_insert(key.until);
            *until = (*until).max(key.until);
        }
        let keys = last.into_iter().map(|(usage, until)| Expiry::new(format!("{} key", usage.name()), until, now));
        expiries.extend(keys);
        expiries
    }

    /// The state of the node.
    pub async fn report(&self) -> Result<HealthReport, Error> {
        let (stats, now) = (self.node.store().stats().await?, self.node.now());
        let age = |since: Option<Timestamp>| since.map_or(0, |since| now.ms().saturating_sub(since.ms()) / 1_000);
        let disk = self.downloads.disk_space();
        let mut report = HealthReport {
            read_only: self.node.closed(),
            expiries: self.expiries(),
            outbox_oldest_seconds: age(stats.outbox_since),
            log: LogHealth { entries: stats.entries, unsigned_entries: stats.entries.saturating_sub(stats.signed) },
            open_processes: stats.open_processes,
            downloads: self.downloads.count() as u64,
            disk: disk.map(|(free_bytes, total_bytes)| DiskSpace { free_bytes, total_bytes }),
            quarantined_keys: self.node.trust().quarantine.len() as u64,
            peer_connections: self.peer_connections.load(Ordering::Relaxed),
            refusals: self.node.refusals().totals(),
            sources: self.sources(now).await?,
            warnings: Vec::new(),
            stats,
        };
        report.warnings = report.warnings_now(age(report.stats.signed_at));
        if report.read_only.is_none()
            && let Err(full) = self.node.space().check()
        {
            report.warnings.push(format!("{full}: no data is received or published until there is more"));
        }
        report.warnings.extend(self.membership_warning());
        report.warnings.extend(self.admin_token_warning(now).await?);
        report.warnings.extend(report.sources.iter().filter_map(|source| source.warning.clone()));
        report.warnings.extend(self.subscriptions.warnings().await?);
        report.warnings.extend(self.alarms().await?);
        Ok(report)
    }

    async fn sources(&self, now: Timestamp) -> Result<Vec<SourceHealth>, Error> {
        let health = |source: Source| SourceHealth {
            failures: source.progress.failures,
            good_seconds_ago: source.progress.good.map(|good| now.ms().saturating_sub(good.ms()) / 1_000),
            warning: source.warning(now),
            name: source.name,
        };
        Ok(self.node.store().sources().await?.into_iter().map(health).collect())
    }

    fn membership_warning(&self) -> Option<String> {
        let trust = self.node.trust();
        let Some(member) = trust.register.member(self.node.me()) else {
            return Some("the register no longer lists this park: ask the alliance operator".to_owned());
        };
        let reason = member.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        (member.status == Status::Suspended).then(|| {
            format!("the alliance has suspended this park{reason}, so its peers refuse it: ask the alliance operator")
        })
    }

    /// Contradictions in the logs of peers. They stay evidence, so the warnings stay.
    async fn alarms(&self) -> Result<Vec<String>, Error> {
        let entries = self.node.store().alarms(limits::ALARMS_SHOWN_MAX).await?;
        let text = |row: &EntryRow, pointer: &str| {
            row.entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let warning = |row: &EntryRow| {
            format!(
                "{}: {} (entry {} of this node's log, {}): keep both checkpoints as evidence and tell the alliance operator",
                text(row, "/parties/0"),
                text(row, "/detail/alarm"),
                row.index,
                text(row, "/time")
            )
        };
        Ok(entries.iter().map(warning).collect())
    }

    async fn admin_token_warning(&self, now: Timestamp) -> Result<Option<String>, Error> {
        let tokens = self.node.store().tokens().await?;
        let admins = tokens.into_iter().filter(|token| token.role == UserRole::Admin.name() && !token.revoked);
        let last = admins.map(|token| token.expires).max().unwrap_or(now);
        let soon = last <= now.plus_ms(limits::ADMIN_TOKEN_WARNED_DAYS * DAY_MS);
        Ok(soon.then(|| format!("the last administrator's token expires at {last}: run `crosspark token create`")))
    }

    /// Logs warnings of coming expiries, once per warning step; `warned` holds the last step of each.
    pub fn warn_of_expiries(&self, warned: &mut BTreeMap<String, i64>) {
        for expiry in self.expiries() {
            match expiry.warning() {
                Some(step) if warned.get(&expiry.what) != Some(&step) => {
                    tracing::warn!(what = expiry.what, days = expiry.days, "{}", expiry.message());
                    warned.insert(expiry.what, step);
                }
                Some(_) => {}
                None => drop(warned.remove(&expiry.what)),
            }
        }
    }
}

impl HealthReport {
    fn warnings_now(&self, signed_seconds_ago: i64) -> Vec<String> {
        let mut warnings: Vec<String> = self.read_only.iter().map(|reason| format!("read-only: {reason}")).collect();
        let ending = self.expiries.iter().filter(|expiry| expiry.warning().is_some());
        warnings.extend(ending.map(Expiry::message));
        if self.outbox_oldest_seconds > limits::OUTBOX_AGE_WARNED_SECONDS {
            let seconds = self.outbox_oldest_seconds;
            warnings.push(format!(
                "the oldest message in the outbox has waited {seconds} seconds: a peer cannot be reached; run \
                 `crosspark doctor`"
            ));
        }
        if self.log.unsigned_entries > 0 && signed_seconds_ago > limits::LOG_LAG_WARNED_SECONDS {
            let entries = self.log.unsigned_entries;
            warnings.push(format!(
                "{entries} log entries have no checkpoint yet; the last checkpoint is {signed_seconds_ago} seconds old"
            ));
        }
        if let Some(disk) = &self.disk
            && disk.free_bytes < disk.total_bytes / limits::DISK_WARNED_FRACTION
        {
            let (free, total) = (disk.free_bytes >> 20, disk.total_bytes >> 20);
            warnings.push(format!("the disk is nearly full: {free} of {total} MiB are free"));
        }
        if self.quarantined_keys > 0 {
            let keys = self.quarantined_keys;
            warnings.push(format!("{keys} keys are in quarantine: see `crosspark members list`"));
        }
        warnings
    }
}
