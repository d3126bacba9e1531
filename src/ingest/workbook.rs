//! The rows of a workbook's sheet as CSV.

use super::csv::write_row;
use super::format::Format;
use super::invalid;
use super::markup::Markup;
use super::ods::Ods;
use super::piped::{apart, piped};
use super::reading::Reading;
use super::shown::text_of;
use crate::core::limits;
use calamine::{DataRef, Dimensions, Reader, SheetType, SheetVisible, Xls, Xlsx};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

/// The first rows of a sheet.
pub struct Outline {
    /// The sheets that people see.
    pub sheets: Vec<String>,
    /// Rows from 1, with the texts of their cells.
    pub rows: Vec<(u64, Vec<String>)>,
    /// The merged cells, by row and column from 0.
    pub merged: Vec<Dimensions>,
}

/// The rows of a sheet as CSV: the row of the header has the names of all rows that make it up.
pub fn rows(file: File, format: Format, reading: &Reading) -> io::Result<impl Read + Send + use<>> {
    let (sheet, header) = (reading.sheet.clone(), reading.header);
    let most = limits::UNPACKED_BYTES_SMALL.max(file.metadata()?.len().saturating_mul(limits::UNPACKED_RATIO_MAX));
    Ok(piped(move |out| {
        let mut book = Book::open(file, format)?;
        let sheet = book.sheet(sheet.as_deref())?;
        let merged = book.merged(&sheet)?;
        let down = Down::new(&merged);
        let merged = of_head(merged);
        let mut writer = Writer { out, header, merged, down, head: Vec::new(), width: 0, next: 1, written: 0, most };
        book.each_row(&sheet, &mut |row, cells| writer.row(row, cells))?;
        writer.end()
    }))
}

/// The first rows of a sheet. On a thread of its own, so that a damaged file harms nobody else.
pub fn outline(file: File, format: Format, sheet: Option<&str>) -> io::Result<Outline> {
    let sheet = sheet.map(str::to_owned);
    apart(move || {
        let mut book = Book::open(file, format)?;
        let (sheets, sheet) = (book.sheets(), book.sheet(sheet.as_deref())?);
        let (merged, mut rows, mut size) = (of_head(book.merged(&sheet)?), Vec::new(), 0);
        book.each_row(&sheet, &mut |row, cells| {
            if cells.iter().any(|cell| !cell.trim().is_empty()) {
                size += cells.iter().map(|cell| cell.len() + size_of::<String>()).sum::<usize>();
                rows.push((row, cells.to_vec()));
            }
            Ok(rows.len() < limits::SAMPLE_ROWS_MAX && size < limits::SAMPLE_BYTES_MAX)
        })?;
        Ok(Outline { sheets, rows, merged })
    })
}

/// The merged cells that may belong to a header.
fn of_head(mut merged: Vec<Dimensions>) -> Vec<Dimensions> {
    merged.retain(|area| area.start.0 < limits::HEADER_LINE_MAX);
    merged.truncate(HEADER_MERGED_MAX);
    merged
}

/// Merged cells that are looked at in a header.
const HEADER_MERGED_MAX: usize = 10_000;

/// An open workbook.
enum Book {
    Xlsx(Box<Xlsx<BufReader<File>>>),
    Xls(Box<Xls<BufReader<File>>>),
    Ods(Box<Ods>),
}

fn broken(error: impl std::fmt::Display) -> io::Error {
    let error = error.to_string();
    match error.to_lowercase().contains("password") {
        true => invalid("the workbook is protected by a password; save it without one"),
        false => invalid(format!("the workbook cannot be read: {error}")),
    }
}

impl Book {
    fn open(mut file: File, format: Format) -> io::Result<Self> {
        Ok(match format {
            Format::Xls => Self::Xls(Box::new(Xls::new(BufReader::new(file)).map_err(broken)?)),
            Format::Ods => Self::Ods(Box::new(Ods::open(file)?)),
            _ => {
                check_unpacked(&file)?;
                file.rewind()?;
                Self::Xlsx(Box::new(Xlsx::new(BufReader::new(file)).map_err(broken)?))
            }
        })
    }

    /// The sheets that people see.
    fn sheets(&self) -> Vec<String> {
        let all = match self {
            Self::Xlsx(book) => book.sheets_metadata(),
            Self::Xls(book) => book.sheets_metadata(),
            Self::Ods(book) => return book.sheets.clone(),
        };
        let seen = all.iter().filter(|s| s.typ == SheetType::WorkSheet && s.visible == SheetVisible::Visible);
        seen.map(|sheet| sheet.name.clone()).collect()
    }

