//! NDJSON: one JSON object a line; empty lines do not count.

use crate::dataset::assemble::{Chunk, Decoder};
use crate::schema::Violation;

/// Decodes NDJSON.
pub struct NdjsonDecoder;

impl Decoder for NdjsonDecoder {
    fn decode(&self, chunk: &Chunk, record: &mut dyn FnMut(u64, &[u8]), _broken: &mut dyn FnMut(u64, Violation)) {
        for (i, line) in chunk.bytes.split(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.iter().all(u8::is_ascii_whitespace) {
                record(chunk.first_line + i as u64, line);
            }
        }
    }
}
