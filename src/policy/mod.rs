//! Policies: ODRL 2.2 permissions to `use` with constraints on recipient, purpose, time, count and channel, and the
//! duty of approval by a person; nothing else is supported.

mod evaluate;
mod subset;
mod odrl;
mod repeat;
mod words;

pub use evaluate::{Decision, Facts, Missing};
pub use odrl::{Channel, Constraint, Permission, Policy, PolicyError, Recipients};
pub use repeat::rules_as_written;
pub use subset::EVERYBODY;
