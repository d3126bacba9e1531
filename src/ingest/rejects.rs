//! Divides a file into the records that are published and those that are left out, with the reason beside each.

use super::csv::{CsvDecoder, PROBLEM, RawRow};
use super::{Chunks, Format, csv, invalid, ndjson};
use crate::schema::{Schema, Violation};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Copies the records of `source` that are not in `rejected` to `valid`, the others with their reasons to `rejects`.
pub fn divide(
    source: impl Read,
    format: Format,
    schema: &Schema,
    rejected: &BTreeMap<u64, Vec<Violation>>,
    mut valid: impl Write,
    mut rejects: impl Write,
) -> io::Result<()> {
    let mut chunks = Chunks::begin(source, format)?;
    let mut columns = (0, None);
    if format == Format::Csv {
        let header = chunks.header()?;
        columns = CsvDecoder::new(&header, schema).map_err(invalid)?.problem_column();
        valid.write_all(&chunks.head)?;
        // The file of an earlier rejection has the column already.
        rejects.write_all(chunks.head.trim_ascii_end())?;
        rejects.write_all(if columns.1.is_some() { b"\n" } else { &HEADER_END })?;
    }
    while let Some(chunk) = chunks.next_chunk()? {
        let mut result = Ok(());
        let mut put = |work: &mut dyn FnMut() -> io::Result<()>| {
            if result.is_ok() {
                result = work();
            }
        };
        match format {
            Format::Csv => csv::raw_rows(&chunk, &mut |row| {
                put(&mut || match rejected.get(&row.line) {
                    None => whole_line(&mut valid, row.bytes),
                    Some(violations) => whole_line(&mut rejects, &row_with_reason(row, columns, violations)),
                });
            }),
            Format::Ndjson => ndjson::raw_lines(&chunk, &mut |line, record| {
                put(&mut || match rejected.get(&line) {
                    None => whole_line(&mut valid, record),
                    Some(violations) => whole_line(&mut rejects, &ndjson::with_problem(record, &reasons(violations))),
                });
            }),
        }
        result?;
    }
    valid.flush()?;
    rejects.flush()
}

/// What makes the end of a header with one more column.
const HEADER_END: [u8; 11] = *b",x-problem\n";
const _: () = assert!(PROBLEM.len() + 2 == HEADER_END.len());

fn whole_line(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    if line.ends_with(b"\n") { Ok(()) } else { out.write_all(b"\n") }
}

fn reasons(violations: &[Violation]) -> String {
    let reason = |violation: &Violation| {
        let Violation { pointer, rule, reason, .. } = violation;
        format!("{pointer}: {reason} [{rule}]").trim_start_matches(": ").to_owned()
    };
    violations.iter().map(reason).collect::<Vec<_>>().join("; ")
}

/// A row with its reason in a cell at the end, or in the one that has the reason of an earlier rejection.
fn row_with_reason(row: &RawRow<'_>, (columns, problem): (usize, Option<usize>), violations: &[Violation]) -> Vec<u8> {
    let cell = format!("\"{}\"", reasons(violations).replace('"', "\"\""));
    let content = row.content();
    // A row with too few or too many cells keeps them all.
    match problem.filter(|_| row.cells.len() == columns).and_then(|at| row.cells.get(at)) {
        Some(old) => [&content[..old.start], cell.as_bytes(), &content[old.end..]].concat(),
        None => [content, b",", cell.as_bytes()].concat(),
    }
}
