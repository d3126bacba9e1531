//! Files of records on this machine, and how they are read.

use super::output::note;
use crate::core::random::{self, SystemRandomness};
use crate::ingest::{Detected, Expected, Form, Format, Given, Input, Packing, Reading, detect};
use crate::mapping::Mapping;
use crate::schema::Schema;
use anyhow::Context;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How a file is read. What is not stated is found out, and told.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ReadingArgs {
    /// Format: ndjson, csv, json, xlsx, xls, ods, parquet or arrow.
    #[arg(long, value_parser = parse_format)]
    format: Option<Format>,
    /// Encoding of a text, such as utf-8, utf-16le, gb18030 or big5.
    #[arg(long)]
    encoding: Option<String>,
    /// What separates the cells of a CSV file: , ; | or tab.
    #[arg(long, value_parser = parse_character)]
    delimiter: Option<char>,
    /// What separates a number's decimals: . or ,
    #[arg(long, value_parser = parse_character)]
    decimal: Option<char>,
    /// What separates groups of three digits: , . ' or space.
    #[arg(long, value_parser = parse_character)]
    thousands: Option<char>,
    /// Line or row with the names of the columns.
    #[arg(long)]
    header: Option<u32>,
    /// Text that stands for a missing number or date, as in --missing n/a; may be repeated.
    #[arg(long)]
    missing: Vec<String>,
    /// Sheet of a workbook.
    #[arg(long)]
    sheet: Option<String>,
    /// JSON pointer of the array of records in a JSON document, such as /data/items.
    #[arg(long)]
    at: Option<String>,
    /// File of a mapping (TOML): which columns become which fields, and how; `crosspark map suggest` proposes one.
    #[arg(long)]
    mapping: Option<PathBuf>,
}

fn parse_format(name: &str) -> Result<Format, String> {
    let names = || Format::ALL.map(Format::name).join(", ");
    Format::parse(name).ok_or_else(|| format!("`{name}` is not one of {}", names()))
}

fn parse_character(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        ("space", ..) => Ok(' '),
        (_, Some(c), None) => Ok(c),
        _ => Err("expected one character, tab or space".into()),
    }
}

impl ReadingArgs {
    fn given(&self) -> Given {
        Given {
            format: self.format,
            encoding: self.encoding.clone(),
            delimiter: self.delimiter,
            decimal: self.decimal,
            thousands: self.thousands,
            header: self.header,
            missing: self.missing.clone(),
            sheet: self.sheet.clone(),
            at: self.at.clone(),
        }
    }

    /// How files are read that are not here: as stated, and otherwise by default; the format by their name.
    pub fn stated(&self, name: &str) -> anyhow::Result<(Format, Reading, Option<Mapping>)> {
        let format = self.format.or_else(|| Format::of_file(name));
        let format =
            format.with_context(|| format!("the format of {name} is not known: give --format, or --like FILE"))?;
        let packing = Packing::of_file(name);
        let mapping = self.mapping.as_deref().map(read_mapping).transpose()?;
        Ok((format, Reading { packing, ..self.given().reading() }, mapping))
    }

    /// Looks at a file, and says how it is read if its name does not.
    pub fn look_at(&self, file: &Path, schema: Option<&Schema>) -> anyhow::Result<Local> {
        let name = file.display().to_string();
        let given = self.given();
        let mapping = self.mapping.as_deref().map(read_mapping).transpose()?;
        let mut opened = File::open(file).with_context(|| name.clone())?;
        let meta = opened.metadata().with_context(|| name.clone())?;
        anyhow::ensure!(!meta.is_dir(), "{name} is a folder");
        if !meta.is_file() {
            // It can be read only once.
            let format = self.format.or_else(|| Format::of_file(&name));
            let format = format.with_context(|| format!("{name}: give --format"))?;
            return Ok(Local { path: file.to_owned(), format, reading: given.reading(), mapping });
        }
        let expected = match (schema, &mapping) {
            (Some(schema), Some(mapping)) => Expected::Mapped(mapping, schema),
            (Some(schema), None) => Expected::Schema(schema),
            (None, _) => Expected::Unknown,
        };
        let found = detect(&mut opened, &name, &given, expected, &spool).with_context(|| name.clone())?;
        if let Some(words) = found.in_words() {
            note!("{name}: {words}.");
        }
        let Detected { format, reading, .. } = found;
        Ok(Local { path: file.to_owned(), format, reading, mapping })
    }
}

/// A mapping from its file.
pub fn read_mapping(path: &Path) -> anyhow::Result<Mapping> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the mapping {}", path.display()))?;
    Mapping::parse(&text).with_context(|| format!("the mapping {}", path.display()))
}

/// A file of records.
#[derive(Debug, Clone)]
pub struct Local {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// How it is read.
    pub reading: Reading,
    /// How its records become those of a schema, if they are not.
    pub mapping: Option<Mapping>,
}

impl Local {
    /// Its text, from its bytes.
    pub fn text<'a>(&self, bytes: impl Read + Send + 'a) -> io::Result<Input<'a>> {
        Input::open(bytes, self.format, &self.reading, &spool)
    }

    /// A temporary file with its text.
    pub fn rewritten(&self) -> io::Result<File> {
        let mut text = self.text(File::open(&self.path)?)?;
        spool(&mut text.source)
    }

    /// The format and reading of its text, as it is rewritten or after records were left out.
    pub fn divided(&self) -> (Format, Reading) {
        let format = if self.format.form() == Form::Csv { Format::Csv } else { Format::Ndjson };
        let is_text = self.format == Format::Csv;
        let delimiter = if is_text { self.reading.delimiter } else { ',' };
        // What the text itself no longer has is as it is by default.
        let Reading { decimal, thousands, header, missing, numbered, .. } = self.reading.clone();
        (format, Reading { delimiter, decimal, thousands, header, missing, numbered, ..Reading::default() })
    }
}

/// A temporary file with what `source` has.
fn spool(source: &mut dyn Read) -> io::Result<File> {
    let mut file = temporary_file()?;
    io::copy(source, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// A temporary file without a name.
pub fn temporary_file() -> io::Result<File> {
    let name = hex::encode(random::bytes::<16>(&SystemRandomness::new()));
    let path = std::env::temp_dir().join(format!("crosspark-{name}"));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
