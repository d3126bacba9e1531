//! JSON: one object a line, or an array.

use super::cells::Columns;
use super::writer::RecordWriter;
use crate::core::json::{Tape, to_canonical};
use std::io::{self, Write};

/// The members that are written; all, if nothing is chosen.
struct Members(Option<Columns>);

impl Members {
    fn write(&self, tape: &Tape, out: &mut Vec<u8>) {
        let Some(columns) = &self.0 else { return tape.write_canonical(out) };
        out.push(b'{');
        let chosen = tape.root().members().filter(|(name, _)| columns.has(name));
        for (n, (name, value)) in chosen.enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&to_canonical(name));
            out.push(b':');
            value.write_canonical(out);
        }
        out.push(b'}');
    }
}

/// NDJSON.
pub(super) struct Lines<W> {
    out: W,
    members: Members,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W, columns: Option<Columns>) -> Self {
        Self { out, members: Members(columns), line: Vec::new() }
    }
}

impl<W: Write> RecordWriter for Lines<W> {
    fn record(&mut self, tape: &Tape) -> io::Result<()> {
        self.line.clear();
        self.members.write(tape, &mut self.line);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn whole(&mut self, text: &[u8]) -> io::Result<bool> {
        if self.members.0.is_some() {
            return Ok(false);
        }
        self.out.write_all(text).map(|()| true)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// An array with a record a line.
pub(super) struct Array<W> {
    lines: Lines<W>,
    is_empty: bool,
}

impl<W: Write> Array<W> {
    pub(super) fn begin(mut out: W, columns: Option<Columns>) -> io::Result<Self> {
        out.write_all(b"[")?;
        Ok(Self { lines: Lines::new(out, columns), is_empty: true })
    }
}

impl<W: Write> RecordWriter for Array<W> {
    fn record(&mut self, tape: &Tape) -> io::Result<()> {
        let Lines { out, members, line } = &mut self.lines;
        line.clear();
        line.extend_from_slice(if std::mem::take(&mut self.is_empty) { b"\n" } else { b",\n" });
        members.write(tape, line);
        out.write_all(line)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.lines.out.write_all(b"\n]\n")?;
        self.lines.out.flush()
    }
}
