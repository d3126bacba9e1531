//! Operation of the node: outgoing messages, recovery, health, clock, and the tokens of its users.

mod clocks;
mod expiry;
mod health;
mod outbox;
mod recovery;
mod tokens;

pub use clocks::{ClockReport, Clocks, PeerTime};
pub use expiry::Expiry;
pub use health::{DiskSpace, Health, HealthReport, LogHealth, SourceHealth};
pub use outbox::Outbox;
pub use recovery::{LogBehind, Recovery};
pub use tokens::{NewToken, Tokens, mint as mint_token, usual_days};
