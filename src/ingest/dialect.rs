//! What a sample of a CSV file says of its dialect.

use super::csv::{Rows, Syntax};
use super::reading::{DELIMITERS, Reading};
use crate::core::limits;
use std::collections::BTreeMap;

/// The cells of a sample, by row.
pub struct Sample {
    /// The line of each row that is not blank, and its cells.
    pub rows: Vec<(u64, Vec<String>)>,
}

impl Sample {
    /// Reads a sample with this delimiter. Its last row may be cut.
    pub fn read(text: &str, delimiter: char) -> Self {
        let mut rows = Rows::new(text.as_bytes(), 1, Syntax { delimiter: delimiter as u8, rows: false, first: 1 });
        let mut found = Vec::new();
        while let Some(line) = rows.next_row() {
            let cells = rows.cells().map(|cell| String::from_utf8_lossy(cell).into_owned());
            let cells: Vec<String> = cells.take(limits::CSV_COLUMNS_MAX + 1).collect();
            if cells.iter().any(|cell| !cell.trim().is_empty()) {
                found.push((line, cells));
            }
            if found.len() > limits::SAMPLE_ROWS_MAX {
                break;
            }
        }
        Self { rows: found }
    }

    /// The most frequent number of cells beyond one, and in how many rows it is.
    fn width(&self) -> (usize, usize) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        self.rows.iter().for_each(|(_, cells)| *counts.entry(cells.len()).or_default() += 1);
        counts.into_iter().filter(|(width, _)| *width > 1).max_by_key(|(_, rows)| *rows).unwrap_or((1, 0))
    }
}

/// The delimiter that a line such as `sep=;` at the beginning states.
pub fn stated_delimiter(text: &str) -> Option<char> {
    let line = text.lines().next()?.trim_matches('"');
    let stated = line.strip_prefix("sep=").or_else(|| line.strip_prefix("SEP="))?;
    let delimiter = stated.chars().next()?;
    DELIMITERS.contains(&delimiter).then_some(delimiter)
}

/// The delimiter with which most rows have the same number of cells, of several the one with most cells. A comma, if none
/// divides the rows.
pub fn delimiter(text: &str) -> char {
    let quality = |delimiter: &char| {
        let (width, rows) = Sample::read(text, *delimiter).width();
        // Of two that divide all rows, the one that divides them further; commas in numbers divide some rows only.
        (rows, width)
    };
    let best = DELIMITERS.into_iter().rev().max_by_key(quality);
    best.filter(|delimiter| quality(delimiter).0 > 0).unwrap_or(',')
}

/// The row of the header: the first one of which most cells are known, or else the first of the usual width whose cells
/// are texts and differ from each other.
pub fn header(sample: &Sample, is_known: &dyn Fn(&str) -> bool) -> Option<u64> {
    let head = || sample.rows.iter().take(limits::HEADER_LINE_MAX as usize);
    let filled = |cells: &[String]| cells.iter().filter(|cell| !cell.trim().is_empty()).count();
    let known = |cells: &[String]| cells.iter().filter(|cell| is_known(cell.trim())).count();
    if let Some((line, _)) = head().find(|(_, cells)| known(cells) * 2 > filled(cells)) {
        return Some(*line);
    }
    let (width, _) = sample.width();
    let is_header = |cells: &[String]| {
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.trim()).filter(|cell| !cell.is_empty()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        cells.len() == width && names.len() == count && count * 2 >= width && !names.iter().any(|name| is_numeric(name))
    };
    head().find(|(_, cells)| is_header(cells)).map(|(line, _)| *line)
}

fn is_numeric(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || "+-., ".contains(c))
}

/// What the numbers of a file look like.
#[derive(Debug, Default, Clone, Copy)]
struct Looks {
    /// As in 1.5 or 1234.567.
    points: usize,
    /// As in 1,5 or 1234,567.
    commas: usize,
    /// As in 1,234,567 or 1,234.5.
    comma_groups: usize,
    /// As in 1.234.567 or 1.234,5.
    point_groups: usize,
    /// As in 1,234: a thousand or a decimal.
    comma_or_group: usize,
    /// As in 1.234, likewise.
    point_or_group: usize,
    /// Groups by apostrophes or spaces.
    other_groups: Option<char>,
}

