//! Import of local formats. A file of any format becomes text in one of two forms, CSV or NDJSON: it is unpacked, decoded
//! and, if it is a workbook or a JSON document, rewritten while it is read. One thread splits the text into chunks of whole
//! records; all threads decode the chunks.

mod cells;
mod chunks;
mod columnar;
mod csv;
mod decoder;
mod detect;
mod dialect;
mod encoding;
mod expected;
mod format;
mod infer;
mod jq;
mod json;
mod mapped;
mod markup;
mod ndjson;
mod ods;
mod packing;
mod piped;
mod preview;
mod reading;
mod rejects;
mod input;
mod shown;
mod workbook;

pub use chunks::Chunks;
pub use detect::{Detected, Given, detect};
pub use expected::Expected;
pub use format::{Form, Format};
pub use infer::sketch;
pub use input::{Input, Spool};
pub use jq::work as run_jq;
pub use mapped::MappedDecoder;
pub use packing::Packing;
pub use piped::THREAD as READING_THREAD;
pub use preview::{Preview, columns, preview};
pub use reading::Reading;
pub use rejects::divide;

use std::io;

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests;
