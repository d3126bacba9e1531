//! `crosspark map`

use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use super::reading::{Local, ReadingArgs};
use super::{report, validate};
use crate::core::limits;
use crate::dataset::assemble::{Decoded, check};
use crate::ingest::{Chunks, Preview, columns, preview};
use crate::mapping::{Confidence, Mapping, suggest, toml};
use crate::schema::{Language, Schema};
use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Propose a mapping from the columns' names and values, in TOML: with the reason for each field, and what is to be
    /// decided.
    Suggest(Suggest),
    /// Show the first records before and after a mapping, and try it on the whole file.
    Check(Check),
    /// Print the valid records that a mapping makes of a file, one JSON object a line; the others are told.
    Run(Run),
}

#[derive(clap::Args)]
pub struct Mapped {
    /// File of records: NDJSON, JSON, CSV, a workbook, Parquet or Arrow.
    file: PathBuf,
    /// A schema file, or the $id or name of a built-in schema, such as enterprise.
    #[arg(long)]
    schema: String,
    #[command(flatten)]
    reading: ReadingArgs,
}

#[derive(clap::Args)]
pub struct Suggest {
    #[command(flatten)]
    mapped: Mapped,
    /// How many records are looked at.
    #[arg(long, default_value_t = 200)]
    records: usize,
}

#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    mapped: Mapped,
    /// How many records are shown.
    #[arg(long, default_value_t = 10)]
    records: usize,
}

#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    mapped: Mapped,
}

pub fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::Suggest(args) => args.run(as_json),
        Command::Check(args) => args.run(as_json),
        Command::Run(args) => args.run(),
    }
}

impl Mapped {
    /// The file, its mapping and the schema.
    fn read(&self) -> anyhow::Result<(Local, Mapping, Schema)> {
        let schema = validate::schema(&self.schema)?;
        let local = self.reading.look_at(&self.file, Some(&schema))?;
        let mapping = local.mapping.clone().context("give the mapping with --mapping")?;
        Ok((local, mapping, schema))
    }

    fn name(&self) -> String {
        self.file.display().to_string()
    }
}

impl Suggest {
    fn run(&self, as_json: bool) -> Outcome {
        let name = self.mapped.name();
        let schema = validate::schema(&self.mapped.schema)?;
        let local = self.mapped.reading.look_at(&self.mapped.file, None)?;
        anyhow::ensure!(
            local.mapping.is_none(),
            "map suggest proposes a mapping; map check tries the one in --mapping"
        );
        let file = File::open(&local.path).with_context(|| name.clone())?;
        let text = local.text(BufReader::new(file)).with_context(|| name.clone())?;
        let columns = columns(text, self.records).with_context(|| name.clone())?;
        let found = suggest(&columns, &schema);
        if as_json {
            let found: Vec<Value> = found.iter().map(|one| {
                let confidence = format!("{:?}", one.confidence).to_lowercase();
                let rules: Vec<Value> = one.rules.iter().map(|(field, rule)| json!({"field": field, "rule": rule})).collect();
                json!({"field": one.field, "column": one.column, "confidence": confidence, "reason": one.reason, "open": one.open, "rules": rules})
            }).collect();
            output::json(&json!({"schema": schema.id(), "fields": found}))?;
        } else {
            say!("{}", toml(&found, &columns, &schema).trim_end());
            let sure = found.iter().filter(|one| one.confidence == Confidence::High).count();
            note!(
                "{} of {} columns have a field, {sure} for sure. Save it as a file, complete it, and try it: crosspark map \
                 check {name} --schema {} --mapping FILE",
                found.len(),
                columns.len(),
                self.mapped.schema
            );
        }
        done()
    }
}

