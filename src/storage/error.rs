//! Why the store refuses a change.

/// The fact that did not hold when a change was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The agreement exists.
    #[error("the agreement")]
    Agreement,
    /// The dataset has another version, or is withdrawn.
    #[error("the dataset")]
    Dataset,
    /// The decision is too old.
    #[error("the time")]
    DecisionAge,
    /// The holding has another revision.
    #[error("the holding")]
    Holding,
    /// The idempotency key exists.
    #[error("the idempotency key")]
    IdempotencyKey,
    /// The request, its nonce or its one-time key exists.
    #[error("the key request")]
    KeyRequest,
    /// The offer has another policy, or is no longer valid.
    #[error("the offer")]
    Offer,
    /// The member has too many open processes.
    #[error("the number of open processes")]
    OpenProcesses,
    /// The message is gone.
    #[error("the outbox")]
    Outbox,
    /// The negotiation or transfer has another revision.
    #[error("the process")]
    Process,
    /// The key is not in quarantine.
    #[error("the quarantine")]
    Quarantine,
    /// The withdrawal notice exists.
    #[error("the withdrawal notice")]
    Recall,
    /// The transfer has a receipt.
    #[error("the receipt")]
    Receipt,
    /// A newer register is installed.
    #[error("the register")]
    Register,
    /// The root document exists.
    #[error("the root document")]
    RootDocument,
    /// The schema exists.
    #[error("the schema")]
    Schema,
    /// The secret was wrapped again.
    #[error("the secret")]
    Secret,
    /// The source has another revision.
    #[error("the source")]
    Source,
    /// The subscription has another revision.
    #[error("the subscription")]
    Subscription,
    /// The token exists, or is revoked.
    #[error("the token")]
    Token,
    /// The number of uses differs, or is at its maximum.
    #[error("the use count")]
    UseCount,
}

/// Why the store did not perform an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A guard or uniqueness did not hold; nothing was changed.
    #[error("{0} has changed in the meantime")]
    Conflict(Conflict),
    /// Too many changes are waiting; nothing was changed.
    #[error("the node is busy: too many changes are waiting")]
    Busy,
    /// The database failed (disk full, I/O error). Nothing was acknowledged, and this process will see no part of the
    /// change; after a failed fsync, however, it may turn out to be committed after a restart. Callers that retry must
    /// handle both cases.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The disk is full, and the change does not end a process; nothing was changed.
    #[error("{0}")]
    Full(String),
    /// The node is in read-only mode, or its clock is behind; nothing was changed.
    #[error("this node is read-only: {0}")]
    ReadOnly(String),
    /// The node is stopping; nothing was changed.
    #[error("this node is stopping")]
    Closed,
    /// Stored data cannot be parsed.
    #[error("the database contains data that this version cannot read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether certainly nothing was changed.
    pub fn changed_nothing(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Busy | Self::ReadOnly(_) | Self::Full(_) | Self::Closed)
    }
}
