//! CSV: RFC 4180, with the properties as columns.

use super::cells::{Cell, Columns};
use super::writer::RecordWriter;
use crate::core::json::Tape;
use std::borrow::Cow;
use std::io::{self, Write};

pub(super) struct Table<W: Write> {
    out: csv::Writer<W>,
    columns: Columns,
    raw: bool,
}

impl<W: Write> Table<W> {
    pub(super) fn begin(mut out: W, columns: Columns, mark: bool, raw: bool) -> io::Result<Self> {
        if mark {
            out.write_all("\u{FEFF}".as_bytes())?;
        }
        let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        out.write_record(columns.iter().map(|column| &column.name))?;
        Ok(Self { out, columns, raw })
    }
}

impl<W: Write> RecordWriter for Table<W> {
    fn record(&mut self, tape: &Tape) -> io::Result<()> {
        for cell in self.columns.cells(tape)? {
            match cell {
                Cell::Text(text) if !self.raw => self.out.write_field(harmless(text).as_bytes())?,
                cell => self.out.write_field(cell.text())?,
            }
        }
        Ok(self.out.write_record(None::<&[u8]>)?)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// A text with an apostrophe before it, if a spreadsheet would run it as a formula.
fn harmless(text: &str) -> Cow<'_, str> {
    let runs = match text.chars().next() {
        Some('=' | '@' | '\t' | '\r') => true,
        // Numbers and telephone numbers are none.
        Some('+' | '-') => text[1..].chars().any(|c| !c.is_ascii_digit() && !matches!(c, ' ' | '.' | ',')),
        _ => false,
    };
    if runs { format!("'{text}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_texts() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
            ("+1+A1", "'+1+A1"),
            ("\t=1", "'\t=1"),
            ("-5.5", "-5.5"),
            ("+86 10 1234 5678", "+86 10 1234 5678"),
            ("a=1", "a=1"),
            ("-", "-"),
            ("", ""),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }
}
