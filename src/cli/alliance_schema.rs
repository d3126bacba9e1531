//! `crosspark alliance schema add | deprecate | list`

use super::alliance_folder::Folder;
use super::alliance_members::changed;
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::alliance::Alliance;
use crate::core::id::ParticipantId;
use crate::core::json;
use crate::core::time::{Clock, SystemClock, Timestamp};
use crate::identity::schemas::SchemaEntry;
use crate::schema::{self, Schema};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Add a schema to the register: a schema file, or a park's proposal (`crosspark schema propose`).
    Add(Add),
    /// Deprecate a schema: from the given time on no more data is published under it. Its datasets stay readable.
    Deprecate(Deprecate),
    /// List the schemas of the register.
    List(Folder),
}

#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    folder: Folder,
    /// File of the schema or proposal.
    file: PathBuf,
    /// The member that maintains the schema, if the alliance does not.
    #[arg(long)]
    owner: Option<ParticipantId>,
    /// Accept that records which were valid may be refused. The major version must be larger, too.
    #[arg(long)]
    breaking: bool,
}

#[derive(Args)]
pub struct Deprecate {
    #[command(flatten)]
    folder: Folder,
    /// $id of the schema.
    id: String,
    /// Its version.
    #[arg(long, required_unless_present = "all")]
    version: Option<String>,
    /// All its versions.
    #[arg(long, conflicts_with = "version")]
    all: bool,
    /// Time from which no more data is published under it: 2027-01-01 (UTC) or 2027-01-01T08:00:00Z; `never` makes it
    /// active again.
    #[arg(long, value_parser = parse_end)]
    until: End,
}

/// When a schema ends; `None` if it does not.
#[derive(Clone)]
struct End(Option<Timestamp>);

/// A park's proposal, as `crosspark schema propose` writes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposal {
    format: String,
    schema: String,
    statement: String,
}

fn parse_end(text: &str) -> Result<End, String> {
    if text == "never" {
        return Ok(End(None));
    }
    let whole_day = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    let end = Timestamp::parse(text).or_else(|error| whole_day().map_err(|_| error.to_string()));
    end.map(|end| End(Some(end)))
}

pub fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::Add(args) => add(args, as_json),
        Command::Deprecate(args) => deprecate(&args, as_json),
        Command::List(folder) => list(&folder.open()?, as_json),
    }
}

fn add(args: Add, as_json: bool) -> Outcome {
    let name = args.file.display().to_string();
    let bytes = std::fs::read(&args.file).with_context(|| name.clone())?;
    let is_proposal = json::read_value(&bytes).is_ok_and(|value| value.get("statement").is_some_and(Value::is_string));
    let mut alliance = args.folder.open()?;
    let now = SystemClock.now();
    let (text, added) = if is_proposal {
        let proposal: Proposal = json::read(&bytes).with_context(|| name.clone())?;
        anyhow::ensure!(proposal.format == "schema-proposal/1", "{name}: unknown format `{}`", proposal.format);
        let added = alliance.add_proposed(proposal.schema.as_bytes(), &proposal.statement, args.breaking, now);
        (proposal.schema.into_bytes(), added)
    } else {
        let added = alliance.add_schema(&bytes, args.owner, args.breaking, now);
        (bytes, added)
    };
    let added = added.with_context(|| name.clone())?;
    let schema = Schema::parse(&text)?;
    let advice = schema::advice(&schema);
    if as_json {
        output::json(&json!({
            "id": schema.id(), "version": schema.version(), "digest": schema.digest(), "added": added,
            "sequence": alliance.register().body().sequence, "advice": advice,
        }))?;
        return done();
    }
    let what = format!("the schema {} {}", schema.id(), schema.version());
    match added {
        true => changed(&alliance, as_json, format_args!("{what} is added")),
        false => say!("{what} is in the register already, which stays as it is."),
    }
    if !advice.is_empty() {
        let count = output::count(advice.len() as u64, "shortcoming", "shortcomings");
        say!("It has {count}; `crosspark schema lint {name}` names them.");
    }
    done()
}

fn deprecate(args: &Deprecate, as_json: bool) -> Outcome {
    let mut alliance = args.folder.open()?;
    let (now, end) = (SystemClock.now(), args.until.0);
    let count = alliance.deprecate_schema(&args.id, args.version.as_deref(), end, now)?;
    if as_json {
        return list(&alliance, true);
    }
    let versions = output::count(count as u64, "version", "versions");
    let end = match end {
        None => "active again".to_owned(),
        Some(end) if end <= now => "deprecated at once".to_owned(),
        Some(end) => format!("deprecated from {end} on"),
    };
    changed(&alliance, as_json, format_args!("{versions} of {}: {end},", args.id));
    done()
}

fn list(alliance: &Alliance, as_json: bool) -> Outcome {
    let mut all: Vec<&SchemaEntry> = alliance.register().body().schemas.iter().collect();
    if as_json {
        output::json(&json!({"sequence": alliance.register().body().sequence, "schemas": all}))?;
        return done();
    }
    all.sort_by_key(|entry| (entry.id.as_str(), schema::version_order(&entry.version)));
    let lines = all.into_iter().map(|entry| {
        let owner = entry.owner.as_ref().map(|owner| format!("maintained by {owner}")).unwrap_or_default();
        let end = entry.deprecated.map(|end| format!("deprecated: no more data from {end} on")).unwrap_or_default();
        let title = alliance.schema_title(&entry.digest).unwrap_or_default();
        (format!("{} {}", entry.id, entry.version), vec![title, owner, end])
    });
    output::entries(lines, "The register lists no schemas.");
    done()
}
