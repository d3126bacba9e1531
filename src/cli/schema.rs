//! `crosspark schema`: the schemas built into the program, files of one's own, and the schemas of a node.

use super::api::NodeArgs;
use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use super::{schema_infer, schema_node, schema_page, schema_template, validate};
use crate::durable::{make_folder, write_whole};
use crate::schema::{self, Schema};
use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the schemas of a node, if a token is given; otherwise those that are built in.
    List(NodeArgs),
    /// Print a schema: a file, a built-in one, or one of a node if a token is given.
    Show(Show),
    /// Publish a schema of this park: nobody else must agree, and its datasets can be exchanged at once.
    Add(schema_node::Add),
    /// Write a proposal that the alliance's operator can add to the shared schemas.
    Propose(schema_node::Propose),
    /// Propose a schema for a file of records: names, types, formats, bounds, required fields and the key; every record of
    /// the file is valid under it. What the file does not show is listed.
    Infer(schema_infer::Args),
    /// Say what a schema lacks that others should find in it: descriptions in both languages, bounds, examples, a key.
    Lint(One),
    /// Compare a schema with its predecessor: whether every record that was valid stays valid, and whether the version
    /// says so.
    Diff(Diff),
    /// Validate the good and bad records of a table: each bad one must have the stated violation and no other.
    Test(Test),
    /// Print a schema in another standard's form, for the tools of data teams.
    Export(Export),
    /// Write an empty workbook to be filled in: a column for each property, with help, drop-downs and an example; filled in,
    /// it is published as it is.
    Template(schema_template::Args),
    /// Write a page that describes a schema, or all built-in ones, in English and Chinese.
    Docs(Docs),
}

#[derive(clap::Args)]
pub struct One {
    /// A schema file, or the $id or name of a built-in schema, such as enterprise.
    schema: String,
}

#[derive(clap::Args)]
pub struct Show {
    /// A schema file, or the $id or name of a built-in schema, or the $id, $id@VERSION or digest of one of the node.
    schema: String,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(clap::Args)]
pub struct Diff {
    /// The earlier schema.
    old: String,
    /// The later schema.
    new: String,
}

#[derive(clap::Args)]
pub struct Test {
    #[command(flatten)]
    one: One,
    /// File {"good": [record, ...], "bad": [{"because", "pointer", "rule", "record"}, ...]}.
    table: PathBuf,
}

#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    one: One,
    /// The Open Data Contract Standard v3.1, in JSON, which is YAML as well.
    #[arg(long, required = true)]
    odcs: bool,
}

#[derive(clap::Args)]
pub struct Docs {
    /// A schema file, or the $id or name of a built-in schema; all built-in ones if absent.
    schema: Option<String>,
    /// Folder of the pages.
    #[arg(long)]
    out: PathBuf,
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::List(node) if node.has_token() => schema_node::list(&node, as_json).await,
        Command::List(_) => list(as_json),
        Command::Show(args) => {
            let found = match validate::schema(&args.schema) {
                Err(_) if args.node.has_token() => schema_node::show(&args.node, &args.schema).await?,
                found => found?.value().clone(),
            };
            output::json(&found)?;
            done()
        }
        Command::Add(args) => schema_node::add(args, as_json).await,
        Command::Propose(args) => schema_node::propose(args, as_json).await,
        Command::Infer(args) => schema_infer::run(&args, as_json),
        Command::Lint(args) => lint(&args, as_json),
        Command::Diff(args) => diff(&args, as_json),
        Command::Test(args) => test(&args, as_json),
        Command::Export(args) => {
            output::json(&schema::contract(&validate::schema(&args.one.schema)?))?;
            done()
        }
        Command::Template(args) => schema_template::run(&args, as_json),
        Command::Docs(args) => docs(&args, as_json),
    }
}

/// The newest version of each built-in schema.
fn newest() -> Vec<Schema> {
    let mut found: Vec<Schema> = Vec::new();
    for schema in schema::built_in() {
        if !found.iter().any(|known| known.id() == schema.id()) {
            found.push(schema);
        }
    }
    found
}

fn list(as_json: bool) -> Outcome {
    let all = newest();
    if as_json {
        let one = |schema: &Schema| json!({"id": schema.id(), "version": schema.version(), "title": schema.title(), "digest": schema.digest()});
        output::json(&all.iter().map(one).collect::<Vec<_>>())?;
        return done();
    }
    for schema in all {
        say!("{:<46} {:<7} {}", schema.id(), schema.version(), schema.title());
    }
    done()
}

