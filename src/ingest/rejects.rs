//! Divides a file into the records that are published and those that are left out, with the reason beside each.

use super::{Chunks, Format, csv, ndjson};
use crate::dataset::assemble::Chunk;
use crate::schema::{Schema, Violation};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// The column of a CSV file with the reason why a row was left out; it is not read.
pub const PROBLEM: &str = "x-problem";

/// Copies the records of `source` that are not in `rejected` to `valid`, the others with their reasons to `rejects`.
pub fn divide(
    source: impl Read,
    format: Format,
    schema: &Schema,
    rejected: &BTreeMap<u64, Vec<Violation>>,
    mut valid: impl Write,
    mut rejects: impl Write,
) -> io::Result<()> {
    let (mut chunks, _) = Chunks::open(source, format, schema)?;
    let (mut is_first, mut again) = (true, false);
    while let Some(chunk) = chunks.next_chunk()? {
        if std::mem::take(&mut is_first) && format == Format::Csv {
            valid.write_all(&chunk.head)?;
            let header = chunk.head.trim_ascii_end();
            // The file of an earlier rejection has the column already.
            again = header.ends_with(PROBLEM.as_bytes());
            rejects.write_all(header)?;
            writeln!(rejects, "{}", if again { String::new() } else { format!(",{PROBLEM}") })?;
        }
        let mut result = Ok(());
        raw(&chunk, format, &mut |line, record| {
            if result.is_err() {
                return;
            }
            result = match rejected.get(&line) {
                None => valid.write_all(record).and_then(|()| valid.write_all(b"\n")),
                Some(violations) => {
                    let record = if again { csv::without_last_cell(record) } else { record };
                    rejects.write_all(&with_reason(record, violations, format))
                }
            };
        });
        result?;
    }
    valid.flush()?;
    rejects.flush()
}

fn raw(chunk: &Chunk, format: Format, each: &mut dyn FnMut(u64, &[u8])) {
    match format {
        Format::Csv => csv::raw_rows(chunk, each),
        Format::Ndjson => ndjson::raw_lines(chunk, each),
    }
}

fn with_reason(record: &[u8], violations: &[Violation], format: Format) -> Vec<u8> {
    let reason = |violation: &Violation| {
        let Violation { pointer, rule, reason } = violation;
        format!("{pointer}: {reason} [{rule}]").trim_start_matches(": ").to_owned()
    };
    let reasons: Vec<String> = violations.iter().map(reason).collect();
    let reasons = reasons.join("; ");
    let mut line = match format {
        Format::Ndjson => ndjson::with_problem(record, &reasons),
        Format::Csv => [record, b",\"", reasons.replace('"', "\"\"").as_bytes(), b"\""].concat(),
    };
    line.push(b'\n');
    line
}