impl Check {
    fn run(&self, as_json: bool) -> Outcome {
        let name = self.mapped.name();
        let (local, mapping, schema) = self.mapped.read()?;
        let file = File::open(&local.path).with_context(|| name.clone())?;
        let text = local.text(BufReader::new(file)).with_context(|| name.clone())?;
        let (shown, unread) = preview(text, &schema, &mapping, self.records).with_context(|| name.clone())?;
        let found = validate::examine(&local, &schema)?;
        if as_json {
            let shown: Vec<Value> = shown.iter().map(in_json).collect();
            output::json(&json!({"records": shown, "unread": unread, "found": found, "digest": mapping.digest()}))?;
        } else {
            shown.iter().for_each(|record| print(record, &mapping));
            if !unread.is_empty() {
                let besides = if mapping.programs().is_empty() { "" } else { ", unless a jq program reads them" };
                say!("Columns that are not read{besides}: {}.", unread.join(", "));
            }
            let empty: Vec<&str> = schema
                .columns()
                .into_iter()
                .map(|(property, _)| property)
                .filter(|property| !mapping.fields.keys().any(|field| fills(field, property)))
                .collect();
            if !empty.is_empty() {
                say!("Fields that are not filled: {}.", empty.join(", "));
            }
            report::print(&found, Some((&schema, Language::English)), &name);
            say!("{name}: {} of {} records are valid.", found.records - found.invalid, found.records);
        }
        Ok(ExitCode::from(if found.invalid == 0 { 0 } else { exit::REFUSED }))
    }
}

/// Whether a rule for `field` fills this property or a part of it.
fn fills(field: &str, property: &str) -> bool {
    let first = field.strip_prefix('/').map_or(field, |path| path.split('/').next().unwrap_or(path));
    first == property
}

fn in_json(record: &Preview) -> Value {
    let Preview { line, before, after, wrong } = record;
    json!({"line": line, "before": before, "after": after, "wrong": wrong})
}

/// Each field of a record with what it was made of.
fn print(record: &Preview, mapping: &Mapping) {
    say!("line {}", record.line);
    let short = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let shown: String = text.chars().take(limits::SHOWN_CHARS_MAX).collect();
        if shown.len() < text.len() { format!("{shown}…") } else { shown }
    };
    for (field, rule) in &mapping.fields {
        let pointer = if field.starts_with('/') { field.clone() } else { format!("/{field}") };
        let after = record.after.pointer(&pointer);
        let before = rule.columns().filter_map(|column| {
            let value = record.before.get(column.trim()).or_else(|| record.before.pointer(column))?;
            Some(format!("{column} {}", short(value)))
        });
        let before: Vec<String> = before.collect();
        let wrong = record.wrong.iter().find(|violation| violation.pointer == pointer);
        let after = match (after, wrong) {
            (_, Some(violation)) => format!("error: {}", violation.reason),
            (Some(value), None) => short(value),
            (None, None) if before.is_empty() => continue,
            (None, None) => "(nothing)".into(),
        };
        let before = if before.is_empty() { String::new() } else { format!("   ← {}", before.join(", ")) };
        say!("  {field}: {after}{before}");
    }
}

impl Run {
    fn run(&self) -> Outcome {
        let name = self.mapped.name();
        let (local, mapping, schema) = self.mapped.read()?;
        let file = File::open(&local.path).with_context(|| name.clone())?;
        let text = local.text(BufReader::with_capacity(1 << 20, file)).with_context(|| name.clone())?;
        let (mut chunks, decoder) = Chunks::open(text, &schema, Some(&mapping)).with_context(|| name.clone())?;
        let validator = schema.validator()?;
        let (mut tape, mut text, mut invalid) = (validator.tape(), Vec::new(), 0u64);
        let mut out = BufWriter::new(io::stdout().lock());
        while let Some(chunk) = chunks.next_chunk().with_context(|| name.clone())? {
            let mut written = Ok(());
            crate::dataset::assemble::Decoder::decode(decoder.as_ref(), &chunk, &mut |record: Decoded<'_>| {
                let line = record.line;
                let violations = check(&mut tape, record, &validator);
                if violations.is_empty() && written.is_ok() {
                    text.clear();
                    tape.write_canonical(&mut text);
                    text.push(b'\n');
                    written = out.write_all(&text);
                }
                invalid += u64::from(!violations.is_empty());
                for violation in violations {
                    note!("{name}:{line}: {}: {} [{}]", violation.pointer, violation.reason, violation.rule);
                }
            });
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return done(),
                written => written?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        if invalid > 0 {
            let records = output::count(invalid, "record is", "records are");
            note!("error: {records} invalid under {} and not printed", schema.id());
        }
        Ok(ExitCode::from(if invalid == 0 { 0 } else { exit::REFUSED }))
    }
}