fn lint(args: &One, as_json: bool) -> Outcome {
    let schema = validate::schema(&args.schema)?;
    let found = schema::advice(&schema);
    if as_json {
        output::json(&found)?;
    } else {
        found.iter().for_each(|advice| say!("{}: {}", advice.pointer, advice.problem));
        say!(
            "{} {}: {}",
            schema.id(),
            schema.version(),
            output::count(found.len() as u64, "shortcoming", "shortcomings")
        );
    }
    Ok(ExitCode::from(if found.is_empty() { 0 } else { exit::REFUSED }))
}

fn diff(args: &Diff, as_json: bool) -> Outcome {
    let (old, new) = (validate::schema(&args.old)?, validate::schema(&args.new)?);
    let found = schema::succession(&new, &old)?;
    if as_json {
        output::json(&found)?;
    } else {
        found.breaking.iter().for_each(|change| say!("{}: {}", change.pointer, change.reason));
        match found.breaking.is_empty() {
            true => say!("Every record that {} accepts is accepted by {}.", old.version(), new.version()),
            false => say!("Records that {} accepts may be refused by {}.", old.version(), new.version()),
        }
        if let Some(problem) = &found.problem {
            note!("error: {problem}");
        }
    }
    Ok(ExitCode::from(if found.problem.is_none() { 0 } else { exit::REFUSED }))
}

/// Good and bad records of a schema.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    good: Vec<Value>,
    bad: Vec<Bad>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    because: String,
    pointer: String,
    rule: String,
    record: Value,
}

fn test(args: &Test, as_json: bool) -> Outcome {
    let schema = validate::schema(&args.one.schema)?;
    let name = args.table.display();
    let text = std::fs::read(&args.table).with_context(|| format!("the table {name}"))?;
    let table: Table = crate::core::json::read(&text).with_context(|| format!("the table {name}"))?;
    let validator = schema.validator()?;
    let violations = |record: &Value| {
        let mut tape = validator.tape();
        let parsed = tape.parse(record.to_string().as_bytes());
        parsed.map(|()| validator.validate(&tape)).unwrap_or_default()
    };
    let mut wrong = Vec::new();
    for (n, record) in table.good.iter().enumerate() {
        let found = violations(record);
        wrong.extend(
            found.into_iter().map(|v| format!("good record {}: {}: {} [{}]", n + 1, v.pointer, v.reason, v.rule)),
        );
    }
    for (n, bad) in table.bad.iter().enumerate() {
        let found = violations(&bad.record);
        if !matches!(found.as_slice(), [one] if one.pointer == bad.pointer && one.rule == bad.rule) {
            let found: Vec<String> = found.iter().map(|v| format!("{} [{}]", v.pointer, v.rule)).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
            let (n, because) = (n + 1, &bad.because);
            wrong.push(format!("bad record {n} ({because}): expected {} [{}], found {found}", bad.pointer, bad.rule));
        }
    }
    if as_json {
        output::json(&json!({"good": table.good.len(), "bad": table.bad.len(), "wrong": wrong}))?;
    } else {
        wrong.iter().for_each(|text| say!("{text}"));
        say!("{} good and {} bad records, {} wrong", table.good.len(), table.bad.len(), wrong.len());
    }
    Ok(ExitCode::from(if wrong.is_empty() { 0 } else { exit::REFUSED }))
}

fn docs(args: &Docs, as_json: bool) -> Outcome {
    let all = match &args.schema {
        Some(name) => vec![validate::schema(name)?],
        None => newest(),
    };
    make_folder(&args.out).with_context(|| args.out.display().to_string())?;
    let mut written = Vec::new();
    for schema in &all {
        let name: String = schema
            .id()
            .rsplit([':', '/'])
            .next()
            .unwrap_or("schema")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        let path = args.out.join(format!("{name}.html"));
        write_whole(&path, schema_page::page(schema).as_bytes()).with_context(|| path.display().to_string())?;
        written.push(path);
    }
    if as_json {
        output::json(&written)?;
    } else {
        written.iter().for_each(|path| say!("{}", path.display()));
    }
    done()
}
