//! Exact JSON: a strict parser onto a tape, numbers that keep their decimal value, and RFC 8785 canonical form.
//!
//! `serde_json` is lenient where evidence must not be: it lets the last of two equal names win and rounds numbers.
//! Whatever comes from outside passes through [`Tape`] first; typed values are then read from its canonical form.

mod canonical;
mod instance;
mod number;
mod scan;
mod tape;

pub use instance::{Instance, TapeJson};
pub use tape::{JsonError, Kind, Node, Tape};

use serde::{Serialize, de::DeserializeOwned};

/// Why a JSON text could not be read as the type that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text is no JSON that we accept.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The JSON is not of the expected shape.
    #[error("{path}: {message}")]
    Shape {
        /// Where, as a path of names and indices (`.` for the whole).
        path: String,
        /// What was expected.
        message: String,
    },
}

/// Reads a typed value, refusing what the tape refuses (equal names, numbers that would change, depth).
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, ReadError> {
    let canonical = canonicalize(text)?;
    read_trusted(&canonical)
}

/// Reads a typed value from a text that passed the tape before, or that this program wrote.
pub fn read_trusted<T: DeserializeOwned>(text: &[u8]) -> Result<T, ReadError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| ReadError::Shape {
        path: error.path().to_string(),
        message: without_position(&error.into_inner().to_string()),
    })
}

/// Reads any JSON, strictly.
pub fn read_value(text: &[u8]) -> Result<serde_json::Value, ReadError> {
    read(text)
}

/// `serde_json` ends its messages with a position in the canonical form, which nobody has seen.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// The canonical form (RFC 8785) of a JSON text.
pub fn canonicalize(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut tape = Tape::default();
    tape.parse(text)?;
    let mut out = Vec::with_capacity(text.len());
    tape.write_canonical(&mut out);
    Ok(out)
}

/// The canonical form of a value of ours.
///
/// # Panics
/// If the value does not serialise to exact JSON; our document types hold only integers below 2^53 and texts.
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let text = serde_json::to_vec(value).expect("the types that are signed and logged serialise");
    canonicalize(&text).expect("the types that are signed and logged hold exact numbers")
}

#[cfg(test)]
mod tests;
