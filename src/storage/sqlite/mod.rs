//! SQLite: one database file. One thread owns the writing connection; readers use read-only connections.

mod apply;
mod catalog;
mod connection;
mod log;
mod reader;
mod readers;
mod rows;
mod schema;
mod store;
mod writer;

pub use connection::FILE;
pub use log::{LogFile, Snapshot, examine, rows as log_rows, snapshot};
pub use store::{SqliteStore, open};

#[cfg(test)]
mod tests;
