//! What a sample of a CSV file says of its dialect.

use super::csv::{Rows, Syntax};
use super::reading::{DELIMITERS, Reading, THOUSANDS};
use crate::core::limits;
use std::collections::BTreeMap;

/// The cells of a sample, by row.
pub struct Sample {
    /// The line of each row that is not blank, and its cells.
    pub rows: Vec<(u64, Vec<String>)>,
}

impl Sample {
    /// The cells of a column below the header.
    pub fn column(&self, at: usize, header: u32) -> Vec<&str> {
        let rows = self.rows.iter().filter(|(line, _)| *line > u64::from(header));
        rows.filter_map(|(_, cells)| cells.get(at)).map(String::as_str).collect()
    }

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

/// The delimiter with which most rows have the same number of cells; of several the one that is no comma, which numbers have,
/// too, and then the one with most cells. A comma, if none divides the rows.
pub fn delimiter(text: &str) -> char {
    let quality = |delimiter: &char| {
        let (width, rows) = Sample::read(text, *delimiter).width();
        (rows, *delimiter != ',', width)
    };
    let best = DELIMITERS.into_iter().rev().max_by_key(quality);
    best.filter(|delimiter| quality(delimiter).0 > 0).unwrap_or(',')
}

/// The row of the header: the first one of which most cells are known, or else the first that is filled nearly as far as
/// most rows are, which a title is not.
pub fn header(sample: &Sample, is_known: &dyn Fn(&str) -> bool) -> Option<u64> {
    let head = || sample.rows.iter().take(limits::HEADER_LINE_MAX as usize);
    let filled = |cells: &[String]| cells.iter().filter(|cell| !cell.trim().is_empty()).count();
    let known = |cells: &[String]| cells.iter().filter(|cell| is_known(cell.trim())).count();
    if let Some((line, _)) = head().find(|(_, cells)| known(cells) * 2 > filled(cells)) {
        return Some(*line);
    }
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    sample.rows.iter().for_each(|(_, cells)| *counts.entry(filled(cells)).or_default() += 1);
    let usual = counts.into_iter().max_by_key(|(_, rows)| *rows).map_or(1, |(count, _)| count);
    // The column of an index has no name.
    let named =
        |cells: &[String]| filled(cells) + usize::from(cells.first().is_some_and(|cell| cell.trim().is_empty()));
    head().find(|(_, cells)| filled(cells) > 0 && named(cells) * 5 >= usual * 3).map(|(line, _)| *line)
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
    others: usize,
    /// Whether whole numbers seem to have decimals.
    doubtful: bool,
}

impl Looks {
    fn add(&mut self, text: &str) {
        let digits = text.trim().trim_start_matches(['-', '+', '−']);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ',') {
            return;
        }
        let marks: Vec<(usize, char)> = digits.char_indices().filter(|(_, c)| !c.is_ascii_digit()).collect();
        let groups = |count: usize| are_groups(digits, &marks[..count]);
        let same = |count: usize, mark: char| marks[..count].iter().all(|(_, c)| *c == mark);
        match marks.as_slice() {
            [(_, '.')] if groups(1) => self.point_or_group += 1,
            [(_, '.')] => self.points += 1,
            [(_, ',')] if groups(1) => self.comma_or_group += 1,
            [(_, ',')] => self.commas += 1,
            [before @ .., (end, last @ ('.' | ','))] if !before.is_empty() => {
                let (mark, count) = (before[0].1, before.len());
                if mark == *last {
                    if same(count, mark) && groups(count + 1) {
                        *self.grouped(mark) += 1;
                    }
                } else if same(count, mark) && are_groups(&digits[..*end], before) {
                    *self.grouped(mark) += 1;
                    if *last == ',' { self.commas += 1 } else { self.points += 1 }
                }
            }
            [(_, mark), ..] if same(marks.len(), *mark) && groups(marks.len()) => *self.grouped(*mark) += 1,
            _ => {}
        }
    }