impl Looks {
    fn add(&mut self, text: &str) {
        let digits = text.trim().trim_start_matches(['-', '+', '−']);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ',') {
            return;
        }
        let marks: Vec<(usize, char)> = digits.char_indices().filter(|(_, c)| !c.is_ascii_digit()).collect();
        let after = |at: usize, c: char| digits.len() - at - c.len_utf8();
        let has_three = |at: usize, c: char| after(at, c) == 3 && (1..=3).contains(&at) && !digits.starts_with('0');
        match marks.as_slice() {
            [(at, '.')] if has_three(*at, '.') => self.point_or_group += 1,
            [(_, '.')] => self.points += 1,
            [(at, ',')] if has_three(*at, ',') => self.comma_or_group += 1,
            [(_, ',')] => self.commas += 1,
            [.., (_, '.')] if marks[..marks.len() - 1].iter().all(|(_, c)| *c == ',') => self.comma_groups += 1,
            [.., (_, ',')] if marks[..marks.len() - 1].iter().all(|(_, c)| *c == '.') => self.point_groups += 1,
            [first, rest @ ..] if rest.iter().all(|mark| mark.1 == first.1) => match first.1 {
                ',' => self.comma_groups += 1,
                '.' => self.point_groups += 1,
                c @ ('\'' | '’' | ' ' | '\u{A0}' | '\u{202F}') => self.other_groups = Some(c),
                _ => {}
            },
            [(_, first @ ('\'' | '’' | ' ' | '\u{A0}' | '\u{202F}')), .., (_, last @ ('.' | ','))] => {
                self.other_groups = Some(*first);
                if *last == ',' { self.commas += 1 } else { self.points += 1 }
            }
            _ => {}
        }
    }
}

/// What separates decimals and groups of digits in these cells, or the question that is open.
pub fn numbers<'a>(cells: impl Iterator<Item = &'a str>) -> Result<(char, Option<char>), String> {
    let (mut looks, mut doubtful) = (Looks::default(), None);
    for cell in cells {
        let before = looks.comma_or_group;
        looks.add(cell);
        if looks.comma_or_group > before && doubtful.is_none() {
            doubtful = Some(cell.trim().to_owned());
        }
    }
    let comma = looks.commas + looks.point_groups;
    let point = looks.points + looks.comma_groups;
    let (commas, points) = (looks.comma_or_group > 0, looks.point_or_group > 0);
    match (comma > 0, point > 0) {
        // They are told by their rows.
        (true, true) if looks.commas > 0 && looks.points > 0 => Ok(('.', looks.other_groups)),
        (true, true) => {
            Err("some numbers have decimal commas, others commas between thousands: give --decimal , or --decimal ."
                .into())
        }
        (true, false) => Ok((',', if looks.point_groups > 0 || points { Some('.') } else { looks.other_groups })),
        (false, true) => Ok(('.', if looks.comma_groups > 0 || commas { Some(',') } else { looks.other_groups })),
        (false, false) => match doubtful {
            Some(number) => Err(format!(
                "`{number}` may be a number of thousands or have decimals: give --thousands , or --decimal ,"
            )),
            None => Ok(('.', looks.other_groups)),
        },
    }
}

/// Texts that people write where there is no value.
pub const MARKERS: [&str; 18] = [
    "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan", "NULL", "null", "None", "none", "-", "--", "—", "\\N", "无",
    "暂无", "..",
];

/// Those of [`MARKERS`] that stand among numbers.
pub fn missing<'a>(columns: impl Iterator<Item = Vec<&'a str>>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for cells in columns {
        let marker = |cell: &&str| MARKERS.contains(&cell.trim());
        let (markers, others): (Vec<&str>, Vec<&str>) =
            cells.into_iter().filter(|cell| !cell.trim().is_empty()).partition(marker);
        if !others.is_empty() && others.iter().all(|cell| is_numeric(cell)) {
            for marker in markers {
                if !found.iter().any(|known| known == marker.trim()) {
                    found.push(marker.trim().to_owned());
                }
            }
        }
    }
    found
}

impl Reading {
    /// In words, as far as it is not the default.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let name = |c: char| match c {
            ',' => "commas".to_owned(),
            ';' => "semicolons".into(),
            '\t' => "tabs".into(),
            '|' => "vertical bars".into(),
            '.' => "points".into(),
            ' ' | '\u{A0}' | '\u{202F}' => "spaces".into(),
            other => format!("`{other}`"),
        };
        let default = Self::default();
        if !self.packing.is_none() {
            words.push(self.packing.name().to_owned());
        }
        if !self.encoding.eq_ignore_ascii_case("utf-8") {
            words.push(self.encoding.clone());
        }
        words.extend(self.sheet.as_ref().map(|sheet| format!("sheet `{sheet}`")));
        if !self.at.is_empty() {
            words.push(format!("records at {}", self.at));
        }
        if self.delimiter != default.delimiter {
            words.push(format!("cells between {}", name(self.delimiter)));
        }
        if self.decimal != default.decimal {
            words.push("decimal commas".into());
        }
        words.extend(self.thousands.map(|c| format!("{} between thousands", name(c))));
        if self.header != default.header {
            words.push(format!("header in line {}", self.header));
        }
        if !self.missing.is_empty() {
            words.push(format!("no value where numbers are {}", self.missing.join(", ")));
        }
        if self.carriage_returns {
            words.push("lines that end with carriage returns".into());
        }
        words
    }
}
