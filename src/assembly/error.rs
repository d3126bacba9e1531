//! Why a node does not start.

use crate::config::ConfigError;
use crate::identity::register::RegisterError;
use crate::identity::root::RootError;
use crate::keys::{KekError, KeyFileError};
use crate::net::NetError;
use crate::storage::StoreError;
use std::path::{Path, PathBuf};

/// Why a node does not start.
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
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root document.
    #[error("the root document in this folder: {0}")]
    Root(#[from] RootError),
    /// The register.
    #[error("the register in this folder: {0}")]
    Register(#[from] RegisterError),
    /// TLS.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file.
    #[error("{path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The node has not joined.
    #[error(
        "this node has not joined an alliance yet: run `crosspark node join` with the welcome that the alliance operator sends"
    )]
    NotJoined,
    /// The configuration is of another node than the folder.
    #[error("the configuration does not fit this folder: {0}")]
    Mismatch(String),
    /// Another process has the folder.
    #[error("the folder {0} is in use by another process; one node, one folder")]
    Locked(PathBuf),
}

/// An error about a file.
pub fn file_error(path: &Path, error: impl std::fmt::Display) -> AssemblyError {
    AssemblyError::File { path: path.to_owned(), reason: error.to_string() }
}
