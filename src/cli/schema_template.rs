//! `crosspark schema template`: an empty workbook for the records of a schema.

use super::outcome::{Outcome, done};
use super::output::{self, note, say};
use super::validate;
use crate::core::json::{self, pointer_part};
use crate::durable::write_whole;
use crate::schema::{ColumnType, Language, Schema};
use anyhow::Context;
use rust_xlsxwriter::{Color, DataValidation, Format, FormatAlign, Formula, Workbook, Worksheet, XlsxError};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A schema file, or the $id or name of a built-in schema, such as enterprise.
    schema: String,
    /// File of the workbook (.xlsx).
    #[arg(long)]
    out: PathBuf,
    /// Language of headers and help.
    #[arg(long, default_value = "en", value_parser = validate::parse_language)]
    language: Language,
}

/// Rows that are prepared for records.
const ROWS: u32 = 1_000;
/// The row of the names; that before has the help.
const HEADER: u32 = 1;
/// Excel's limit for a list of values in a drop-down; longer ones are on a sheet of their own.
const LIST_CHARS_MAX: usize = 255;

/// Characters of help in a cell.
const HELP_CHARS_MAX: usize = 1_000;

/// A property as a column of the workbook.
struct Column<'a> {
    schema: &'a Schema,
    name: &'a str,
    kind: ColumnType,
    header: String,
    help: String,
}

pub fn run(args: &Args, as_json: bool) -> Outcome {
    let schema = validate::schema(&args.schema)?;
    anyhow::ensure!(args.out.extension().is_some_and(|ending| ending == "xlsx"), "--out must end with .xlsx");
    let bytes = workbook(&schema, args.language).context("the workbook")?;
    write_whole(&args.out, &bytes).with_context(|| args.out.display().to_string())?;
    if as_json {
        output::json(&json!({"file": args.out, "schema": schema.id(), "version": schema.version()}))?;
    } else {
        say!("Wrote {}, for records of {} {}.", args.out.display(), schema.id(), schema.version());
        note!("Fill in the first sheet, and publish the file with --schema {}.", schema.id());
    }
    done()
}

/// The workbook: a sheet to be filled in, one with an example, one with the values of long lists.
fn workbook(schema: &Schema, language: Language) -> Result<Vec<u8>, XlsxError> {
    let columns = Column::all(schema, language);
    let chinese = language == Language::Chinese;
    let (data, example, lists) = if chinese { ("填写", "示例", "选项") } else { ("data", "example", "lists") };
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name(data)?;
    head(sheet, &columns)?;
    let mut long = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let at = at as u16;
        sheet.set_column_format(at, &column.format())?;
        let Some(values) = column.values() else { continue };
        let list = match values.iter().map(|value| value.len() + 1).sum::<usize>() {
            // A comma divides a list in place.
            0..=LIST_CHARS_MAX if values.iter().all(|value| !value.contains(',')) => {
                DataValidation::new().allow_list_strings(&values)?
            }
            _ => {
                let place = long.len() as u16;
                let letter = rust_xlsxwriter::utility::column_number_to_name(place);
                let range = format!("='{lists}'!${letter}$1:${letter}${}", values.len());
                long.push(values.clone());
                DataValidation::new().allow_list_formula(Formula::new(range))
            }
        };
        sheet.add_data_validation(HEADER + 1, at, HEADER + ROWS, at, &list)?;
    }
    let sheet = book.add_worksheet().set_name(example)?;
    head(sheet, &columns)?;
    for (at, column) in columns.iter().enumerate() {
        column.write_example(sheet, HEADER + 1, at as u16)?;
    }
    if !long.is_empty() {
        let sheet = book.add_worksheet().set_name(lists)?;
        sheet.set_hidden(true);
        for (at, values) in long.iter().enumerate() {
            for (row, value) in values.iter().enumerate() {
                sheet.write_string(row as u32, at as u16, value)?;
            }
        }
    }
    book.save_to_buffer()
}

