//! Foundations of all other modules: identifiers, time and randomness as ports, exact JSON, digests, limits.

pub mod digest;
pub mod id;
pub mod json;
pub mod limits;
pub mod random;
pub mod time;
pub mod trace;

/// Threads for work that takes all cores: validating, sealing, verifying.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
