//! OpenDocument spreadsheets (ISO/IEC 26300-1), row by row.

use super::invalid;
use super::markup::Markup;
use super::shown::number_text;
use crate::core::limits;
use calamine::Dimensions;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

type Archive = zip::ZipArchive<BufReader<File>>;

/// A spreadsheet.
pub struct Ods {
    archive: Archive,
    /// The sheets that people see.
    pub sheets: Vec<String>,
}

fn broken(error: impl std::fmt::Display) -> io::Error {
    invalid(format!("the workbook cannot be read: {error}"))
}

/// The rows with values of a sheet, as they come.
type Each<'a> = dyn FnMut(u64, &[String]) -> io::Result<bool> + 'a;

impl Ods {
    /// Reads the names of the sheets.
    pub fn open(file: File) -> io::Result<Self> {
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        let mut manifest = String::new();
        if let Ok(part) = archive.by_name("META-INF/manifest.xml") {
            part.take(limits::RECORD_BYTES_MAX as u64).read_to_string(&mut manifest)?;
        }
        if manifest.contains("encryption-data") {
            return Err(invalid("the workbook is protected by a password; save it without one"));
        }
        let sheets = sheets(&mut archive)?;
        Ok(Self { archive, sheets })
    }

    /// The merged cells of a sheet's first rows.
    pub fn merged(&mut self, sheet: &str) -> io::Result<Vec<Dimensions>> {
        let mut merged = Vec::new();
        self.read(sheet, &mut |row, _| Ok(row < u64::from(limits::HEADER_LINE_MAX)), &mut |area| {
            if area.start.0 < limits::HEADER_LINE_MAX {
                merged.push(area);
            }
        })?;
        Ok(merged)
    }

    /// Calls `each` with each row that has values, from 1, until it returns false.
    pub fn each_row(&mut self, sheet: &str, each: &mut Each<'_>) -> io::Result<()> {
        self.read(sheet, each, &mut |_| ())
    }

    fn read(&mut self, sheet: &str, each: &mut Each<'_>, merged: &mut dyn FnMut(Dimensions)) -> io::Result<()> {
        let mut xml = content(&mut self.archive)?;
        let (mut buffer, mut found) = (Vec::new(), false);
        let (mut row, mut cells) = (1, Vec::new());
        loop {
            buffer.clear();
            match xml.read_event_into(&mut buffer).map_err(broken)? {
                Event::Start(start) if is(&start, "table") => {
                    found = attribute(&start, "name")?.is_some_and(|name| name == sheet);
                }
                Event::Start(start) if found && is(&start, "table-row") => {
                    let times = count(&start, "number-rows-repeated")?;
                    read_row(&mut xml, row, &mut cells, merged)?;
                    for repeated in 0..times {
                        // Blank rows are repeated up to the last one that there can be.
                        if cells.is_empty() || row + repeated > limits::SHEET_ROWS_MAX {
                            break;
                        }
                        if !each(row + repeated, &cells)? {
                            return Ok(());
                        }
                    }
                    row += times;
                }
                Event::End(end) if found && end.local_name().as_ref() == "table" => return Ok(()),
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }
}

fn content(archive: &mut Archive) -> io::Result<Reader<impl BufRead + '_>> {
    let part = archive.by_name("content.xml").map_err(broken)?;
    let mut xml = Reader::from_reader(BufReader::with_capacity(1 << 16, Markup::new(part)));
    xml.config_mut().expand_empty_elements = true;
    Ok(xml)
}

fn is(start: &BytesStart<'_>, name: &str) -> bool {
    start.local_name().as_ref() == name
}

fn attribute(start: &BytesStart<'_>, name: &str) -> io::Result<Option<String>> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(broken)?;
        if attribute.key.local_name().as_ref() == name {
            return Ok(Some(attribute.normalized_value(XmlVersion::Implicit1_0).map_err(broken)?.into_owned()));
        }
    }
    Ok(None)
}

fn count(start: &BytesStart<'_>, name: &str) -> io::Result<u64> {
    Ok(attribute(start, name)?.and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, limits::SHEET_ROWS_MAX))
}

