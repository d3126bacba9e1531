//! A workbook (ECMA-376) with the records on one sheet and their origin on another. It is written from beginning to end:
//! libraries keep the rows in memory or in a file, and no file of a node has records in plaintext. Texts stand in their
//! cells, so no text is ever a formula.

use super::cells::{Cell, Columns, Holds};
use super::writer::{Origin, RecordWriter};
use crate::core::json::Tape;
use crate::core::limits;
use jiff::civil;
use std::fmt::Write as _;
use std::io::{self, Write};
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

pub(super) struct Book<W: Write> {
    out: ZipWriter<StreamWriter<W>>,
    columns: Columns,
    origin: Origin,
    row: u64,
    bytes: u64,
    xml: String,
}

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;

const TYPES: &str = r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/worksheets/sheet2.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/></Types>"#;

const ROOT: &str = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;

const BOOK: &str = r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="data" sheetId="1" r:id="rId1"/><sheet name="provenance" sheetId="2" r:id="rId2"/></sheets></workbook>"#;

const SHEETS: &str = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet2.xml"/><Relationship Id="rId3" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#;

/// Styles: 0 as it is, 1 bold, 2 a date, 3 a text, which stays one when a person edits it.
const STYLES: &str = r#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd"/></numFmts><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts><fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders><cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs><cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/><xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/><xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/><xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"#;

/// A sheet whose first row stays in view.
const SHEET: &str = r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><sheetFormatPr defaultRowHeight="15"/><sheetData>"#;
const SHEET_END: &str = "</sheetData></worksheet>";

/// Digits that spreadsheets show of a number.
const DIGITS_MAX: usize = 15;

/// Bytes of a sheet's XML. Spreadsheets do not open larger parts that were written without knowing their size.
const SHEET_XML_BYTES_MAX: u64 = u32::MAX as u64;

fn too_large(most: &str) -> io::Error {
    let problem = format!("a sheet has at most {most}; choose columns or records, or write CSV or Parquet");
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

impl<W: Write> Book<W> {
    pub(super) fn begin(out: W, columns: Columns, origin: &Origin) -> io::Result<Self> {
        let mut out = ZipWriter::new_stream(out);
        for (name, text) in [
            ("[Content_Types].xml", TYPES),
            ("_rels/.rels", ROOT),
            ("xl/workbook.xml", BOOK),
            ("xl/_rels/workbook.xml.rels", SHEETS),
            ("xl/styles.xml", STYLES),
        ] {
            out.start_file(name, SimpleFileOptions::default())?;
            write!(out, "{HEAD}{text}")?;
        }
        out.start_file("xl/worksheets/sheet1.xml", SimpleFileOptions::default())?;
        write!(out, "{HEAD}{SHEET}")?;
        let mut book = Self { out, columns, origin: origin.clone(), row: 0, bytes: 0, xml: String::new() };
        let names: Vec<String> = book.columns.iter().map(|column| column.name.clone()).collect();
        book.texts(&names, 1)?;
        Ok(book)
    }

    /// A row of texts.
    fn texts(&mut self, texts: &[String], style: u32) -> io::Result<()> {
        self.begin_row();
        for text in texts {
            text_cell(&mut self.xml, text, style)?;
        }
        self.end_row()
    }

    fn begin_row(&mut self) {
        self.xml.clear();
        self.xml.push_str("<row>");
    }

    fn end_row(&mut self) -> io::Result<()> {
        self.row += 1;
        self.xml.push_str("</row>");
        self.bytes += self.xml.len() as u64;
        if self.bytes > SHEET_XML_BYTES_MAX - (1 << 20) {
            return Err(too_large("4 GiB"));
        }
        self.out.write_all(self.xml.as_bytes())
    }
}

impl<W: Write> RecordWriter for Book<W> {
    fn record(&mut self, tape: &Tape) -> io::Result<()> {
        if self.row >= limits::SHEET_ROWS_MAX {
            return Err(too_large(&format!("{} rows with the header", limits::SHEET_ROWS_MAX)));
        }
        self.begin_row();
        for (column, cell) in self.columns.iter().zip(self.columns.cells(tape)?) {
            write_cell(&mut self.xml, column.holds, &cell)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", column.name)))?;
        }
        self.end_row()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.write_all(SHEET_END.as_bytes())?;
        self.out.start_file("xl/worksheets/sheet2.xml", SimpleFileOptions::default())?;
        write!(self.out, "{HEAD}{SHEET}")?;
        for (name, value) in std::mem::take(&mut self.origin) {
            self.texts(&[name, value], 0)?;
        }
        self.out.write_all(SHEET_END.as_bytes())?;
        let mut out = self.out.finish()?.into_inner();
        out.flush()
    }
}

fn write_cell(xml: &mut String, holds: Holds, cell: &Cell<'_>) -> io::Result<()> {
    match cell {
        Cell::Nothing => xml.push_str("<c/>"),
        Cell::Boolean(value) => {
            let _ = write!(xml, "<c t=\"b\"><v>{}</v></c>", u8::from(*value));
        }
        Cell::Number(lexeme)
            if lexeme.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX || lexeme.contains(['.', 'e']) =>
        {
            let _ = write!(xml, "<c><v>{lexeme}</v></c>");
        }
        Cell::Text(text) if holds == Holds::Date => match serial(text) {
            Some(days) => {
                let _ = write!(xml, "<c s=\"2\"><v>{days}</v></c>");
            }
            None => text_cell(xml, text, 3)?,
        },
        cell => text_cell(xml, cell.text(), 3)?,
    }
    Ok(())
}

/// A day as spreadsheets count them, from March 1900 on: before, they count a day that was not.
fn serial(text: &str) -> Option<i32> {
    let day: civil::Date = text.parse().ok()?;
    let days = day.since(civil::date(1899, 12, 30)).ok()?.get_days();
    (days >= 61).then_some(days)
}

fn text_cell(xml: &mut String, text: &str, style: u32) -> io::Result<()> {
    if text.encode_utf16().count() > limits::SHEET_CELL_CHARS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a cell has at most {} characters; write CSV or Parquet", limits::SHEET_CELL_CHARS_MAX),
        ));
    }
    let _ = write!(xml, "<c s=\"{style}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">");
    for (at, c) in text.char_indices() {
        match c {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            // What looks like an escape, and what XML cannot hold.
            '_' if is_escape(&text[at..]) => xml.push_str("_x005F_"),
            '\r' | '\u{0}'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => {
                let _ = write!(xml, "_x{:04X}_", c as u32);
            }
            c => xml.push(c),
        }
    }
    xml.push_str("</t></is></c>");
    Ok(())
}

/// `_xHHHH_`, as ECMA-376 part 1 section 22.4.2.4 writes a character that XML cannot hold.
fn is_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 7 && bytes[1] == b'x' && bytes[6] == b'_' && bytes[2..6].iter().all(u8::is_ascii_hexdigit)
}