/// Help and names, which stay in view.
fn head(sheet: &mut Worksheet, columns: &[Column<'_>]) -> Result<(), XlsxError> {
    let help = Format::new().set_italic().set_text_wrap().set_align(FormatAlign::Top).set_font_color(Color::Gray);
    let (name, needed) =
        (Format::new().set_bold(), Format::new().set_bold().set_background_color(Color::RGB(0xFFF2CC)));
    for (at, column) in columns.iter().enumerate() {
        let at = at as u16;
        sheet.write_string_with_format(0, at, &column.help, &help)?;
        let format = if column.schema.requires(column.name) { &needed } else { &name };
        sheet.write_string_with_format(HEADER, at, &column.header, format)?;
        sheet.set_column_width(at, 22)?;
    }
    sheet.set_row_height(0, 75)?;
    sheet.set_freeze_panes(HEADER + 1, 0)?;
    Ok(())
}

impl<'a> Column<'a> {
    fn all(schema: &'a Schema, language: Language) -> Vec<Self> {
        let titles = schema.titles();
        let column = |(name, kind): (&'a str, ColumnType)| {
            let pointer = pointer_part(name);
            // A title that several properties have, or that is another one's name, says too little.
            let title = schema.field_title(&pointer, language);
            let title = title.filter(|title| titles.column(title).is_some_and(|(found, _)| found == name));
            let header = title.unwrap_or(name).to_owned();
            let mut column = Self { schema, name, kind, header, help: String::new() };
            column.help = column.help(language);
            column
        };
        schema.columns().into_iter().map(column).collect()
    }

    fn keyword(&self, name: &str) -> Option<&Value> {
        self.schema.keyword(&pointer_part(self.name), name)
    }

    /// One line: what it is, whether it is needed, how it is written.
    fn help(&self, language: Language) -> String {
        let chinese = language == Language::Chinese;
        let described = match language {
            Language::Chinese => self.keyword("x-zh").and_then(|texts| texts.get("description")),
            Language::English => self.keyword("description"),
        };
        let mut parts = vec![described.and_then(Value::as_str).unwrap_or_default().to_owned()];
        if self.schema.requires(self.name) {
            parts.push(if chinese { "必填。" } else { "Required." }.into());
        }
        if let Some(unit) = self.keyword("x-unit").and_then(Value::as_str).filter(|unit| *unit != "1") {
            parts.push(if chinese { format!("单位：{unit}。") } else { format!("Unit: {unit}.") });
        }
        if self.kind == ColumnType::Nested && self.example().is_none() {
            parts
                .push(if chinese { "写成 JSON，如 [\"a\",\"b\"]。" } else { "In JSON, such as [\"a\",\"b\"]." }.into());
        }
        let example = self.example().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if let Some(example) = example.filter(|example| self.values().is_none() && *example != self.header) {
            parts.push(if chinese { format!("例：{example}") } else { format!("Such as {example}") });
        }
        parts.retain(|part| !part.is_empty());
        parts.join(" ").chars().take(HELP_CHARS_MAX).collect()
    }

    /// The values of a drop-down.
    fn values(&self) -> Option<Vec<String>> {
        match (self.kind, self.keyword("enum")) {
            (_, Some(Value::Array(values))) if !values.is_empty() => Some(
                values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect(),
            ),
            (ColumnType::Boolean, _) => Some(vec!["TRUE".into(), "FALSE".into()]),
            _ => None,
        }
    }

    /// Texts stay texts, so that a code keeps its zeros; days look like days.
    fn format(&self) -> Format {
        let is_day = self.keyword("format").is_some_and(|format| format == "date");
        match self.kind {
            ColumnType::String if is_day => Format::new().set_num_format("yyyy-mm-dd"),
            ColumnType::String | ColumnType::Nested => Format::new().set_num_format("@"),
            ColumnType::Number | ColumnType::Boolean => Format::new(),
        }
    }

    /// A value from the schema's own examples.
    fn example(&self) -> Option<Value> {
        let first = |keyword: &str| self.keyword(keyword).and_then(|list| list.get(0)).cloned();
        let least = || self.keyword("minimum").cloned();
        let by_kind = || match (self.kind, self.keyword("format").and_then(Value::as_str)) {
            (ColumnType::Number, _) => Some(least().unwrap_or_else(|| json!(1))),
            (ColumnType::Boolean, _) => Some(json!(true)),
            (ColumnType::String, Some("date")) => Some(json!("2024-03-05")),
            (ColumnType::String, Some("date-time")) => Some(json!("2024-03-05T09:00:00+08:00")),
            (ColumnType::String, _) if self.schema.requires(self.name) => Some(json!(self.header)),
            _ => None,
        };
        first("examples").or_else(|| first("enum")).or_else(by_kind)
    }

    fn write_example(&self, sheet: &mut Worksheet, row: u32, at: u16) -> Result<(), XlsxError> {
        let Some(value) = self.example() else { return Ok(()) };
        let format = self.format();
        match &value {
            Value::Number(number) => {
                sheet.write_number_with_format(row, at, number.as_f64().unwrap_or_default(), &format)?
            }
            Value::Bool(value) => sheet.write_boolean_with_format(row, at, *value, &format)?,
            Value::String(text) => sheet.write_string_with_format(row, at, text, &format)?,
            other => {
                let text = json::to_canonical(other);
                sheet.write_string_with_format(row, at, String::from_utf8_lossy(&text), &format)?
            }
        };
        Ok(())
    }
}
