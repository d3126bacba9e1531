//! Refusals: what a caller is told, and that each leaves its trace in the log.

use super::{Counterparty, Node};
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::storage::{Change, Logged, StoreError};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What a use case answers when it does not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// What was sent is wrong.
    #[error("{reason}")]
    Invalid {
        /// For programs.
        code: &'static str,
        /// For people.
        reason: String,
        /// The entry of the refusal.
        logged: Option<Logged>,
    },
    /// It is not there, or not for this caller.
    #[error("{reason}")]
    NotFound {
        /// For people.
        reason: String,
        /// The entry of the refusal.
        logged: Option<Logged>,
    },
    /// The caller may not.
    #[error("{reason}")]
    Forbidden {
        /// For programs.
        code: &'static str,
        /// For people.
        reason: String,
        /// The entry of the refusal.
        logged: Option<Logged>,
    },
    /// A publication with invalid records.
    #[error("{} of {} records are invalid; nothing was published", .0.invalid, .0.records)]
    InvalidRecords(crate::dataset::assemble::Rejection),
    /// Too much at once.
    #[error("too many requests; try again in a minute")]
    TooMany,
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of this node.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// What was sent is wrong; not logged (yet).
    pub fn invalid(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { code, reason: reason.into(), logged: None }
    }

    /// It is not there; not logged (yet).
    pub fn not_found(reason: impl Into<String>) -> Self {
        Self::NotFound { reason: reason.into(), logged: None }
    }

    /// The caller may not; not logged (yet).
    pub fn forbidden(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Forbidden { code, reason: reason.into(), logged: None }
    }

    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { code, .. } | Self::Forbidden { code, .. } => code,
            Self::NotFound { .. } => "not-found",
            Self::InvalidRecords(_) => "invalid-records",
            Self::TooMany => "too-many-requests",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// As an HTTP status. DSP 2025-1: 404 for unknown and unauthorised objects, 400 for what is not possible.
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Invalid { code: "conflict", .. } => http::StatusCode::CONFLICT,
            Self::Invalid { code: "idempotency-key", .. } => http::StatusCode::UNPROCESSABLE_ENTITY,
            Self::Invalid { .. } => http::StatusCode::BAD_REQUEST,
            Self::InvalidRecords(_) => http::StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound { .. } => http::StatusCode::NOT_FOUND,
            Self::Forbidden { .. } => http::StatusCode::FORBIDDEN,
            Self::TooMany => http::StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The entry of the refusal.
    pub fn logged(&self) -> Option<&Logged> {
        match self {
            Self::Invalid { logged, .. } | Self::NotFound { logged, .. } | Self::Forbidden { logged, .. } => {
                logged.as_ref()
            }
            _ => None,
        }
    }

    fn with(mut self, entry: Logged) -> Self {
        match &mut self {
            Self::Invalid { logged, .. } | Self::NotFound { logged, .. } | Self::Forbidden { logged, .. } => {
                *logged = Some(entry);
            }
            _ => {}
        }
        self
    }

    /// Whether it is a refusal, which belongs into the log, and not a fault of this node.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::NotFound { .. } | Self::Forbidden { .. } | Self::InvalidRecords(_))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(what) => Self::Unavailable(format!("{what} changes all the time; try again")),
            StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Corrupt(reason) => Self::Internal(reason),
        }
    }
}

/// Why a caller that is no member was refused; part of the log's counted entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountedRefusal {
    /// Without certificate.
    NoCertificate,
    /// With a certificate whose key is no member's.
    Unknown,
    /// Member or not: the register has expired.
    RegisterExpired,
    /// A member over its quota.
    OverQuota,
    /// The management listener: no token, or an unknown one.
    NoToken,
    /// A connection or request that was turned away before any handler saw it.
    Shed,
    /// A register that was brought and not taken.
    Register,
    /// An unknown path, method or unreadable request.
    NoRoute,
}

