//! Evidence: log entries and their commitments, the Merkle tree and its tiles, checkpoints, receipts, and the
//! verification of a whole log against its public key.

pub mod check;
pub mod checkpoint;
pub mod entry;
pub mod merkle;
pub mod promise;
pub mod receipt;
mod releases;
pub mod tile;
