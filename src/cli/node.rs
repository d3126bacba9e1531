//! `crosspark node`

use super::alliance::kek_beside;
use super::{Outcome, done, output};
use crate::config::{self, AllianceSource, Config, Log, ManagementListener, PeerListener};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, SystemClock};
use crate::enrol::{self, NewNode};
use crate::identity::endpoint::Endpoint;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Subcommand)]
pub enum Command {
    /// Make a node: folder, configuration, four keys, join request, first admin token.
    Init(Init),
    /// Take the welcome that the alliance operator sent.
    Join(Join),
}

#[derive(Args)]
pub struct Init {
    /// Folder of the node.
    folder: PathBuf,
    /// Who the park is: did:web:HOST.
    #[arg(long)]
    id: ParticipantId,
    /// Its name, with a language: en=Name. Repeat for other languages.
    #[arg(long = "name", value_parser = parse_name, required = true)]
    names: Vec<(String, Text)>,
    /// Where its law is: ISO 3166, as in CN-BJ.
    #[arg(long)]
    jurisdiction: Text,
    /// How peers reach it: https://HOST:PORT.
    #[arg(long)]
    endpoint: Endpoint,
    /// Where the peer listener listens.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where the management listener listens; loopback only.
    #[arg(long, default_value = "127.0.0.1:8080")]
    management: SocketAddr,
    /// The alliance's URL, where registers are fetched from.
    #[arg(long)]
    alliance_url: Option<String>,
    /// Allow peers on loopback and private networks.
    #[arg(long)]
    allow_private_addresses: bool,
    /// Who administers the node; named in the log.
    #[arg(long, default_value = "administrator")]
    admin: Text,
    /// The key-encryption key; by default FOLDER.kek beside the folder.
    #[arg(long)]
    kek_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Join {
    /// Folder of the node.
    folder: PathBuf,
    /// The welcome.
    #[arg(long)]
    welcome: PathBuf,
    /// The root's fingerprint, as the alliance operator tells it by telephone or in person.
    #[arg(long)]
    root_fingerprint: String,
}

/// `en=Name`
pub fn parse_name(text: &str) -> Result<(String, Text), String> {
    let (language, name) = text.split_once('=').ok_or("expected LANGUAGE=NAME, as in en=My Park")?;
    let tag = (2..=8).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !tag {
        return Err(format!("`{language}` is no language tag"));
    }
    Ok((language.to_owned(), Text::parse(name).map_err(|error| error.to_string())?))
}

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::Init(args) => init(args, json).await,
        Command::Join(args) => join(args, json).await,
    }
}

async fn init(args: Init, json: bool) -> Outcome {
    let folder = std::path::absolute(&args.folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("the folder {} could not be made", folder.display()))?;
    let kek_file = std::path::absolute(args.kek_file.unwrap_or_else(|| kek_beside(&folder)))?;
    anyhow::ensure!(!kek_file.starts_with(&folder), "the key-encryption key must be outside of the node's folder");
    anyhow::ensure!(args.management.ip().is_loopback(), "--management must be a loopback address");
    let config = Config {
        participant: args.id.clone(),
        data: folder.clone(),
        kek_file: kek_file.clone(),
        peer: PeerListener {
            listen: args.listen,
            endpoint: args.endpoint,
            allow_private_addresses: args.allow_private_addresses,
        },
        management: ManagementListener { listen: args.management },
        alliance: args.alliance_url.map(|url| AllianceSource { url, ca_file: None }),
        log: Log::default(),
    };
    let written = Config { data: PathBuf::from("."), ..config.clone() };
    let new =
        NewNode { config, names: args.names.into_iter().collect(), jurisdiction: args.jurisdiction, admin: args.admin };
    let now = SystemClock.now();
    let (fingerprint, secret) =
        enrol::init(&new, &written.to_toml(), now, &SystemRandomness::new(), Arc::new(SystemClock)).await?;
    let request = folder.join(enrol::JOIN_REQUEST);
    if json {
        output::json(&json!({
            "participant": args.id, "config": folder.join(config::FILE), "kekFile": kek_file,
            "joinRequest": request, "fingerprint": fingerprint.fingerprint(), "adminToken": secret.as_str(),
        }))?;
        return done();
    }
    println!("The node {} is in {}.", args.id, folder.display());
    println!("Its key-encryption key is {}: keep it apart from the folder and its backups.", kek_file.display());
    println!();
    println!("1. Send {} to the alliance operator.", request.display());
    println!("2. Tell the operator this fingerprint, by telephone or in person:");
    println!("   {}", fingerprint.fingerprint());
    println!("3. Take the welcome: crosspark node join {} --welcome FILE --root-fingerprint F", folder.display());
    println!();
    println!("The first admin token, shown this once, good for 30 days:");
    println!("   {}", secret.as_str());
    done()
}

async fn join(args: Join, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let welcome = std::fs::read(&args.welcome)
        .with_context(|| format!("the welcome {} cannot be read", args.welcome.display()))?;
    let fingerprint = Digest::parse_fingerprint(&args.root_fingerprint).context("--root-fingerprint")?;
    let register =
        enrol::join(&config, &welcome, &fingerprint, &SystemRandomness::new(), Arc::new(SystemClock)).await?;
    let body = register.body();
    if json {
        output::json(&json!({"alliance": body.alliance, "sequence": body.sequence, "expires": body.expires}))?;
    } else {
        println!("Joined {} (register {}, {} members).", body.alliance, body.sequence, body.members.len());
        println!("Run it: crosspark serve {}", args.folder.display());
    }
    done()
}
