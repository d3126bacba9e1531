//! `crosspark alliance root`: successors of the root document, signed under the old and the new threshold.

use super::alliance_folder::{Folder, show};
use super::args::kek_beside;
use super::files;
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::alliance::{Proposal, make_signer, sign_root, signers};
use crate::core::id::KeyId;
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, SystemClock};
use crate::durable::write_whole;
use crate::identity::document::MultiSigned;
use crate::identity::root::{NamedKey, Root};
use crate::keys::Kek;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// Create a root signer's key on the signer's machine, and write the public key for the operator.
    Signer(Signer),
    /// Propose a successor of the root document: new signers, threshold, register key or CA.
    Propose(Propose),
    /// Sign a proposal with the root keys in a folder.
    Sign(Sign),
    /// Install a proposal with enough signatures, and sign the next register under it.
    Install(Install),
}

#[derive(Args)]
pub struct Signer {
    /// Folder for the key.
    folder: PathBuf,
    /// Id of the key: ALLIANCE#key-N with a number that was never used.
    #[arg(long)]
    id: KeyId,
    /// File of the key-encryption key; by default FOLDER.kek beside the folder, created if it is missing.
    #[arg(long)]
    kek_file: Option<PathBuf>,
    /// File to write the public key to.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub struct Propose {
    #[command(flatten)]
    folder: Folder,
    /// Public key file of a signer to add. Repeat for several.
    #[arg(long = "add")]
    add: Vec<PathBuf>,
    /// Key id of a signer to drop. Repeat for several.
    #[arg(long = "drop")]
    drop: Vec<KeyId>,
    /// Number of signatures required from the new signers.
    #[arg(long)]
    threshold: Option<u64>,
    /// Create a new register key, because the present one is lost, compromised or old.
    #[arg(long)]
    new_register_key: bool,
    /// Create a new certification authority in addition to the present ones.
    #[arg(long)]
    new_ca: bool,
    /// Drop all but the newest certification authority. Every member must have a certificate from it by then.
    #[arg(long)]
    drop_old_ca: bool,
    /// File to write the proposal to.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub struct Sign {
    /// File of the proposal, to which the signatures are added.
    proposal: PathBuf,
    /// Folder of root keys: a signer's, or `keys` in the alliance's folder.
    #[arg(long)]
    keys: PathBuf,
    /// File of the key-encryption key of that folder; by default KEYS.kek beside it.
    #[arg(long)]
    kek_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Install {
    #[command(flatten)]
    folder: Folder,
    /// File of the signed proposal.
    proposal: PathBuf,
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Refuses to replace a file: it may be a proposal with signatures.
fn must_be_new(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists(), "{} exists already; give another --out", path.display());
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_whole(path, bytes).with_context(|| format!("{} could not be written", path.display()))
}

pub fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::Signer(args) => signer(&args, json),
        Command::Propose(args) => propose(args, json),
        Command::Sign(args) => sign(&args, json),
        Command::Install(args) => {
            let mut alliance = args.folder.open()?;
            alliance.install_root(&files::read(&args.proposal, &[files::Kind::Root])?, SystemClock.now())?;
            show(&alliance, json)
        }
    }
}

fn signer(args: &Signer, json: bool) -> Outcome {
    must_be_new(&args.out)?;
    let random = SystemRandomness::new();
    let kek_file = args.kek_file.clone().unwrap_or_else(|| kek_beside(&args.folder));
    let kek = if kek_file.exists() { Kek::load(&kek_file)? } else { Kek::create(&kek_file, &random)? };
    let public = make_signer(&args.folder, &args.id, &kek, &random)?;
    write(&args.out, serde_json::to_string_pretty(&public)?.as_bytes())?;
    if json {
        output::json(&public)?;
    } else {
        say!(
            "The key {} is in {}; send {} to the alliance operator.",
            args.id,
            args.folder.display(),
            args.out.display()
        );
    }
    done()
}

fn propose(args: Propose, json: bool) -> Outcome {
    must_be_new(&args.out)?;
    let add = args.add.iter().map(|path| {
        serde_json::from_slice::<NamedKey>(&read(path)?)
            .with_context(|| format!("{} is not a public key file", path.display()))
    });
    let proposal = Proposal {
        add_signers: add.collect::<anyhow::Result<_>>()?,
        drop_signers: args.drop,
        threshold: args.threshold,
        new_register_key: args.new_register_key,
        new_ca: args.new_ca,
        drop_old_ca: args.drop_old_ca,
    };
    let text = args.folder.open()?.propose(&proposal, SystemClock.now(), &SystemRandomness::new())?;
    write(&args.out, &text)?;
    tell(&text, json)?;
    if !json {
        say!("Each signer signs it with: crosspark alliance root sign {} --keys FOLDER", args.out.display());
    }
    done()
}

fn sign(args: &Sign, json: bool) -> Outcome {
    let kek = Kek::load(&args.kek_file.clone().unwrap_or_else(|| kek_beside(&args.keys)))?;
    let keys = signers(&args.keys, &kek)?;
    anyhow::ensure!(!keys.is_empty(), "{} contains no root key", args.keys.display());
    let text = sign_root(&files::read(&args.proposal, &[files::Kind::Root])?, &keys)?;
    write(&args.proposal, &text)?;
    tell(&text, json)
}

/// Prints what a signer must check before signing.
fn tell(text: &[u8], json: bool) -> Outcome {
    let document = MultiSigned::parse::<Root>(text)?;
    let (body, digest) = document.claimed::<Root>()?;
    let by = document.claimed_signers();
    if json {
        output::json(&json!({
            "version": body.version, "fingerprint": digest.fingerprint(), "signers": body.signers,
            "threshold": body.threshold, "registerKey": body.register_key, "authorities": body.ca.len(), "signedBy": by,
        }))?;
        return done();
    }
    let names: Vec<String> = body.signers.iter().map(|key| key.id.to_string()).collect();
    say!("root document  version {} of {}", body.version, body.alliance);
    say!("fingerprint    {}", digest.fingerprint());
    say!("signers        {} of: {}", body.threshold, names.join(", "));
    say!("register key   {}", body.register_key.id);
    say!("authorities    {}", body.ca.len());
    say!("signed by      {}", if by.is_empty() { "none yet".to_owned() } else { by.join(", ") });
    done()
}