impl CountedRefusal {
    /// Its name in the log and in the figures.
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

/// Refusals that are counted, not logged one by one: a stranger must not be able to fill the log.
#[derive(Default)]
pub struct Counter(Mutex<BTreeMap<CountedRefusal, u64>>);

/// Log entries that each member caused in the present minute.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<ParticipantId, (i64, u32)>>);

impl Quotas {
    fn take(&self, member: &ParticipantId, minute: i64, max: u32) -> bool {
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = quotas.entry(member.clone()).or_insert((minute, 0));
        if quota.0 != minute {
            *quota = (minute, 0);
        }
        quota.1 = quota.1.saturating_add(1);
        quota.1 <= max
    }
}

impl Node {
    /// Counts a refusal of a caller that is not worth an entry of its own. The first one starts a timer, which writes
    /// one entry for all that came until then.
    pub fn count_refusal(self: &Arc<Self>, reason: CountedRefusal) {
        self.counters.turned_away(reason);
        let first = {
            let mut counts = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first = counts.is_empty();
            *counts.entry(reason).or_default() += 1;
            first
        };
        if first {
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

    /// Writes what was counted into the log; false if it could not be and is counted on.
    pub async fn flush_counted_refusals(&self) -> bool {
        let counts = std::mem::take(&mut *self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner));
        if counts.is_empty() {
            return true;
        }
        let detail = counts.iter().map(|(reason, count)| (reason.name().to_owned(), Value::from(*count))).collect();
        let facts = Facts { decision: Some(Decision::Refused), detail, ..Facts::default() };
        if let Err(error) = self.parts.store.commit(Change::new(self.draft(Kind::RefusalsCounted, facts))).await {
            tracing::error!(%error, "counted refusals could not be logged; they are counted on");
            let mut kept = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
            counts.into_iter().for_each(|(reason, count)| *kept.entry(reason).or_default() += count);
            return false;
        }
        true
    }

    /// Whether the member may cause another entry; over its quota it is counted and turned away.
    pub fn charge_quota(self: &Arc<Self>, member: &ParticipantId) -> Result<(), Error> {
        if self.quotas.take(member, self.now().ms() / 60_000, self.parts.writes_per_member_per_minute) {
            return Ok(());
        }
        self.count_refusal(CountedRefusal::OverQuota);
        Err(Error::TooMany)
    }

    /// Logs the refusal of a member and returns it with its entry; faults of this node pass through.
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

    /// Logs the refusal of a user of this node.
    pub async fn refuse_user(&self, kind: Kind, facts: Facts, error: Error) -> Error {
        if error.is_refusal() { self.log_refusal(kind, facts, error).await } else { error }
    }

    async fn log_refusal(&self, kind: Kind, mut facts: Facts, error: Error) -> Error {
        facts.decision = Some(Decision::Refused);
        let rule = facts.rule.take().unwrap_or_else(|| error.code().to_owned());
        facts.rule = Some(cut(&rule));
        // What is wrong with a publication may quote its data, which has no place in the log.
        let reason = if kind == Kind::PublicationRefused { error.code().to_owned() } else { error.to_string() };
        facts.detail.insert("reason".into(), Value::String(cut(&reason)));
        let reason = cut(&reason);
        for value in facts.detail.values_mut() {
            if let Value::String(text) = value {
                *text = cut(text);
            }
        }
        tracing::info!(peer = ?facts.parties.first(), rule = facts.rule, reason, "refused");
        self.counters.refused(kind);
        match self.parts.store.commit(Change::new(self.draft(kind, facts))).await {
            Ok(mut logged) => logged.pop().map_or(error.clone(), |entry| error.with(entry)),
            // A refusal that cannot be logged is still a refusal, but not a promised one.
            Err(store) => store.into(),
        }
    }
}

/// What a caller wrote is logged up to a limit: an entry stays for ever.
fn cut(text: &str) -> String {
    text.chars().take(limits::LOGGED_TEXT_CHARS_MAX).collect()
}

/// Facts with one detail.
pub fn detail(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}
