//! `crosspark schema infer`

use super::outcome::{Outcome, done};
use super::output::{self, note, say};
use super::reading::ReadingArgs;
use super::validate;
use crate::ingest::sketch;
use crate::schema::Schema;
use anyhow::Context;
use serde_json::json;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// File of records: NDJSON, JSON, CSV or a workbook.
    file: PathBuf,
    /// $id of the schema; a park's own begins with its id, as in did:web:park-a.example/rents.
    #[arg(long)]
    id: Option<String>,
    /// English title of the schema; by default from the file's name.
    #[arg(long)]
    title: Option<String>,
    #[command(flatten)]
    reading: ReadingArgs,
}

pub fn run(args: &Args, as_json: bool) -> Outcome {
    let name = args.file.display().to_string();
    let local = args.reading.look_at(&args.file, None)?;
    let file = File::open(&args.file).with_context(|| name.clone())?;
    let bar = output::bytes_bar(file.metadata().ok().map(|meta| meta.len()), "reading");
    let bytes = bar.wrap_read(BufReader::with_capacity(1 << 20, file));
    let sketch = local.text(bytes).and_then(sketch).with_context(|| name.clone())?;
    bar.finish_and_clear();
    let name_of = args.file.file_name().and_then(|name| name.to_str()).unwrap_or("records");
    // Without the extensions, of which a compressed file has two.
    let stem = name_of.split('.').find(|part| !part.is_empty()).unwrap_or(name_of);
    let id = args.id.clone().unwrap_or_else(|| format!("urn:example:{}", slug(stem)));
    let proposal = sketch.proposal(&id, args.title.as_deref().unwrap_or(stem));
    let schema = Schema::parse(proposal.text.as_bytes()).context("the proposal is not a valid schema")?;
    // The proposal is tried on the file: it must accept every record.
    let found = validate::examine(&local, &schema)?;
    if found.invalid > 0 {
        let (invalid, records) = (found.invalid, found.records);
        anyhow::bail!("{invalid} of {records} records of {name} are invalid under the proposal; please report this");
    }
    if as_json {
        output::json(&json!({"schema": schema.value(), "records": found.records, "open": proposal.open}))?;
    } else {
        say!("{}", proposal.text.trim_end());
        note!(
            "All {} of {name} are valid under it. To decide before others use it:",
            output::count(found.records, "record", "records")
        );
        proposal.open.iter().for_each(|open| note!("  {}: {}", open.pointer, open.question));
        note!("Fill in the empty titles and descriptions; `crosspark schema lint` names what is missing.");
    }
    done()
}

/// A file's name as the last part of an identifier.
fn slug(stem: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    stem.chars().map(plain).collect::<String>().trim_matches('-').to_owned()
}
