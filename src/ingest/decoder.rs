//! What decodes the records of a file without knowing what they are to be.

use super::cells::Writing;
use crate::dataset::assemble::Decoder;

/// A decoder without a schema.
pub(super) struct TextDecoder {
    pub(super) decoder: Box<dyn Decoder>,
    /// Names of the columns and how their cells are written, if the format has columns.
    pub(super) columns: Option<(Vec<String>, Writing)>,
}
