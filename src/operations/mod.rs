//! Operation of the node: outgoing messages, recovery, health, and the tokens of its users.

mod expiry;
mod health;
mod outbox;
mod recovery;
mod tokens;

pub use expiry::Expiry;
pub use health::{DiskSpace, Health, HealthReport, LogHealth};
pub use outbox::Outbox;
pub use recovery::{LogBehind, Recovery};
pub use tokens::{NewToken, Tokens, mint as mint_token, usual_days};
