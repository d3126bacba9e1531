//! Reads a file to see what its records are.

use super::{Chunks, Format, TextDecoder, invalid};
use crate::core::json::{Kind, Tape};
use crate::core::limits;
use crate::schema::Sketch;
use std::io::{self, Read};

/// The sketch of a file's records. Fails with the lines that no schema can describe.
pub fn sketch<R: Read>(source: R, format: Format) -> io::Result<Sketch> {
    let (mut chunks, TextDecoder { decoder, columns }) = Chunks::open_text(source, format)?;
    let mut sketch = columns.map_or_else(Sketch::of_objects, |names| Sketch::of_columns(&names));
    let (mut tape, mut wrong) = (Tape::of_doubles(), Vec::new());
    while let Some(chunk) = chunks.next_chunk()? {
        let mut malformed = Vec::new();
        let mut record = |line: u64, json: &[u8]| match tape.parse(json) {
            Ok(()) if tape.root().kind() == Kind::Object => sketch.add(&tape, line),
            Ok(()) => wrong.push(format!("line {line}: a record is a JSON object")),
            Err(error) => wrong.push(format!("line {line}: {error}")),
        };
        decoder.decode(&chunk, &mut record, &mut |line, violation| {
            malformed.push(format!("line {line}: {}", violation.reason));
        });
        wrong.extend(malformed);
        if wrong.len() + sketch.impossible().len() > limits::VIOLATIONS_RECORD_MAX {
            break;
        }
    }
    wrong.extend(sketch.impossible().iter().map(|(line, reason)| format!("line {line}: {reason}")));
    if !wrong.is_empty() {
        wrong.truncate(limits::VIOLATIONS_RECORD_MAX);
        return Err(invalid(format!("no schema describes these records:\n{}", wrong.join("\n"))));
    }
    if sketch.records() == 0 {
        return Err(invalid("the file contains no record"));
    }
    Ok(sketch)
}
