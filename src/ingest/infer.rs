//! Reads a file to see what its records are.

use super::decoder::TextDecoder;
use super::{Chunks, Input, invalid};
use crate::core::json::{Kind, Tape};
use crate::core::limits;
use crate::dataset::assemble::Decoded;
use crate::schema::Sketch;
use std::io;

/// The sketch of a file's records. Fails with the lines that no schema can describe.
pub fn sketch(text: Input<'_>) -> io::Result<Sketch> {
    let (mut chunks, TextDecoder { decoder, columns }) = Chunks::open_text(text)?;
    let mut sketch = match columns {
        Some((names, writing)) => Sketch::of_columns(&names, Box::new(writing)),
        None => Sketch::of_objects(),
    };
    let (mut tape, mut wrong) = (Tape::of_doubles(), Vec::new());
    while let Some(chunk) = chunks.next_chunk()? {
        decoder.decode(&chunk, &mut |record: Decoded<'_>| {
            let line = record.line;
            wrong.extend(record.wrong.into_iter().map(|violation| format!("line {line}: {}", violation.reason)));
            match record.json.map(|json| tape.parse(json)) {
                Some(Ok(())) if tape.root().kind() == Kind::Object => sketch.add(&tape, line),
                Some(Ok(())) => wrong.push(format!("line {line}: a record is a JSON object")),
                Some(Err(error)) => wrong.push(format!("line {line}: {error}")),
                None => {}
            }
        });
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
