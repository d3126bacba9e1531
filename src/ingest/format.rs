//! The names of local formats.

use schemars::JsonSchema;

/// A local file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180, or another dialect of it, with a header that names properties.
    Csv,
    /// A JSON document with an array of objects.
    Json,
    /// Office Open XML workbook.
    Xlsx,
    /// Excel 97 workbook.
    Xls,
    /// OpenDocument spreadsheet.
    Ods,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow: a file (Feather) or a stream.
    Arrow,
}

/// The text that a format becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180 with a header that names properties.
    Csv,
}

impl Form {
    /// The form's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// The form with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ndjson, Self::Csv].into_iter().find(|form| form.name() == name)
    }
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] =
        [Self::Ndjson, Self::Csv, Self::Json, Self::Xlsx, Self::Xls, Self::Ods, Self::Parquet, Self::Arrow];

    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Xlsx => "xlsx",
            Self::Xls => "xls",
            Self::Ods => "ods",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The text that it becomes.
    pub fn form(self) -> Form {
        match self {
            Self::Ndjson | Self::Json => Form::Ndjson,
            Self::Csv | Self::Xlsx | Self::Xls | Self::Ods | Self::Parquet | Self::Arrow => Form::Csv,
        }
    }

    /// Whether it is a workbook.
    pub fn is_workbook(self) -> bool {
        matches!(self, Self::Xlsx | Self::Xls | Self::Ods)
    }

    /// Whether it is a file of columns.
    pub fn is_columnar(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    /// The format of a file, from its extension; that of a compressed file from the one before.
    pub fn of_file(name: &str) -> Option<Self> {
        let (rest, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" => Some(Self::Ndjson),
            "tsv" | "txt" => Some(Self::Csv),
            "xlsm" => Some(Self::Xlsx),
            "feather" | "ipc" | "arrows" => Some(Self::Arrow),
            "gz" | "zst" | "zip" => Self::of_file(rest),
            other => Self::parse(other),
        }
    }
}

/// What a file is that is no text, but might be read, from its first bytes.
pub fn packed_format(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 8] = [
        (b"PK\x03\x04", "a zip archive or an Office document (xlsx, ods)"),
        (b"\xD0\xCF\x11\xE0", "an Office document (xls)"),
        (b"\x1F\x8B", "compressed (gzip)"),
        (b"\x28\xB5\x2F\xFD", "compressed (zstd)"),
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file"),
        (b"\xFF\xFF\xFF\xFF", "an Arrow stream"),
        (b"\xFF\xFE", "in UTF-16"),
    ];
    known.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| what)
}

/// What a file is that no program here reads, from its first bytes.
pub fn other_format(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 6] = [
        (b"%PDF", "a PDF"),
        (b"\x89PNG", "an image"),
        (b"\xFF\xD8\xFF", "an image"),
        (b"Rar!", "a RAR archive"),
        (b"7z\xBC\xAF", "a 7z archive"),
        (b"<", "HTML or XML"),
    ];
    known.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| what)
}
