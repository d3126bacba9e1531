//! `crosspark alliance`

use super::alliance_folder::{Folder, show};
use super::args::parse_name;
use super::outcome::Outcome;
use super::output::say;
use super::{alliance_members, alliance_schema, connector, files, root};
use crate::alliance::Alliance;
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, SystemClock};
use crate::durable::{make_folder, write_whole};
use crate::identity::join;
use crate::identity::rotation::claimed_participant;
use crate::keys::Kek;
use anyhow::Context;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Create an alliance: root document, register key, certification authority, empty register.
    Init(Init),
    /// Admit a park: check its join request, issue its certificate, add it to the register.
    Admit(Admit),
    /// Add another connector (EDC, Tractus-X, TSG) to the register, or change its entry.
    Connector(Box<connector::Connector>),
    /// Change a member's groups, endpoint, names or callback addresses.
    Change(alliance_members::Change),
    /// Suspend a member: its requests are refused from the next register on.
    Suspend(alliance_members::Suspend),
    /// Reinstate a suspended member.
    Reinstate(alliance_members::Member),
    /// Remove a member from the register.
    Remove(alliance_members::Member),
    /// The schemas that the alliance shares.
    #[command(subcommand)]
    Schema(alliance_schema::Command),
    /// Sign a new register, valid for 14 days.
    Renew(Folder),
    /// Grant a member the new keys or the new certificate that it requests.
    Rotate(Rotate),
    /// Change the root document: signers, threshold, register key, certification authority.
    #[command(subcommand)]
    Root(root::Command),
    /// Show the root's fingerprint and the register.
    Show(Folder),
}

#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    folder: Folder,
    /// Id of the alliance: did:web:HOST.
    #[arg(long)]
    id: ParticipantId,
    /// Name of the alliance with its language: en=Name. Repeat for other languages.
    #[arg(long = "name", value_parser = parse_name)]
    names: Vec<(String, Text)>,
}

#[derive(Args)]
pub struct Admit {
    #[command(flatten)]
    folder: Folder,
    /// File of the park's join request.
    #[arg(long)]
    request: PathBuf,
    /// Fingerprint of the join request, given by the park by telephone or in person.
    #[arg(long)]
    fingerprint: String,
    /// Group of the park, which policies may name. Repeat for several.
    #[arg(long = "group")]
    groups: Vec<Text>,
    /// File to write the welcome for the park to.
    #[arg(long)]
    welcome: PathBuf,
}

#[derive(Args)]
pub struct Rotate {
    #[command(flatten)]
    folder: Folder,
    /// File of the park's rotation request.
    #[arg(long)]
    request: PathBuf,
    /// Fingerprint of the request, given by the park by telephone or in person; required if no old key signed it.
    #[arg(long)]
    fingerprint: Option<String>,
    /// Days for which the old keys stay valid. Messages signed with them may be in transit for two weeks.
    #[arg(long, default_value_t = 30)]
    overlap_days: u32,
    /// File to write the welcome for the park to.
    #[arg(long)]
    welcome: PathBuf,
}

pub fn run(command: Command, json: bool) -> Outcome {
    let now = SystemClock.now();
    match command {
        Command::Init(args) => init(&args, json),
        Command::Admit(args) => admit(&args, json),
        Command::Connector(args) => connector::run(*args, json),
        Command::Change(args) => alliance_members::change(args, json),
        Command::Suspend(args) => alliance_members::suspend(args, json),
        Command::Reinstate(args) => alliance_members::reinstate(&args, json),
        Command::Remove(args) => alliance_members::remove(&args, json),
        Command::Renew(args) => {
            let mut alliance = args.open()?;
            alliance.renew(now)?;
            alliance_members::changed(&alliance, json, format_args!("The validity is renewed"));
            show(&alliance, json)
        }
        Command::Schema(command) => alliance_schema::run(command, json),
        Command::Rotate(args) => rotate(&args, json),
        Command::Root(command) => root::run(command, json),
        Command::Show(args) => show(&args.open()?, json),
    }
}

fn init(args: &Init, json: bool) -> Outcome {
    let random = SystemRandomness::new();
    let keys = args.folder.folder.join("keys");
    if args.folder.folder.join("root.json").exists() {
        anyhow::bail!("{} already contains an alliance, which is never overwritten", args.folder.folder.display());
    }
    // The folder of keys is created first: if it exists, an earlier attempt was interrupted, and the key-encryption key
    // belongs to it.
    let kek_path = args.folder.kek_path();
    let interrupted = keys.exists() && kek_path.exists();
    make_folder(&keys).context("the folder could not be created")?;
    let kek = if interrupted { Kek::load(&kek_path)? } else { Kek::create(&kek_path, &random)? };
    let names: BTreeMap<String, Text> = args.names.iter().cloned().collect();
    let alliance = Alliance::init(&args.folder.folder, kek, &args.id, names, SystemClock.now(), &random)?;
    if !json {
        say!("The alliance {} is in {}.", args.id, args.folder.folder.display());
        say!(
            "Its key-encryption key is {}: keep it separate from the folder and its backups.",
            args.folder.kek_path().display()
        );
        say!("Give every park the root's fingerprint by telephone or in person:");
    }
    show(&alliance, json)
}

fn admit(args: &Admit, json: bool) -> Outcome {
    let mut alliance = args.folder.open()?;
    let request = files::read(&args.request, &[files::Kind::JoinRequest])?;
    let fingerprint = Digest::parse_fingerprint(&args.fingerprint).context("--fingerprint")?;
    let before = join::verify(&request, &fingerprint).ok();
    let before = before.and_then(|request| alliance.register().member(&request.participant).cloned());
    let welcome = alliance.admit(&request, &fingerprint, &args.groups, SystemClock.now(), &SystemRandomness::new())?;
    write_whole(&args.welcome, serde_json::to_string_pretty(&welcome)?.as_bytes())
        .with_context(|| format!("the welcome {} could not be written", args.welcome.display()))?;
    if !json {
        let before = before.filter(|member| member.groups != args.groups.iter().cloned().collect());
        match before {
            Some(member) => say!(
                "{} was a member already: its welcome was written again, and its groups stay as they are. To change \
                 them: crosspark alliance change",
                member.id
            ),
            None => say!("Admitted."),
        }
        say!("Send {} to the park; it contains no secrets.", args.welcome.display());
    }
    show(&alliance, json)
}

fn rotate(args: &Rotate, json: bool) -> Outcome {
    let mut alliance = args.folder.open()?;
    let request = files::read(&args.request, &[files::Kind::Rotation])?;
    let fingerprint =
        args.fingerprint.as_deref().map(Digest::parse_fingerprint).transpose().context("--fingerprint")?;
    let overlap = i64::from(args.overlap_days) * 86_400_000;
    let welcome =
        alliance.rotate(&request, fingerprint.as_ref(), overlap, SystemClock.now(), &SystemRandomness::new())?;
    write_whole(&args.welcome, serde_json::to_string_pretty(&welcome)?.as_bytes())
        .with_context(|| format!("the welcome {} could not be written", args.welcome.display()))?;
    if !json {
        let member = claimed_participant(&request)?;
        say!("Granted. Send {} to {member}; it contains no secrets.", args.welcome.display());
    }
    show(&alliance, json)
}
