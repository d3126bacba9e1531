//! Errors of the use cases, and their HTTP status.

use crate::storage::{Logged, StoreError};

/// Code of a refusal because the transfer is suspended; it may be resumed.
pub const TRANSFER_SUSPENDED: &str = "transfer-suspended";

/// How a refusal was recorded.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// Not yet.
    Not,
    /// In a count, which is logged every minute.
    Counted,
    /// In a log entry of its own.
    Entry(Logged),
}

/// Why a use case failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request is invalid.
    #[error("{reason}")]
    Invalid {
        /// Code for programs.
        code: &'static str,
        /// Reason for people.
        reason: String,
        /// How the refusal was recorded.
        recorded: Recorded,
    },
    /// Not found, or not visible to this caller.
    #[error("{reason}")]
    NotFound {
        /// Reason for people.
        reason: String,
        /// How the refusal was recorded.
        recorded: Recorded,
    },
    /// Not permitted.
    #[error("{reason}")]
    Forbidden {
        /// Code for programs.
        code: &'static str,
        /// Reason for people.
        reason: String,
        /// How the refusal was recorded.
        recorded: Recorded,
    },
    /// A publication with invalid records.
    #[error("{} of {} records are invalid; nothing was published", .0.invalid, .0.records)]
    InvalidRecords(crate::dataset::report::Rejection),
    /// Too many requests.
    #[error("too many requests; try again in a minute")]
    TooMany,
    /// Temporarily impossible.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of this node.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// An invalid request; not logged yet.
    pub fn invalid(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { code, reason: reason.into(), recorded: Recorded::Not }
    }

    /// Not found; not logged yet.
    pub fn not_found(reason: impl Into<String>) -> Self {
        Self::NotFound { reason: reason.into(), recorded: Recorded::Not }
    }

    /// Not permitted; not logged yet.
    pub fn forbidden(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Forbidden { code, reason: reason.into(), recorded: Recorded::Not }
    }

    /// Code for programs.
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

    /// The HTTP status. DSP 2025-1: 404 for unknown and unauthorised objects, 400 for what is not possible.
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

    fn recorded_mut(&mut self) -> Option<&mut Recorded> {
        match self {
            Self::Invalid { recorded, .. } | Self::NotFound { recorded, .. } | Self::Forbidden { recorded, .. } => {
                Some(recorded)
            }
            _ => None,
        }
    }

    /// How the refusal was recorded.
    pub fn recorded(&self) -> &Recorded {
        match self {
            Self::Invalid { recorded, .. } | Self::NotFound { recorded, .. } | Self::Forbidden { recorded, .. } => {
                recorded
            }
            _ => &Recorded::Not,
        }
    }

    /// Log entry of the refusal.
    pub fn logged(&self) -> Option<&Logged> {
        match self.recorded() {
            Recorded::Entry(logged) => Some(logged),
            _ => None,
        }
    }

    pub(super) fn with(mut self, how: Recorded) -> Self {
        if let Some(recorded) = self.recorded_mut() {
            *recorded = how;
        }
        self
    }

    /// Whether this is a refusal, which is logged, and not a fault of this node.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::NotFound { .. } | Self::Forbidden { .. } | Self::InvalidRecords(_))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(what) => Self::Unavailable(format!("{what} keeps changing; try again")),
            StoreError::Busy
            | StoreError::Unavailable(_)
            | StoreError::ReadOnly(_)
            | StoreError::Full(_)
            | StoreError::Closed => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(reason) => Self::Internal(reason),
        }
    }
}
