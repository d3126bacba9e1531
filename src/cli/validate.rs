//! `crosspark validate`

use super::outcome::{Outcome, exit};
use super::output::{self, note, say};
use super::reading::{Local, ReadingArgs, temporary_file};
use super::report;
use crate::core::json;
use crate::core::parallelism;
use crate::dataset::assemble::{self, AssembleError, Job};
use crate::dataset::quality::Plan;
use crate::dataset::report::Rejection;
use crate::dataset::select::{self, Selection};
use crate::dataset::unique::Temporary;
use crate::durable::write_whole;
use crate::ingest::Chunks;
use crate::schema::{Language, Schema, built_in};
use anyhow::Context;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

#[derive(clap::Args)]
pub struct Args {
    /// File of records: NDJSON, JSON, CSV or a workbook. The columns of a table have the names or titles of the schema's
    /// properties.
    file: PathBuf,
    /// A schema file, or the $id or name of a built-in schema, such as enterprise.
    #[arg(long)]
    schema: String,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Language of the report.
    #[arg(long, default_value = "en", value_parser = parse_language)]
    language: Language,
    /// Write the report as an HTML page, in both languages.
    #[arg(long)]
    html: Option<PathBuf>,
}

pub fn parse_language(text: &str) -> Result<Language, String> {
    match text {
        "en" => Ok(Language::English),
        "zh" => Ok(Language::Chinese),
        _ => Err("expected en or zh".into()),
    }
}

/// A schema from a file, or the newest built-in one with this `$id` or name.
pub fn schema(name: &str) -> anyhow::Result<Schema> {
    if Path::new(name).is_file() {
        let text = read_schema(Path::new(name))?;
        return Schema::parse(&text).with_context(|| format!("the schema {name}"));
    }
    let known = built_in();
    let (id, version) = name.rsplit_once('@').map_or((name, None), |(id, version)| (id, Some(version)));
    let names = |schema: &&Schema| {
        (schema.id() == id || schema.id().rsplit(':').next() == Some(id))
            && version.is_none_or(|version| schema.version() == version)
    };
    let all: BTreeSet<&str> = known.iter().filter_map(|schema| schema.id().rsplit(':').next()).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let unknown = format!(
        "`{name}` is neither a file nor a built-in schema; `crosspark schema show {name} > FILE` gets one of a node, and \
         built in are {}",
        all.join(", ")
    );
    known.iter().find(names).cloned().context(unknown)
}

fn temporary() -> io::Result<Box<dyn Temporary>> {
    Ok(Box::new(temporary_file()?))
}

/// The text of a schema file, without a byte order mark.
pub fn read_schema(file: &Path) -> anyhow::Result<Vec<u8>> {
    let name = file.display();
    let text = std::fs::read(file).with_context(|| format!("the schema {name}"))?;
    let text = text.strip_prefix(b"\xEF\xBB\xBF").map_or(text.clone(), <[u8]>::to_vec);
    if json::read_value(&text).is_ok_and(|value| value.get("statement").is_some_and(Value::is_string)) {
        anyhow::bail!("{name} is a proposal, for `crosspark alliance schema add`");
    }
    Ok(text)
}

/// Validates a file.
pub fn examine(file: &Local, schema: &Schema) -> anyhow::Result<Rejection> {
    read(file, schema, |job, chunks| assemble::examine(job, || chunks.next_chunk()))
}

/// Tells the valid records of a file from the others.
pub fn select(file: &Local, schema: &Schema) -> anyhow::Result<Selection> {
    read(file, schema, |job, chunks| select::select(job, || chunks.next_chunk()))
}

fn read<T>(
    local: &Local,
    schema: &Schema,
    work: impl FnOnce(&Job<'_>, &mut Chunks<'_>) -> Result<T, AssembleError>,
) -> anyhow::Result<T> {
    let name = local.path.display().to_string();
    let file = File::open(&local.path).with_context(|| name.clone())?;
    let bar = output::bytes_bar(file.metadata().ok().map(|meta| meta.len()), "validating");
    let source = bar.wrap_read(BufReader::with_capacity(1 << 20, file));
    let opened = local.text(source).and_then(|text| Chunks::open(text, schema, local.mapping.as_ref()));
    let (mut chunks, decoder) = opened.with_context(|| name.clone())?;
    let job = Job {
        threads: parallelism(),
        decoder: decoder.as_ref(),
        validator: &schema.validator()?,
        plan: &Plan::nothing(),
        scratch: &temporary,
        progress: &AtomicU64::new(0),
    };
    let found = work(&job, &mut chunks).with_context(|| name.clone())?;
    bar.finish_and_clear();
    Ok(found)
}

pub fn run(args: Args, as_json: bool) -> Outcome {
    let name = args.file.display().to_string();
    let schema = schema(&args.schema)?;
    let found = examine(&args.reading.look_at(&args.file, Some(&schema))?, &schema)?;
    if let Some(html) = &args.html {
        let page = report::page(&found, &schema, &name);
        write_whole(html, page.as_bytes()).with_context(|| html.display().to_string())?;
    }
    if as_json {
        output::json(&found)?;
    } else {
        report::print(&found, Some((&schema, args.language)), &name);
        let (id, version) = (schema.id(), schema.version());
        match found.invalid {
            0 => {
                say!("{name}: {} valid under {id} {version}.", output::count(found.records, "record is", "records are"))
            }
            invalid => note!("error: {invalid} of {} records are invalid under {id} {version}", found.records),
        }
    }
    Ok(ExitCode::from(if found.invalid == 0 { 0 } else { exit::REFUSED }))
}
