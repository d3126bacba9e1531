//! Errors at the start of a node.

use crate::config::ConfigError;
use crate::identity::register::RegisterError;
use crate::identity::root::RootError;
use crate::keys::{KekError, KeyFileError};
use crate::net::NetError;
use crate::storage::StoreError;
use std::path::{Path, PathBuf};

/// Reason why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// Key files.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Root document.
    #[error("the root document in this folder is invalid: {0}")]
    Root(#[from] RootError),
    /// Register.
    #[error("the register in this folder is invalid: {0}")]
    Register(#[from] RegisterError),
    /// TLS.
    #[error(transparent)]
    Net(#[from] NetError),
    /// File or address.
    #[error("{path}: {reason}")]
    File {
        /// Path or description.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// The node has not joined.
    #[error(
        "this node has not joined an alliance yet: run `crosspark node join` with the welcome that the alliance operator sends"
    )]
    NotJoined,
    /// The configuration and the folder belong to different nodes.
    #[error("the configuration does not match this folder: {0}")]
    Mismatch(String),
    /// Another process uses the folder.
    #[error("the folder {0} is in use by another process; wait for it, or stop it first")]
    Locked(PathBuf),
}

/// An error about a file.
pub fn file_error(path: &Path, error: impl std::fmt::Display) -> AssemblyError {
    AssemblyError::File { path: path.to_owned(), reason: error.to_string() }
}
