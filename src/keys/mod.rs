//! Keys at rest: the key-encryption key, key files, and wrapped secrets in the database.

mod file;
mod kek;

pub use file::{KeyFile, KeyFileError};
pub use kek::{Cell, Kek, KekError};
