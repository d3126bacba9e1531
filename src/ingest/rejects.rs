//! Divides a file into the records that are published and those that are left out, with the reason beside each.

use super::cells::PROBLEM;
use super::csv::RawRow;
use super::{Chunks, Form, Input, csv, ndjson};
use crate::schema::Violation;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Copies the records of `text` that are not in `rejected` to `valid`, the others with their reasons to `rejects`.
pub fn divide(
    text: Input<'_>,
    rejected: &BTreeMap<u64, Vec<Violation>>,
    mut valid: impl Write,
    mut rejects: impl Write,
) -> io::Result<()> {
    let (form, syntax, reading, marked) = (text.form, text.syntax, text.reading.clone(), text.marked);
    let mut chunks = Chunks::begin(text)?;
    let mut columns = (0, None);
    if form == Form::Csv {
        columns = chunks.text_decoder(syntax, &reading)?.problem_column();
        valid.write_all(chunks.head())?;
        if marked {
            rejects.write_all("\u{FEFF}".as_bytes())?;
        }
        // The file of an earlier rejection has the column already.
        rejects.write_all(chunks.head().trim_ascii_end())?;
        if columns.1.is_none() {
            rejects.write_all(&[syntax.delimiter])?;
            rejects.write_all(PROBLEM.as_bytes())?;
        }
        rejects.write_all(b"\n")?;
    }
    while let Some(chunk) = chunks.next_chunk()? {
        let mut result = Ok(());
        let mut put = |work: &mut dyn FnMut() -> io::Result<()>| {
            if result.is_ok() {
                result = work();
            }
        };
        match form {
            Form::Csv => csv::raw_rows(&chunk, syntax, &mut |row| {
                put(&mut || match rejected.get(&row.line) {
                    None => whole_line(&mut valid, row.bytes),
                    Some(violations) => {
                        whole_line(&mut rejects, &row_with_reason(row, syntax.delimiter, columns, violations))
                    }
                });
            }),
            Form::Ndjson => ndjson::raw_lines(&chunk, &mut |line, record| {
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
fn row_with_reason(
    row: &RawRow<'_>,
    delimiter: u8,
    (columns, problem): (usize, Option<usize>),
    violations: &[Violation],
) -> Vec<u8> {
    let cell = format!("\"{}\"", reasons(violations).replace('"', "\"\""));
    let content = row.content();
    // A row with too few or too many cells keeps them all.
    match problem.filter(|_| row.cells.len() == columns).and_then(|at| row.cells.get(at)) {
        Some(old) => [&content[..old.start], cell.as_bytes(), &content[old.end..]].concat(),
        None => [content, &[delimiter], cell.as_bytes()].concat(),
    }
}
