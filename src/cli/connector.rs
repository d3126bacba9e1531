//! `crosspark alliance connector`

use super::alliance_folder::{Folder, show};
use super::args::parse_name;
use super::outcome::Outcome;
use super::output::say;
use crate::alliance::NewConnector;
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::time::{Clock, SystemClock};
use crate::identity::endpoint::Endpoint;
use anyhow::Context;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Connector {
    #[command(flatten)]
    folder: Folder,
    /// Participant id: did:web:HOST.
    #[arg(long)]
    id: ParticipantId,
    /// Name with its language: en=Name. Repeat for other languages.
    #[arg(long = "name", value_parser = parse_name, required = true)]
    names: Vec<(String, Text)>,
    /// Jurisdiction: a country or region (ISO 3166).
    #[arg(long)]
    jurisdiction: Text,
    /// Base URL of its protocol paths for version 2025-1, such as https://HOST/protocol/2025-1.
    #[arg(long)]
    endpoint: Endpoint,
    /// Prefix of its callback addresses, if it is not the endpoint. Repeat for several.
    #[arg(long = "callback")]
    callbacks: Vec<Endpoint>,
    /// Prefix of its data addresses. Repeat for several.
    #[arg(long)]
    data: Vec<Endpoint>,
    /// File of its TLS certificates (PEM, ECDSA P-256): those of its servers and, if it has one, of its client.
    #[arg(long)]
    certificate: PathBuf,
    /// File of the public key of its bearer tokens (PEM, Ed25519), if it cannot use client certificates.
    #[arg(long)]
    token_key: Option<PathBuf>,
    /// SHA-256 of each key's SubjectPublicKeyInfo, given by the connector's operator by telephone or in person.
    #[arg(long = "fingerprint")]
    fingerprints: Vec<String>,
    /// Group of the connector, which policies may name. Repeat for several.
    #[arg(long = "group")]
    groups: Vec<Text>,
}

pub fn run(args: Connector, json: bool) -> Outcome {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let fingerprints: Result<Vec<Digest>, _> =
        args.fingerprints.iter().map(|text| Digest::parse_fingerprint(text)).collect();
    let id = args.id.clone();
    let new = NewConnector {
        id: args.id,
        names: args.names.into_iter().collect(),
        jurisdiction: args.jurisdiction,
        endpoint: args.endpoint,
        callbacks: args.callbacks,
        data: args.data,
        groups: args.groups,
        certificates: read(&args.certificate)?,
        token_key: args.token_key.as_deref().map(read).transpose()?,
    };
    let mut alliance = args.folder.open()?;
    let changed = alliance.admit_connector(new, &fingerprints.context("--fingerprint")?, SystemClock.now())?;
    if !json {
        let member = alliance.register().member(&id);
        for key in member.into_iter().flat_map(|member| &member.keys) {
            say!("{:?} key {}: valid until {}", key.usage, key.id, key.until);
        }
        say!("Bearer tokens name the document key as `kid`.");
        match changed {
            true => say!("Give register {} to the parks.", alliance.register().body().sequence),
            false => say!("{id} is in the register with these values already; it stays as it is."),
        }
    }
    show(&alliance, json)
}
