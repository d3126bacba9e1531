//! Export of records: NDJSON unchanged, or CSV with the schema's properties as columns.

use super::Form;
use crate::schema::Schema;
use serde_json::{Map, Value};
use std::io;

/// Converts frames of canonical NDJSON to a local format.
pub struct Export {
    csv: Option<Columns>,
}

struct Columns {
    names: Vec<String>,
    header_written: bool,
}

impl Export {
    /// Creates an exporter for a schema. CSV has all properties as columns, in the schema's order; lists and objects are
    /// written as JSON.
    pub fn new(form: Form, schema: &Schema) -> Self {
        let names = || schema.columns().into_iter().map(|(name, _)| name.to_owned()).collect();
        let csv = (form == Form::Csv).then(|| Columns { names: names(), header_written: false });
        Self { csv }
    }

    /// Converts the records of one frame.
    pub fn frame(&mut self, frame: &[u8]) -> io::Result<Vec<u8>> {
        let Some(columns) = &mut self.csv else { return Ok(frame.to_vec()) };
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        if !std::mem::replace(&mut columns.header_written, true) {
            writer.write_record(&columns.names)?;
        }
        for line in frame.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let record: Map<String, Value> = serde_json::from_slice(line)?;
            writer.write_record(columns.names.iter().map(|name| record.get(name).map(cell).unwrap_or_default()))?;
        }
        writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
