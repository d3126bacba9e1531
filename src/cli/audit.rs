//! `crosspark audit`

use super::api::{Api, NodeArgs};
use super::files;
use super::outcome::{Outcome, done, exit};
use super::output::{self, say};
use crate::audit::check::{Check, Held, Report, UNCOVERED};
use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::entry::Entry;
use crate::backup;
use crate::core::digest::Digest;
use crate::core::id::{LogOrigin, ParticipantId};
use crate::core::json;
use crate::core::limits;
use crate::core::random::{self, SystemRandomness};
use crate::identity::key::{KeyUse, PublicKey};
use crate::identity::register::VerifiedRegister;
use crate::identity::root::{RootChain, VerifiedRoot};
use crate::storage::sqlite::{self, FILE, LogFile};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Verify a node's log offline: every entry, tile and checkpoint. Reports what is wrong, and from which entry on.
    Verify(Verify),
    /// List the entries of a running node's log.
    List(List),
}

#[derive(Args)]
pub struct Verify {
    /// Folder of the node whose log is verified, or a copy of it, or a backup archive.
    folder: PathBuf,
    /// Participant that the log must belong to.
    #[arg(long)]
    participant: ParticipantId,
    /// Fingerprint of the alliance's root document, from the operator; the whole verification relies on it.
    #[arg(long)]
    root_fingerprint: String,
    /// File of the root document; by default the one in the folder, checked against the fingerprint.
    #[arg(long)]
    root: Option<PathBuf>,
    /// File of a checkpoint of this log from another source. Repeat for several.
    #[arg(long = "checkpoint")]
    checkpoints: Vec<PathBuf>,
    /// Folder of another node whose checkpoints of this log are compared as well. Repeat for several.
    #[arg(long = "held-by")]
    held_by: Vec<PathBuf>,
    /// File of a newer register, if checkpoints are signed with a key that is not in the folder's registers yet. Repeat
    /// for several.
    #[arg(long = "register")]
    registers: Vec<PathBuf>,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
    /// Index of the first entry to list; by default, the newest entries are listed.
    #[arg(long)]
    from: Option<u64>,
    /// Maximum number of entries.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=limits::PAGE_ROWS_MAX as u64))]
    limit: u64,
}

/// Rows read in one step, so that memory use depends on the number of agreements, not on the length of the log.
const ROWS: usize = 1_000;

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::List(args) => list(args, json).await,
        Command::Verify(args) => {
            let report = verify(&args)?;
            print(&report, json)
        }
    }
}

fn print(report: &Report, json: bool) -> Outcome {
    if json {
        output::json(report)?;
    } else {
        say!("log          {}", report.origin);
        say!("entries      {} ({} under a signed checkpoint)", report.entries, report.covered);
        say!("root         {}", report.root);
        say!("checkpoints  {} compared", report.checkpoints);
        for note in &report.notes {
            say!("NOTE         {note}");
        }
        for fault in &report.faults {
            let id = fault.entry.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
            match fault.artifact {
                UNCOVERED => say!("NOT YET      {}", fault.reason),
                "checkpoint" => say!("WRONG        checkpoint: {}", fault.reason),
                artifact => say!("WRONG        entry {}{id}, {artifact}: {}", fault.index, fault.reason),
            }
        }
        match (report.is_good(), report.is_good_so_far()) {
            (true, _) => say!("verified"),
            (false, true) => say!("verified up to the last checkpoint"),
            (false, false) => say!("NOT VERIFIED"),
        }
    }
    Ok(match (report.is_good(), report.is_good_so_far()) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(exit::PENDING),
        (false, false) => ExitCode::from(exit::UNVERIFIED),
    })
}

impl Verify {
    /// Arguments for a call by another command.
    pub fn new(folder: &Path, participant: &ParticipantId, root: &Digest, held_by: Vec<PathBuf>) -> Self {
        Self {
            folder: folder.to_owned(),
            participant: participant.clone(),
            root_fingerprint: root.to_string(),
            root: None,
            checkpoints: Vec::new(),
            held_by,
            registers: Vec::new(),
        }
    }
}

