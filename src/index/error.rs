//! Why the search index does not serve.

/// Why the index is not available.
#[derive(Debug, thiserror::Error)]
#[error("the search index is not available: {0}")]
pub struct IndexError(pub(super) String);

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}
