//! NDJSON: one JSON object per line; empty lines are ignored.

use crate::dataset::assemble::{Chunk, Decoder};
use crate::schema::Violation;

/// Decodes NDJSON.
pub struct NdjsonDecoder;

impl Decoder for NdjsonDecoder {
    fn decode(&self, chunk: &Chunk, record: &mut dyn FnMut(u64, &[u8]), _broken: &mut dyn FnMut(u64, Violation)) {
        let (mut begin, mut number) = (0, chunk.first_line);
        let ends = memchr::memchr_iter(b'\n', &chunk.bytes).chain([chunk.bytes.len()]);
        for end in ends {
            let line = &chunk.bytes[begin..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.iter().all(u8::is_ascii_whitespace) {
                record(number, line);
            }
            (begin, number) = (end + 1, number + 1);
        }
    }
}
