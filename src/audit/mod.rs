//! Evidence: log entries and their commitments, the Merkle tree and its tiles, checkpoints, receipts, and the check
//! of a whole log that trusts nothing but a key.

pub mod check;
pub mod checkpoint;
pub mod entry;
pub mod merkle;
pub mod promise;
pub mod receipt;
pub mod tile;
