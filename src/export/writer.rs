//! What every format writes.

use crate::core::json::Tape;
use std::io;

/// Where data comes from, as lines of a name and a value, for those who read a workbook.
pub type Origin = Vec<(String, String)>;

/// Writes records in one format.
pub(super) trait RecordWriter {
    /// Writes the record on `tape`.
    fn record(&mut self, tape: &Tape) -> io::Result<()>;
    /// Writes a text of whole records as it is, if the format is that of the text; false if it is not.
    fn whole(&mut self, _text: &[u8]) -> io::Result<bool> {
        Ok(false)
    }
    /// Ends the file.
    fn finish(self: Box<Self>) -> io::Result<()>;
}