/// A folder that is removed afterwards.
struct Unpacked(PathBuf);

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Verifies a log; only what the log's key signed is trusted.
pub fn verify(args: &Verify) -> anyhow::Result<Report> {
    if args.folder.is_file() {
        let name = hex::encode(random::bytes::<16>(&SystemRandomness::new()));
        let unpacked = Unpacked(std::env::temp_dir().join(format!("crosspark-audit-{name}")));
        backup::unpack_log(&args.folder, &unpacked.0)?;
        return verify_folder(args, &unpacked.0);
    }
    verify_folder(args, &args.folder)
}

fn verify_folder(args: &Verify, folder: &Path) -> anyhow::Result<Report> {
    let database = folder.join(FILE);
    anyhow::ensure!(database.exists(), "{} contains no log ({FILE} is missing)", args.folder.display());
    let log = sqlite::log_rows(&database)?;
    if let Some(other) = other_log(&log, &args.participant.log_origin(0))? {
        let folder = args.folder.display();
        anyhow::bail!("{folder} holds the log {other}, not that of {}; give its own --participant", args.participant);
    }
    let fingerprint = Digest::parse_fingerprint(&args.root_fingerprint).context("--root-fingerprint")?;
    let root = args.root.clone().unwrap_or_else(|| folder.join(crate::assembly::files::ROOT));
    let root = std::fs::read(&root).with_context(|| format!("the root document {}", root.display()))?;
    let root = VerifiedRoot::verify(&root, &fingerprint)?;
    let mut roots = RootChain::new(root);
    for json in log.roots()? {
        roots = roots.extended(json.as_bytes()).context("a root document in the folder")?;
    }
    let mut registers = log.registers()?;
    for folder in &args.held_by {
        let other = sqlite::log_rows(&folder.join(FILE)).with_context(|| format!("{}", folder.display()))?;
        for json in other.roots()? {
            // A root document that is no successor is none of this alliance.
            roots = roots.extended(json.as_bytes()).unwrap_or(roots);
        }
        registers.extend(other.registers()?);
    }
    for path in &args.registers {
        let register = files::read(path, &[files::Kind::Register])?;
        registers.push(String::from_utf8_lossy(&register).trim().to_owned());
    }
    let keys = log_keys(&registers, &roots, &args.participant)?;
    let origin = args.participant.log_origin(0);

    // What is not a checkpoint of this log is a fault of the report, like a checkpoint that does not match.
    let (mut held, mut wrong) = (Vec::new(), Vec::new());
    let mut read = |note: &str, source: String| {
        match Checkpoint::verify(note, &origin, &keys) {
        Ok(checkpoint) => held.push(Held { checkpoint, source }),
        Err(error @ CheckpointError::Unsigned(_)) => wrong.push(format!(
            "{source}: {error}; if the log's key was changed after this copy was made, give --register with a newer register"
        )),
        Err(error) => wrong.push(format!("{source}: {error}")),
    }
    };
    for note in log.checkpoints()? {
        read(&note, "a checkpoint stored by the node itself".to_owned());
    }
    for path in &args.checkpoints {
        let note = std::fs::read_to_string(path).with_context(|| format!("the checkpoint {}", path.display()))?;
        anyhow::ensure!(Checkpoint::is_note(&note), "{} is no checkpoint", path.display());
        read(&note, path.display().to_string());
    }
    for folder in &args.held_by {
        let other = sqlite::log_rows(&folder.join(FILE)).with_context(|| format!("{}", folder.display()))?;
        let notes = other.peer_checkpoints(args.participant.as_str())?;
        anyhow::ensure!(
            !notes.is_empty(),
            "{} holds no checkpoint of this log, so nothing could be compared; a node holds those of its providers",
            folder.display()
        );
        for note in notes {
            read(&note, format!("the checkpoint held by {}", folder.display()));
        }
    }
    let mut check = Check::new(origin, held);
    wrong.into_iter().for_each(|reason| check.wrong_checkpoint(reason));
    go_through(&log, check)
}

/// The log that the first and the last entry claim to belong to, if it is another one.
fn other_log(log: &LogFile, origin: &LogOrigin) -> anyhow::Result<Option<LogOrigin>> {
    let origin_at = |index: u64| -> anyhow::Result<Option<LogOrigin>> {
        let rows = log.rows(index, 1)?;
        Ok(rows.first().and_then(|row| json::read::<Entry>(&row.body).ok()).map(|entry| entry.origin))
    };
    let (first, last) = (origin_at(0)?, origin_at(log.head()?.saturating_sub(1))?);
    Ok(first.filter(|first| first != origin && last.as_ref() == Some(first)))
}

