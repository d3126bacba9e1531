//! `crosspark node`

use super::args::{kek_beside, parse_name};
use super::files;
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::config::{self, AllianceSource, Config, Disk, Log, ManagementListener, PeerListener};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::limits;
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, NodeClock, SystemClock};
use crate::durable::make_folder;
use crate::enrol::{self, NewNode, Wanted};
use crate::identity::endpoint::Endpoint;
use crate::identity::key::KeyUse;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Create a node: folder, configuration, four keys, join request, first admin token.
    Init(Init),
    /// Join the alliance with the welcome file that its operator sent.
    Join(Join),
    /// Create new keys, or request a new certificate; the node may be running.
    Rotate(Rotate),
    /// Install the certificate from the operator's answer; a running node uses it after kill -HUP.
    Renew(Renew),
    /// Change the key-encryption key of a stopped node.
    RotateKek(Folder),
    /// Create an administrator's token on a stopped node, for example if none is left.
    AdminToken(AdminToken),
}

#[derive(Args)]
pub struct AdminToken {
    /// Folder of the node.
    folder: PathBuf,
    /// Person who will use the token, recorded in the log.
    #[arg(long, default_value = "administrator")]
    person: Text,
}

#[derive(Args)]
pub struct Init {
    /// Folder of the node.
    folder: PathBuf,
    /// Participant id of the park: did:web:HOST.
    #[arg(long)]
    id: ParticipantId,
    /// Name of the park with its language: en=Name. Repeat for other languages.
    #[arg(long = "name", value_parser = parse_name, required = true)]
    names: Vec<(String, Text)>,
    /// Jurisdiction (ISO 3166), such as CN-BJ.
    #[arg(long)]
    jurisdiction: Text,
    /// URL at which peers reach the node: https://HOST:PORT.
    #[arg(long)]
    endpoint: Endpoint,
    /// Address of the peer listener.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Address of the management listener; loopback only.
    #[arg(long, default_value = "127.0.0.1:8080")]
    management: SocketAddr,
    /// URL of the alliance, from which registers are fetched.
    #[arg(long)]
    alliance_url: Option<String>,
    /// Allow connections to peers on loopback and private networks.
    #[arg(long)]
    allow_private_addresses: bool,
    /// Administrator of the node, recorded in the log.
    #[arg(long, default_value = "administrator")]
    admin: Text,
    /// File of the key-encryption key; by default FOLDER.kek beside the folder.
    #[arg(long)]
    kek_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Join {
    /// Folder of the node.
    folder: PathBuf,
    /// Welcome file.
    #[arg(long)]
    welcome: PathBuf,
    /// Fingerprint of the root document, given by the alliance operator by telephone or in person.
    #[arg(long)]
    root_fingerprint: String,
}

#[derive(Args)]
pub struct Rotate {
    /// Folder of the node.
    folder: PathBuf,
    /// Use of a new key: tls, document, log or witness. Repeat for several.
    #[arg(long = "key", value_parser = parse_use)]
    keys: Vec<KeyUse>,
    /// Request a new certificate for the present TLS key.
    #[arg(long)]
    certificate: bool,
    /// The document key is lost or compromised: the new keys are not signed with it, and people compare fingerprints.
    #[arg(long)]
    document_key_lost: bool,
    /// File to write the request for the alliance operator to.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub struct Renew {
    /// Folder of the node.
    folder: PathBuf,
    /// File of the operator's answer.
    #[arg(long)]
    welcome: PathBuf,
}

#[derive(Args)]
pub struct Folder {
    /// Folder of the node.
    folder: PathBuf,
}

fn parse_use(text: &str) -> Result<KeyUse, String> {
    let all = [KeyUse::Tls, KeyUse::Document, KeyUse::Log, KeyUse::Witness];
    all.into_iter().find(|usage| usage.name() == text).ok_or_else(|| "expected tls, document, log or witness".into())
}

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::Init(args) => init(args, json).await,
        Command::Join(args) => join(args, json).await,
        Command::Rotate(args) => rotate(&args, json),
        Command::Renew(args) => renew(&args, json),
        Command::RotateKek(args) => rotate_kek(&args, json).await,
        Command::AdminToken(args) => admin_token(args, json).await,
    }
}