/// The sheets whose style does not hide them.
fn sheets(archive: &mut Archive) -> io::Result<Vec<String>> {
    let mut xml = content(archive)?;
    let (mut buffer, mut style, mut hidden, mut found) = (Vec::new(), None, Vec::new(), Vec::new());
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).map_err(broken)? {
            Event::Start(start) if is(&start, "style") => style = attribute(&start, "name")?,
            Event::Start(start) if is(&start, "table-properties") => {
                let is_hidden = attribute(&start, "display")?.as_deref() == Some("false");
                hidden.extend(style.take().filter(|_| is_hidden));
            }
            Event::Start(start) if is(&start, "table") => {
                let is_hidden = attribute(&start, "style-name")?.is_some_and(|style| hidden.contains(&style));
                let name = attribute(&start, "name")?.filter(|_| !is_hidden);
                found.extend(name);
                if found.len() > limits::ZIP_ENTRIES_MAX {
                    return Err(invalid("the workbook has too many sheets"));
                }
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

/// Reads the cells of a row up to the last one with a value.
fn read_row(
    xml: &mut Reader<impl BufRead>,
    row: u64,
    cells: &mut Vec<String>,
    merged: &mut dyn FnMut(Dimensions),
) -> io::Result<()> {
    cells.clear();
    let (mut buffer, mut column, mut size) = (Vec::new(), 0, 0);
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).map_err(broken)? {
            Event::Start(start) if is(&start, "table-cell") || is(&start, "covered-table-cell") => {
                let times = count(&start, "number-columns-repeated")?;
                let (columns, rows) = (count(&start, "number-columns-spanned")?, count(&start, "number-rows-spanned")?);
                if columns > 1 || rows > 1 {
                    let (at, from) = (row as u32 - 1, column as u32);
                    merged(Dimensions::new((at, from), (at + rows as u32 - 1, from + columns as u32 - 1)));
                }
                let value = read_cell(xml, &start.to_owned())?;
                if !value.is_empty() {
                    size += value.len().saturating_mul(times as usize);
                    if column + times > limits::CSV_COLUMNS_MAX as u64 || size > limits::RECORD_BYTES_MAX {
                        let (columns, bytes) = (limits::CSV_COLUMNS_MAX, limits::RECORD_BYTES_MAX);
                        return Err(invalid(format!(
                            "a row of the sheet has more than {columns} columns or {bytes} bytes"
                        )));
                    }
                    cells.resize(column as usize, String::new());
                    cells.resize((column + times) as usize, value);
                }
                column += times;
            }
            Event::End(end) if end.local_name().as_ref() == "table-row" => return Ok(()),
            Event::Eof => return Err(broken("it is cut off")),
            _ => {}
        }
    }
}

/// The value of a cell (OpenDocument 1.2 part 1, section 19.385), read up to the cell's end.
fn read_cell(xml: &mut Reader<impl BufRead>, start: &BytesStart<'_>) -> io::Result<String> {
    let text = read_text(xml)?;
    let stated = |name: &str| attribute(start, name);
    Ok(match stated("value-type")?.as_deref() {
        Some("float" | "percentage" | "currency") => {
            let value = stated("value")?.unwrap_or_default();
            value.parse().map(number_text).unwrap_or(value)
        }
        Some("date") => {
            let date = stated("date-value")?.unwrap_or_default();
            date.strip_suffix("T00:00:00").unwrap_or(&date).to_owned()
        }
        Some("time") => stated("time-value")?.unwrap_or_default(),
        Some("boolean") => stated("boolean-value")?.unwrap_or_default(),
        Some(_) => stated("string-value")?.filter(|value| !value.is_empty()).unwrap_or(text),
        None => text,
    })
}

/// The paragraphs of a cell, without its comments.
fn read_text(xml: &mut Reader<impl BufRead>) -> io::Result<String> {
    let (mut buffer, mut text, mut depth, mut comment) = (Vec::new(), String::new(), 1, 0);
    while depth > 0 {
        buffer.clear();
        match xml.read_event_into(&mut buffer).map_err(broken)? {
            Event::Start(start) => {
                depth += 1;
                match start.local_name().as_ref() {
                    _ if comment > 0 => {}
                    "annotation" => comment = depth,
                    "p" if !text.is_empty() => text.push('\n'),
                    "s" => (0..count(&start, "c")?.min(1_000)).for_each(|_| text.push(' ')),
                    "tab" => text.push('\t'),
                    "line-break" => text.push('\n'),
                    _ => {}
                }
            }
            Event::End(_) => {
                comment = if comment == depth { 0 } else { comment };
                depth -= 1;
            }
            Event::Text(part) if comment == 0 => text.push_str(&part.xml10_content()),
            Event::GeneralRef(name) if comment == 0 => match name.resolve_char_ref().map_err(broken)? {
                Some(c) => text.push(c),
                None => text.push_str(resolve_predefined_entity(&name).unwrap_or_default()),
            },
            Event::Eof => return Err(broken("it is cut off")),
            _ => {}
        }
        if text.len() > limits::RECORD_BYTES_MAX {
            return Err(invalid("a cell of the workbook is too long"));
        }
    }
    Ok(text)
}