    /// The sheet with this name, or the first one.
    fn sheet(&self, name: Option<&str>) -> io::Result<String> {
        let sheets = self.sheets();
        let found = match name {
            Some(name) => sheets.iter().find(|sheet| *sheet == name),
            None => sheets.first(),
        };
        let names = || sheets.iter().take(limits::NAMES_IN_ERRORS_MAX).cloned().collect::<Vec<_>>().join(", ");
        found.cloned().ok_or_else(|| {
            let name = name.unwrap_or_default();
            invalid(format!("the workbook has no sheet `{name}`; it has: {}", names()))
        })
    }

    fn merged(&mut self, sheet: &str) -> io::Result<Vec<Dimensions>> {
        let merged = match self {
            Self::Xlsx(book) => book.merge_cells_by_sheet_name(sheet).unwrap_or_default(),
            Self::Xls(book) => book.merge_cells_by_sheet_name(sheet).unwrap_or_default(),
            Self::Ods(book) => book.merged(sheet)?,
        };
        match merged.len() > limits::SHEET_MERGED_MAX {
            true => Err(invalid(format!("the sheet has more than {} merged cells", limits::SHEET_MERGED_MAX))),
            false => Ok(merged),
        }
    }

    /// Calls `each` with each row, from 1, and the texts of its cells, until it returns false.
    fn each_row(&mut self, sheet: &str, each: &mut dyn FnMut(u64, &[String]) -> io::Result<bool>) -> io::Result<()> {
        let range = match self {
            Self::Xlsx(book) => return each_row_of_cells(book, sheet, each),
            Self::Xls(book) => book.worksheet_range(sheet).map_err(broken)?,
            Self::Ods(book) => return book.each_row(sheet, each),
        };
        let Some((first_row, first_column)) = range.start() else { return Ok(()) };
        if range.width() > limits::CSV_COLUMNS_MAX {
            return Err(too_wide());
        }
        let mut cells = Vec::new();
        for (n, row) in range.rows().enumerate() {
            cells.clear();
            cells.resize(first_column as usize, String::new());
            cells.extend(row.iter().map(text_of));
            if !each(u64::from(first_row) + n as u64 + 1, &cells)? {
                break;
            }
        }
        Ok(())
    }
}

/// The rows of a sheet that is read cell by cell.
fn each_row_of_cells(
    book: &mut Xlsx<BufReader<File>>,
    sheet: &str,
    each: &mut dyn FnMut(u64, &[String]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut reader = book.worksheet_cells_reader(sheet).map_err(broken)?;
    let (mut row, mut cells, mut size) = (0, Vec::new(), 0);
    while let Some(cell) = reader.next_cell_with_formula_metadata().map_err(broken)? {
        let ((at, column), value) = (cell.pos, cell.value);
        if at < row || u64::from(at) >= limits::SHEET_ROWS_MAX {
            return Err(invalid("the rows of the workbook are not in order; save it again"));
        }
        if at > row {
            if !cells.is_empty() && !each(u64::from(row) + 1, &cells)? {
                return Ok(());
            }
            cells.clear();
            (row, size) = (at, 0);
        }
        if matches!(value, DataRef::Empty) {
            if cell.formula.is_some() {
                let place = place(at, column);
                return Err(invalid(format!(
                    "the cell {place} has a formula whose value is not stored: open the workbook in a spreadsheet program \
                     and save it"
                )));
            }
            continue;
        }
        size += match &value {
            DataRef::SharedString(text) => text.len(),
            DataRef::String(text) => text.len(),
            _ => 0,
        };
        if column as usize >= limits::CSV_COLUMNS_MAX || size > limits::RECORD_BYTES_MAX {
            return Err(too_wide());
        }
        if cells.len() <= column as usize {
            cells.resize(column as usize + 1, String::new());
        }
        cells[column as usize] = text_of(&value.into());
    }
    if !cells.is_empty() {
        each(u64::from(row) + 1, &cells)?;
    }
    Ok(())
}

/// A cell's name, as spreadsheets show it.
fn place(row: u32, column: u32) -> String {
    let (mut letters, mut rest) = (Vec::new(), column + 1);
    while rest > 0 {
        letters.insert(0, b'A' + ((rest - 1) % 26) as u8);
        rest = (rest - 1) / 26;
    }
    format!("{}{}", String::from_utf8_lossy(&letters), row + 1)
}

fn too_wide() -> io::Error {
    let (columns, bytes) = (limits::CSV_COLUMNS_MAX, limits::RECORD_BYTES_MAX);
    invalid(format!("a row of the sheet has more than {columns} columns or {bytes} bytes"))
}

/// Fails if the parts that are read as a whole would fill the memory.
fn check_unpacked(file: &File) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| match error {
        zip::result::ZipError::InvalidArchive(_) => invalid("the file is not a workbook of this format"),
        other => broken(other),
    })?;
    if archive.len() > limits::ZIP_ENTRIES_MAX {
        return Err(invalid(format!("the workbook has more than {} parts", limits::ZIP_ENTRIES_MAX)));
    }
    let mut left = limits::WORKBOOK_UNPACKED_BYTES_MAX;
    for at in 0..archive.len() {
        let part = archive.by_index(at).map_err(broken)?;
        // Sheets are read row by row. Any other part may be read whole, wherever it is.
        let name = part.name().map_err(broken)?.into_owned();
        if is_sheet(&name) {
            io::copy(&mut Markup::new(part), &mut io::sink())?;
            continue;
        }
        left -= io::copy(&mut part.take(left + 1), &mut io::sink()).map_err(broken)?.min(left);
        if left == 0 {
            let most = limits::WORKBOOK_UNPACKED_BYTES_MAX >> 20;
            return Err(invalid(format!("the workbook has more than {most} MiB unpacked; save it as CSV")));
        }
    }
    Ok(())
}