async fn init(args: Init, json: bool) -> Outcome {
    anyhow::ensure!(args.management.ip().is_loopback(), "--management must be a loopback address");
    anyhow::ensure!(args.listen != args.management, "--listen and --management must be different addresses");
    let folder = std::path::absolute(&args.folder)?;
    make_folder(&folder).with_context(|| format!("the folder {} could not be created", folder.display()))?;
    let kek_file = std::path::absolute(args.kek_file.unwrap_or_else(|| kek_beside(&folder)))?;
    anyhow::ensure!(!kek_file.starts_with(&folder), "the key-encryption key must be outside the node's folder");
    let config = Config {
        participant: args.id.clone(),
        data: folder.clone(),
        kek_file: kek_file.clone(),
        peer: PeerListener {
            listen: args.listen,
            endpoint: args.endpoint,
            allow_private_addresses: args.allow_private_addresses,
            writes_per_member_per_minute: limits::WRITES_PER_MEMBER_PER_MINUTE,
            stored_mib_per_member_per_day: limits::STORED_MIB_PER_MEMBER_PER_DAY,
        },
        management: ManagementListener { listen: args.management },
        alliance: args.alliance_url.map(|url| AllianceSource { url, ca_file: None }),
        disk: Disk::default(),
        log: Log::default(),
        connections: Default::default(),
    };
    let written = Config { data: PathBuf::from("."), ..config.clone() };
    let new =
        NewNode { config, names: args.names.into_iter().collect(), jurisdiction: args.jurisdiction, admin: args.admin };
    let now = SystemClock.now();
    let (fingerprint, secret) =
        enrol::init(&new, &written.to_toml(), now, &SystemRandomness::new(), NodeClock::of_system()).await?;
    let request = folder.join(enrol::JOIN_REQUEST);
    if json {
        output::json(&json!({
            "participant": args.id, "config": folder.join(config::FILE), "kekFile": kek_file,
            "joinRequest": request, "fingerprint": fingerprint.fingerprint(), "adminToken": secret.as_str(),
        }))?;
        return done();
    }
    say!("The node {} is in {}.", args.id, folder.display());
    say!("Its key-encryption key is {}: keep it separate from the folder and its backups.", kek_file.display());
    say!("");
    say!("1. Send {} to the alliance operator.", request.display());
    say!("2. Give the operator this fingerprint by telephone or in person:");
    say!("   {}", fingerprint.fingerprint());
    say!("3. Join with the welcome: crosspark node join {} --welcome FILE --root-fingerprint F", folder.display());
    say!("");
    say!("The first admin token, shown only once, valid for 30 days:");
    say!("   {}", secret.as_str());
    done()
}

async fn join(args: Join, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let welcome = files::read(&args.welcome, &[files::Kind::Welcome])?;
    let fingerprint = Digest::parse_fingerprint(&args.root_fingerprint).context("--root-fingerprint")?;
    let register =
        enrol::join(&config, &welcome, &fingerprint, &SystemRandomness::new(), NodeClock::of_system()).await?;
    let body = register.body();
    if json {
        output::json(&json!({"alliance": body.alliance, "sequence": body.sequence, "expires": body.expires}))?;
    } else {
        say!("Joined {} (register {}, {} members).", body.alliance, body.sequence, body.members.len());
        say!("Start the node: crosspark serve {}", args.folder.display());
    }
    done()
}

fn rotate(args: &Rotate, json: bool) -> Outcome {
    anyhow::ensure!(!args.keys.is_empty() || args.certificate, "give --key USE or --certificate");
    anyhow::ensure!(
        !args.out.exists(),
        "{} exists already: send it to the operator, or give another --out for a new request",
        args.out.display()
    );
    let config = Config::load(&args.folder.join(config::FILE))?;
    let wanted =
        Wanted { keys: args.keys.clone(), certificate: args.certificate, document_key_lost: args.document_key_lost };
    let asked = enrol::rotate(&config, &wanted, &args.out, SystemClock.now(), &SystemRandomness::new())?;
    if json {
        let keys = asked.keys.iter().map(|(key, digest)| json!({"key": key, "fingerprint": digest.fingerprint()}));
        let keys: Vec<_> = keys.collect();
        output::json(&json!({"request": args.out, "fingerprint": asked.rotation.fingerprint(), "keys": keys}))?;
        return done();
    }
    say!("1. Send {} to the alliance operator.", args.out.display());
    if args.document_key_lost {
        say!("2. Give the operator this fingerprint by telephone or in person:");
        say!("   {}", asked.rotation.fingerprint());
        say!("3. Give every park the fingerprint of each key (its node keeps the keys in quarantine until confirmed):");
        for (key, digest) in &asked.keys {
            say!("   {key}\n   {}", digest.fingerprint());
        }
    }
    say!("Then install the answer: crosspark node renew {} --welcome FILE", args.folder.display());
    done()
}

fn renew(args: &Renew, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let welcome = files::read(&args.welcome, &[files::Kind::Welcome])?;
    let until = enrol::renew(&config, &welcome, SystemClock.now())?;
    if json {
        output::json(&json!({"certificateUntil": until}))?;
        return done();
    }
    match until {
        Some(until) => say!("The certificate is valid until {until}. To use it in a running node: kill -HUP PID"),
        None => say!("The answer contains no certificate. The new keys come with the next register."),
    }
    done()
}

async fn rotate_kek(args: &Folder, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let (count, previous) = enrol::change_kek(&config, &SystemRandomness::new(), NodeClock::of_system()).await?;
    if json {
        output::json(&json!({"rewrapped": count, "kekFile": config.kek_file, "previousKekFile": previous}))?;
    } else {
        say!("{} contains a new key; {count} keys and secrets are wrapped under it.", config.kek_file.display());
        say!("Earlier backups open only with the previous key, which is now in {}:", previous.display());
        say!("move it to another place, and keep it as long as you keep them.");
    }
    done()
}

async fn admin_token(args: AdminToken, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let secret = enrol::admin_token(&config, args.person, &SystemRandomness::new(), NodeClock::of_system()).await?;
    if json {
        output::json(&json!({"adminToken": secret.as_str()}))?;
    } else {
        say!("The token, shown only once: {}", secret.as_str());
    }
    done()
}
