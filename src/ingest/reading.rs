//! How the bytes of a file are to be understood.

use super::packing::Packing;
use crate::core::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a file is read, as far as its format does not say. The default is UTF-8 and RFC 4180 with JSON's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Reading {
    /// Compression.
    #[serde(skip_serializing_if = "Packing::is_none")]
    pub packing: Packing,
    /// Encoding of a text, by its name in the WHATWG Encoding Standard, such as gb18030.
    #[serde(skip_serializing_if = "is_utf8")]
    pub encoding: String,
    /// CSV: what separates the cells: a comma, semicolon, tab or vertical bar.
    #[serde(skip_serializing_if = "is_comma")]
    pub delimiter: char,
    /// What separates a number's decimals: a point or a comma.
    #[serde(skip_serializing_if = "is_point")]
    pub decimal: char,
    /// What separates groups of three digits, if anything: a comma, point, apostrophe or space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
    /// CSV and workbooks: the line or row with the names of the columns.
    #[serde(skip_serializing_if = "is_one")]
    pub header: u32,
    /// CSV and workbooks: texts that stand for a missing number, date or truth value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// CSV and workbooks: whether the first column has no name and numbers the rows; it is not read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub numbered: bool,
    /// CSV: whether lines end with a carriage return alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub carriage_returns: bool,
    /// Workbooks: name of the sheet; by default the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// JSON: pointer (RFC 6901) to the array of records; by default the whole document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            packing: Packing::None,
            encoding: "utf-8".into(),
            delimiter: ',',
            decimal: '.',
            thousands: None,
            header: 1,
            missing: Vec::new(),
            numbered: false,
            carriage_returns: false,
            sheet: None,
            at: String::new(),
        }
    }
}

fn is_utf8(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("utf-8")
}

fn is_comma(delimiter: &char) -> bool {
    *delimiter == ','
}

fn is_point(decimal: &char) -> bool {
    *decimal == '.'
}

fn is_one(header: &u32) -> bool {
    *header == 1
}

/// What may separate cells.
pub const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
/// What may separate groups of digits; some are kinds of spaces.
pub const THOUSANDS: [char; 7] = [',', '.', '\'', '’', ' ', '\u{A0}', '\u{202F}'];

impl Reading {
    /// Whether nothing differs from the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Fails, saying what is wrong, if this cannot be meant.
    pub fn check(&self) -> Result<(), String> {
        if !DELIMITERS.contains(&self.delimiter) {
            return Err(format!("`{}` is no delimiter: give a comma, semicolon, tab or vertical bar", self.delimiter));
        }
        if !matches!(self.decimal, '.' | ',') {
            return Err(format!("`{}` does not separate decimals: give a point or a comma", self.decimal));
        }
        if let Some(thousands) = self.thousands.filter(|c| !THOUSANDS.contains(c) || *c == self.decimal) {
            return Err(format!("`{thousands}` does not separate thousands: give a comma, point, apostrophe or space"));
        }
        if self.header == 0 || self.header > limits::HEADER_LINE_MAX {
            return Err(format!("the header is in one of the lines 1 to {}", limits::HEADER_LINE_MAX));
        }
        let long = |text: &String| text.chars().count() > limits::TEXT_CHARS_MAX;
        if self.missing.len() > limits::MISSING_MARKERS_MAX || self.missing.iter().any(long) {
            return Err(format!("at most {} short texts stand for a missing value", limits::MISSING_MARKERS_MAX));
        }
        if encoding_rs::Encoding::for_label(self.encoding.as_bytes()).is_none() {
            return Err(format!("the encoding `{}` is unknown: give utf-8, utf-16le, gb18030 or big5", self.encoding));
        }
        if !self.at.is_empty() && !self.at.starts_with('/') || self.at.len() > limits::TEXT_CHARS_MAX {
            return Err(format!("`{}` is not a JSON pointer, such as /data/items", self.at));
        }
        Ok(())
    }
}