/// Whether a part of a workbook is a sheet, by its name. Texts are where the workbook is, which may be beside the sheets.
fn is_sheet(name: &str) -> bool {
    let file = name.strip_prefix("xl/worksheets/").unwrap_or_default().to_lowercase();
    !file.is_empty() && !file.contains('/') && !["sharedstrings.xml", "styles.xml"].contains(&file.as_str())
}

/// Writes rows as CSV.
struct Writer<'a> {
    out: &'a mut dyn Write,
    header: u32,
    merged: Vec<Dimensions>,
    down: Down,
    /// The rows up to the header.
    head: Vec<(u64, Vec<String>)>,
    /// Columns of the header.
    width: usize,
    next: u64,
    written: u64,
    /// Bytes that may be written: more than any sheet that is not made for it.
    most: u64,
}

/// Cells that are merged over several rows of one column: all of these rows have the value.
struct Down {
    /// The last row, by the first row and column.
    ends: HashMap<(u32, u32), u32>,
    /// Last row and value of the columns where such cells are under way.
    open: BTreeMap<u32, (u32, String)>,
}

impl Down {
    fn new(merged: &[Dimensions]) -> Self {
        let areas = merged.iter().filter(|area| area.start.1 == area.end.1 && area.end.0 > area.start.0);
        Self { ends: areas.map(|area| (area.start, area.end.0)).collect(), open: BTreeMap::new() }
    }

    /// Fills the cells of a row that has other values, too.
    fn fill(&mut self, row: u32, cells: &mut Vec<String>) {
        if self.ends.is_empty() {
            return;
        }
        self.open.retain(|_, (end, _)| *end >= row);
        if cells.iter().any(|cell| !cell.is_empty()) {
            for (column, (_, value)) in &self.open {
                let column = *column as usize;
                cells.resize(cells.len().max(column + 1), String::new());
                if cells[column].is_empty() {
                    cells[column].clone_from(value);
                }
            }
        }
        for (column, cell) in cells.iter().enumerate() {
            if let Some(end) = self.ends.get(&(row, column as u32)) {
                self.open.insert(column as u32, (*end, cell.clone()));
            }
        }
    }
}

impl Writer<'_> {
    fn row(&mut self, row: u64, cells: &[String]) -> io::Result<bool> {
        let header = u64::from(self.header);
        if row <= header {
            self.head.push((row, cells.to_vec()));
        }
        if row >= header && self.width == 0 {
            self.write_head(if row == header { None } else { Some(cells.len()) })?;
        }
        if row > header {
            let mut cells = cells.to_vec();
            self.down.fill(row as u32 - 1, &mut cells);
            self.line(row, &cells)?;
        }
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.width == 0 { self.write_head(None) } else { Ok(()) }
    }

    /// Writes the rows up to the header; those that make it up become one.
    fn write_head(&mut self, width: Option<usize>) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        self.width = width.or(head.last().map(|(_, cells)| cells.len())).unwrap_or(1).max(1);
        let header = u64::from(self.header);
        let from = header_begins(&head, &self.merged, header);
        for (row, cells) in head.iter().filter(|(row, _)| *row < from) {
            self.line(*row, cells)?;
        }
        if head.iter().any(|(row, _)| *row >= from) {
            let names = names(&head, &self.merged, from, header);
            self.width = names.len();
            self.line(header, &names)?;
        }
        Ok(())
    }

    /// Writes a row in its place.
    fn line(&mut self, row: u64, cells: &[String]) -> io::Result<()> {
        while self.next < row {
            self.out.write_all(b"\n")?;
            self.next += 1;
        }
        self.next += 1;
        let size: usize = cells.iter().map(|cell| cell.len() + 1).sum();
        if size > limits::RECORD_BYTES_MAX {
            return Err(too_wide());
        }
        self.written += size as u64;
        if self.written > self.most {
            return Err(invalid("the text of the sheet is very much longer than its file; save it as CSV"));
        }
        let blank = String::new();
        let columns = 0..cells.len().max(self.width);
        write_row(self.out, columns.map(|at| cells.get(at).unwrap_or(&blank).as_str()))
    }
}

