//! Policies: ODRL 2.2 permission `use` under constraints on recipient, purpose, time, count and channel, and the duty that
//! a person approves; nothing else.

mod evaluate;
mod subset;
mod odrl;

pub use evaluate::{Decision, Facts, Missing};
pub use odrl::{Channel, Constraint, Permission, Policy, PolicyError, Recipients};
pub use subset::EVERYBODY;
