//! Errors of the operator's commands.

use crate::identity::document::DocumentError;
use crate::identity::join::JoinError;
use crate::identity::register::RegisterError;
use crate::identity::root::RootError;
use crate::identity::rotation::RotationError;
use crate::keys::{KekError, KeyFileError};
use std::path::{Path, PathBuf};

/// Error of an operator's command.
#[derive(Debug, thiserror::Error)]
pub enum AllianceError {
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// Key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// Key files.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Join request.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Rotation.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// A document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A certificate or certificate signing request.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The command does not match the register.
    #[error("{0}")]
    Refused(String),
}

/// An error about a file.
pub fn file_error(path: &Path, error: impl std::fmt::Display) -> AllianceError {
    AllianceError::File { path: path.to_owned(), reason: error.to_string() }
}