/// The names of the columns, by a header that ends at this row.
pub fn header(rows: &[(u64, Vec<String>)], merged: &[Dimensions], header: u64) -> Vec<String> {
    let head: Vec<(u64, Vec<String>)> = rows.iter().filter(|(row, _)| *row <= header).cloned().collect();
    names(&head, merged, header_begins(&head, merged, header), header)
}

/// The first row of the header that ends at `header`: above it are rows with cells merged over some of the columns.
fn header_begins(head: &[(u64, Vec<String>)], merged: &[Dimensions], header: u64) -> u64 {
    let width = head.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0) as u32;
    let groups = |row: u64| {
        merged.iter().any(|area| {
            let columns = area.end.1 - area.start.1 + 1;
            let within = u64::from(area.start.0) < row && row <= u64::from(area.end.0) + 1;
            // A title spans all columns, and names none.
            within && columns < width && (columns > 1 || u64::from(area.end.0) + 1 >= header)
        })
    };
    let mut from = header;
    while from > 1 && groups(from - 1) {
        from -= 1;
    }
    from
}

/// The names of the columns: the texts above each other, of merged cells in all of their columns.
fn names(head: &[(u64, Vec<String>)], merged: &[Dimensions], from: u64, header: u64) -> Vec<String> {
    let rows = || head.iter().filter(|(row, _)| (from..=header).contains(row));
    let width = rows().map(|(_, cells)| cells.len()).max().unwrap_or(1);
    let text = |row: u64, column: usize| {
        let (at, column) = (row as u32 - 1, column as u32);
        let inside = |area: &&Dimensions| {
            (area.start.0..=area.end.0).contains(&at) && (area.start.1..=area.end.1).contains(&column)
        };
        let (at, column) = merged.iter().find(inside).map_or((at, column), |area| area.start);
        let row = head.iter().find(|(row, _)| *row == u64::from(at) + 1);
        row.and_then(|(_, cells)| cells.get(column as usize)).map(|cell| cell.trim().to_owned()).unwrap_or_default()
    };
    let name = |column: usize| {
        let mut parts: Vec<String> = (from..=header).map(|row| text(row, column)).collect();
        parts.retain(|part| !part.is_empty());
        parts.dedup();
        parts.join(" ")
    };
    (0..width).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sheets_are_not_read_whole() {
        for (name, expected) in [
            ("xl/worksheets/sheet1.xml", true),
            ("xl/worksheets/Data.xml", true),
            ("xl/worksheets/sharedStrings.xml", false),
            ("xl/worksheets/_rels/sheet1.xml.rels", false),
            ("xl/media/image1.png", false),
            ("xl/sharedStrings.xml", false),
        ] {
            assert_eq!(is_sheet(name), expected, "{name}");
        }
    }

    #[test]
    fn merged_headers_name_their_columns() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let head = [
            (1, row(&["园区企业统计表", "", "", ""])),
            (2, row(&["企业名称", "2023年", "", "备注"])),
            (3, row(&["", "收入", "利润", ""])),
        ];
        let area = |from: (u32, u32), to: (u32, u32)| Dimensions::new(from, to);
        let merged = [area((0, 0), (0, 3)), area((1, 0), (2, 0)), area((1, 1), (1, 2)), area((1, 3), (2, 3))];
        let from = header_begins(&head, &merged, 3);
        assert_eq!(from, 2);
        assert_eq!(names(&head, &merged, from, 3), ["企业名称", "2023年 收入", "2023年 利润", "备注"]);
        assert_eq!(names(&head, &[], 2, 2), ["企业名称", "2023年", "", "备注"]);
    }
}
