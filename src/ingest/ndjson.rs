//! NDJSON: one JSON object per line; empty lines are ignored.

use crate::dataset::assemble::{Chunk, Decoded, Decoder};

/// Decodes NDJSON.
pub struct NdjsonDecoder;

/// Calls `each` with the line and the bytes of each record.
pub fn raw_lines(chunk: &Chunk, each: &mut dyn FnMut(u64, &[u8])) {
    let (mut begin, mut number) = (0, chunk.first_line);
    let ends = memchr::memchr_iter(b'\n', &chunk.bytes).chain([chunk.bytes.len()]);
    for end in ends {
        let line = &chunk.bytes[begin..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.iter().all(u8::is_ascii_whitespace) {
            each(number, line);
        }
        (begin, number) = (end + 1, number + 1);
    }
}

impl Decoder for NdjsonDecoder {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let mut whole = Vec::new();
        raw_lines(chunk, &mut |line, json| match without_problem(json) {
            None => each(Decoded::whole(line, json)),
            Some(rest) => {
                whole.clear();
                whole.push(b'{');
                whole.extend_from_slice(rest);
                each(Decoded::whole(line, &whole));
            }
        });
    }
}

/// The rest of a record that begins with the problem for which it was left out of a publication, as [`with_problem`]
/// writes it or another program formats it.
fn without_problem(json: &[u8]) -> Option<&[u8]> {
    let then = |text: &[u8], part: &[u8]| -> Option<usize> {
        let rest = text.trim_ascii_start();
        rest.starts_with(part).then(|| text.len() - rest.len() + part.len())
    };
    let mut rest = json;
    for part in [&b"{"[..], b"\"x-problem\"", b":", b"\""] {
        rest = &rest[then(rest, part)?..];
    }
    let mut escaped = false;
    let end = rest.iter().position(|b| {
        let ends = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        ends
    })?;
    rest = &rest[end + 1..];
    match then(rest, b",") {
        // What follows is another member; anything else is left to the parser.
        Some(after) => then(&rest[after..], b"\"").map(|_| &rest[after..]),
        None => then(rest, b"}").map(|_| rest),
    }
}

/// A record with the problem for which it was left out; mended, it can be published as it is.
pub fn with_problem(record: &[u8], problem: &str) -> Vec<u8> {
    let record = record.trim_ascii_start();
    let Some(rest) = without_problem(record).or_else(|| record.strip_prefix(b"{")) else { return record.to_vec() };
    let problem = serde_json::to_string(problem).unwrap_or_default();
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    [b"{\"x-problem\":", problem.as_bytes(), comma.as_bytes(), rest].concat()
}