    fn grouped(&mut self, mark: char) -> &mut usize {
        match mark {
            ',' => &mut self.comma_groups,
            '.' => &mut self.point_groups,
            other => {
                self.other_groups = Some(other).filter(|mark| THOUSANDS.contains(mark));
                &mut self.others
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.points += other.points;
        self.commas += other.commas;
        self.comma_groups += other.comma_groups;
        self.point_groups += other.point_groups;
        self.comma_or_group += other.comma_or_group;
        self.point_or_group += other.point_or_group;
        self.other_groups = self.other_groups.or(other.other_groups);
    }
}

/// Whether these marks divide the digits into groups of three, after a first one of up to three that is not 0.
fn are_groups(digits: &str, marks: &[(usize, char)]) -> bool {
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return false };
    let ends = marks.iter().skip(1).map(|(at, _)| *at).chain([digits.len()]);
    (1..=3).contains(&first.0)
        && !digits.starts_with('0')
        && last.0 < digits.len()
        && marks.iter().zip(ends).all(|((at, c), end)| end - at - c.len_utf8() == 3)
}

/// The cells of a column that may hold numbers.
pub struct Column<'a> {
    /// Its cells.
    pub cells: Vec<&'a str>,
    /// Whether its numbers are whole, by the schema.
    pub whole: bool,
}

/// What separates decimals and groups of digits in these columns, or the question that is open. `commas` tells whether
/// commas separate the cells, where decimals have points.
pub fn numbers(columns: &[Column<'_>], commas: bool) -> Result<(char, Option<char>), String> {
    let (mut all, mut doubtful) = (Looks::default(), None);
    for column in columns {
        let mut looks = Looks::default();
        for cell in &column.cells {
            let before = (looks.comma_or_group, looks.point_or_group);
            looks.add(cell);
            if (looks.comma_or_group, looks.point_or_group) != before && doubtful.is_none() {
                doubtful = Some(cell.trim());
            }
        }
        // A whole number has no decimals, but is written with groups.
        if column.whole && looks.point_or_group > 0 && looks.points == 0 {
            doubtful = column.cells.iter().find(|cell| cell.contains('.')).map(|cell| cell.trim());
            looks.doubtful = true;
        }
        all.doubtful |= looks.doubtful;
        all.merge(&looks);
    }
    let ask = |mark: &str| {
        let number = doubtful.unwrap_or_default();
        Err(format!(
            "`{number}` may be a number of thousands or have decimals: give --thousands {mark} or --decimal {mark}"
        ))
    };
    let (comma, point) = (all.commas + all.point_groups, all.points + all.comma_groups);
    match (comma > 0, point > 0) {
        // They are told by their rows.
        (true, true) if all.commas > 0 && all.points > 0 => Ok(('.', all.other_groups)),
        (true, true) => {
            Err("some numbers have decimal commas, others commas between thousands: give --decimal , or --decimal ."
                .into())
        }
        // A column of latitudes beside one of prices.
        (true, false) if all.point_or_group > 0 && all.point_groups == 0 => ask("."),
        (true, false) => Ok((',', if all.point_groups > 0 { Some('.') } else { all.other_groups })),
        (false, true) if all.comma_or_group > 0 && all.comma_groups == 0 && !commas => ask(","),
        (false, true) => {
            let groups = all.comma_groups + all.comma_or_group > 0;
            Ok(('.', if groups { Some(',') } else { all.other_groups }))
        }
        (false, false) if all.comma_or_group > 0 => ask(","),
        (false, false) if all.point_or_group > 0 && (!commas || all.doubtful) => ask("."),
        (false, false) => Ok(('.', all.other_groups)),
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
        if self.numbered {
            words.push("the first column has no name and numbers the rows; it is left out".into());
        }
        if self.carriage_returns {
            words.push("lines that end with carriage returns".into());
        }
        words
    }
}