/// The log's keys, from registers verified under the root document.
fn log_keys(registers: &[String], roots: &RootChain, participant: &ParticipantId) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for jws in registers {
        let register = VerifiedRegister::verify_in(jws, roots).context("a register")?;
        if let Some(member) = register.member(participant) {
            keys.extend(member.keys_for(KeyUse::Log, register.body().issued).map(|(_, key)| key));
        }
    }
    anyhow::ensure!(!keys.is_empty(), "no register lists a log key of {participant}");
    Ok(keys)
}

fn go_through(log: &LogFile, mut check: Check) -> anyhow::Result<Report> {
    let bar = output::bytes_bar(None, "verifying");
    let mut from = 0;
    loop {
        let rows = log.rows(from, ROWS)?;
        let Some(last) = rows.last() else { break };
        from = last.index.saturating_add(1);
        for row in &rows {
            for tile in check.row(row) {
                check.tile(&tile, log.tile(tile.level, tile.index).as_deref());
            }
            bar.inc(row.body.len() as u64);
        }
    }
    check.head(log.head()?);
    for tile in check.partial() {
        check.tile(&tile, log.tile(tile.level, tile.index).as_deref());
    }
    bar.finish_and_clear();
    Ok(check.finish())
}

async fn list(args: List, json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let status = api.get("/v1/status").await?;
    let all = status.pointer("/health/log/entries").and_then(Value::as_u64).unwrap_or(0);
    let from = args.from.unwrap_or(all.saturating_sub(args.limit));
    let found = api.get(&format!("/v1/audit/entries?from={from}&limit={}", args.limit)).await?;
    if json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "entries").iter().map(|row| {
        let entry = row.get("entry").cloned().unwrap_or_default();
        let detail = entry.get("detail").cloned().unwrap_or_default();
        let parties = output::list(&entry, "parties").iter().filter_map(Value::as_str).map(str::to_owned);
        let person = output::list(row, "fields").iter().find(|field| output::text(field, "name") == "person");
        let person = person.map(|field| output::text(field, "value")).unwrap_or_default();
        let [kind, decision, rule, dataset, enterprise, purpose] =
            ["kind", "decision", "rule", "dataset", "enterprise", "purpose"].map(|name| output::text(&entry, name));
        // The reason for a refused publication is only its code, since it might quote records.
        let reason = Some(output::text(&detail, "reason")).filter(|reason| *reason != rule).unwrap_or_default();
        let rule = if rule.is_empty() { rule } else { format!("by {rule}") };
        let purpose = if purpose.is_empty() { purpose } else { format!("for {purpose}") };
        let decided = output::joined([decision, rule], " ");
        let head =
            [output::text(row, "index"), output::time_to_second(&entry, "time"), kind, output::text(&detail, "state")];
        let who = output::joined(parties.chain([enterprise, person, purpose]), ", ");
        (output::joined(head, "  "), vec![output::joined([decided, reason], ": "), who, dataset, counts(&detail)])
    });
    let shown = rows.len() as u64;
    output::entries(rows, "There are no entries from this index on.");
    if shown > 0 && shown < all {
        let last = from + shown - 1;
        say!("Entries {from} to {last}, of {all}; others: --from INDEX --limit NUMBER");
    }
    done()
}

/// The numbers that an entry states.
fn counts(detail: &Value) -> String {
    let names = [("version", "version"), ("records", "records"), ("invalid", "invalid"), ("line", "line")];
    let more = [("used", "uses before"), ("count", "times"), ("members", "members"), ("sequence", "register")];
    let stated = names.into_iter().chain(more).map(|(name, words)| match output::text(detail, name) {
        number if number.is_empty() => number,
        number if matches!(name, "version" | "line" | "sequence") => format!("{words} {number}"),
        number => format!("{number} {words}"),
    });
    let bytes = detail.get("bytes").and_then(Value::as_u64).map(output::bytes).unwrap_or_default();
    output::joined(stated.chain([bytes]), ", ")
}
