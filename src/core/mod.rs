//! Foundations of all other modules: identifiers, time and randomness as ports, exact JSON, digests, limits.

pub mod digest;
pub mod id;
pub mod json;
pub mod limits;
pub mod random;
pub mod time;
pub mod trace;
