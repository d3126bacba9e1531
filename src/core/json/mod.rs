//! Exact JSON: a strict parser into a tape, numbers that keep their decimal value, and the canonical form of RFC 8785.
//!
//! `serde_json` is too lenient for evidence: it keeps the last of two equal names and rounds numbers. All external
//! input passes through [`Tape`] first; typed values are read from its canonical form.

mod canonical;
mod instance;
pub mod ld;
pub mod number;
mod scan;
mod shape;
mod strings;
mod tape;

pub use instance::{Instance, TapeJson};
pub use tape::{JsonError, Kind, Node, Tape, pointer_part};

use serde::{Serialize, de::DeserializeOwned};

/// Why a JSON text cannot be read as the requested type.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text is not acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The JSON does not have the expected shape.
    #[error("{path}: {message}")]
    Shape {
        /// Path of names and indices (`.` for the whole value).
        path: String,
        /// What was expected.
        message: String,
    },
}

/// Reads a typed value and rejects what [`Tape`] rejects (equal names, numbers that would change, excessive depth).
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, ReadError> {
    let canonical = canonicalize(text)?;
    read_trusted(&canonical)
}

/// Reads a typed value from a text that has passed a [`Tape`] or was written by this program.
pub fn read_trusted<T: DeserializeOwned>(text: &[u8]) -> Result<T, ReadError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| ReadError::Shape {
        path: error.path().to_string(),
        message: without_position(&error.into_inner().to_string()),
    })
}

/// Reads any JSON value strictly.
pub fn read_value(text: &[u8]) -> Result<serde_json::Value, ReadError> {
    read(text)
}

/// Removes the position that `serde_json` appends: it refers to the canonical form, which the user never sees.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// The RFC 8785 canonical form of a JSON text.
pub fn canonicalize(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut tape = Tape::default();
    tape.parse(text)?;
    let mut out = Vec::with_capacity(text.len());
    tape.write_canonical(&mut out);
    Ok(out)
}

/// The RFC 8785 canonical form of a value.
///
/// # Panics
/// If the value does not serialise to exact JSON; document types contain only integers below 2^53 and strings.
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let text = serde_json::to_vec(value).expect("signed and logged types serialise");
    canonicalize(&text).expect("signed and logged types hold exact numbers")
}

#[cfg(test)]
mod tests;
