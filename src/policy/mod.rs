//! Policies: ODRL 2.2 permission `use` under constraints on recipient, purpose, time and count; nothing else.

mod evaluate;
mod odrl;

pub use evaluate::{Decision, Facts};
pub use odrl::{Constraint, Permission, Policy, PolicyError, Recipients};
