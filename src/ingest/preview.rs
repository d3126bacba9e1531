//! The first records of a file, for people who map it.

use super::Input;
use super::chunks::Chunks;
use super::decoder::TextDecoder;
use crate::core::json::{Tape, pointer_part};
use crate::core::limits;
use crate::dataset::assemble::{Decoded, Decoder};
use crate::mapping::Mapping;
use crate::schema::{Schema, Violation};
use serde_json::Value;
use std::io;

/// A record before and after a mapping.
pub struct Preview {
    /// Its line.
    pub line: u64,
    /// As it stands in the file.
    pub before: Value,
    /// As the mapping makes it.
    pub after: Value,
    /// What could not be read or mapped.
    pub wrong: Vec<Violation>,
}

/// The first `count` records of a file through a mapping, and the columns that it does not read.
pub fn preview(
    text: Input<'_>,
    schema: &Schema,
    mapping: &Mapping,
    count: usize,
) -> io::Result<(Vec<Preview>, Vec<String>)> {
    let (mut chunks, decoder) = Chunks::open_mapped(text, schema, mapping)?;
    let unread = decoder.plan.unread().into_iter().map(str::to_owned).collect();
    let value = |json: Option<&[u8]>| {
        let mut tape = Tape::default();
        json.and_then(|json| tape.parse(json).ok()).map(|()| tape.root().value()).unwrap_or_default()
    };
    let mut found: Vec<Preview> = Vec::new();
    while found.len() < count
        && let Some(chunk) = chunks.next_chunk()?
    {
        let mut before = Vec::new();
        decoder.records.decode(&chunk, &mut |record| before.push(value(record.json)));
        let mut before = before.into_iter();
        decoder.decode(&chunk, &mut |Decoded { line, json, wrong }| {
            let before = before.next().unwrap_or_default();
            if found.len() < count {
                found.push(Preview { line, before, after: value(json), wrong });
            }
        });
    }
    Ok((found, unread))
}

/// The columns of a file, or the members of its JSON objects, with their first values.
pub fn columns(text: Input<'_>, count: usize) -> io::Result<Vec<(String, Vec<String>)>> {
    let (mut chunks, TextDecoder { decoder, columns }) = Chunks::open_text(text)?;
    let names = columns.map(|(names, _)| names).unwrap_or_default();
    let mut found: Vec<(String, Vec<String>)> = names.into_iter().map(|name| (name, Vec::new())).collect();
    let mut records = 0;
    while records < count
        && let Some(chunk) = chunks.next_chunk()?
    {
        decoder.decode(&chunk, &mut |record| {
            records += 1;
            let value = record.json.and_then(|json| serde_json::from_slice::<Value>(json).ok());
            if let Some(value) = value.filter(|_| records <= count) {
                let mut leaves = Vec::new();
                members(&value, "", &mut leaves);
                leaves.into_iter().for_each(|(name, text)| put(&mut found, name, text));
            }
        });
    }
    Ok(found)
}

fn put(found: &mut Vec<(String, Vec<String>)>, name: String, text: String) {
    match found.iter().position(|(known, _)| *known == name) {
        Some(at) => found[at].1.push(text),
        None if found.len() < limits::CSV_COLUMNS_MAX => found.push((name, vec![text])),
        None => {}
    }
}

/// The members of an object with values that are no objects: by name, those further inside by JSON pointer.
fn members(value: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    let Value::Object(members_of) = value else { return };
    for (name, value) in members_of {
        let inside = format!("{pointer}{}", pointer_part(name));
        match value {
            Value::Null => {}
            Value::Object(_) => members(value, &inside, found),
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                found.push((if pointer.is_empty() { name.clone() } else { inside }, text));
            }
        }
    }
}
