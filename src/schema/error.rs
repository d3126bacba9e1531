//! Why a schema is rejected.

use crate::core::{json, limits};

/// Why a schema is rejected.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not acceptable JSON.
    #[error("the schema is not valid JSON: {0}")]
    Json(#[from] json::ReadError),
    /// Too long.
    #[error("the schema is longer than {} bytes", limits::SCHEMA_BYTES_MAX)]
    TooLong,
    /// An unknown keyword or a missing part.
    #[error("{}: {problem}", if pointer.is_empty() { "the schema" } else { pointer })]
    Invalid {
        /// JSON pointer into the schema.
        pointer: String,
        /// The problem and its remedy.
        problem: String,
    },
}
