//! `crosspark doctor`: checks everything that a node needs and prints one result per check. It reads the folder and
//! connects to the peers as the node does; it changes nothing.

use super::outcome::{Outcome, exit};
use super::output::{self, say};
use crate::assembly::{self, OwnKeys, load_root, own_entry};
use crate::blob::Space;
use crate::config::{self, Config};
use crate::core::limits;
use crate::core::time::{Clock, SystemClock, Timestamp};
use crate::identity::register::{Member, Status, VerifiedRegister};
use crate::identity::root::RootChain;
use crate::keys::Kek;
use crate::net::{AddressRule, MemberClients, date_of, in_words, own_node_client};
use crate::node::Error;
use crate::sources::probe;
use crate::storage::sqlite;
use reqwest::Client;
use serde::Serialize;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the node, which may be running.
    folder: PathBuf,
}

/// Time in which a connection of sources must respond.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Attention,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    answer: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: impl Into<String>, verdict: Verdict, answer: impl Into<String>) {
        self.0.push(Finding { check: check.into(), verdict, answer: answer.into() });
    }

    /// Adds a finding for `found` and returns its value, if there is one; the answer of a failed check is its error.
    fn take<T, E: std::fmt::Display>(
        &mut self,
        check: &str,
        good: impl Fn(&T) -> String,
        found: Result<T, E>,
    ) -> Option<T> {
        match found {
            Ok(value) => {
                self.add(check, Verdict::Good, good(&value));
                Some(value)
            }
            Err(error) => {
                self.add(check, Verdict::Bad, error.to_string());
                None
            }
        }
    }
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let mut findings = Findings::default();
    examine(&args.folder, &mut findings).await;
    let bad = findings.0.iter().any(|finding| finding.verdict == Verdict::Bad);
    if json {
        output::json(&findings.0)?;
    } else {
        for Finding { check, verdict, answer } in &findings.0 {
            let sign = match verdict {
                Verdict::Good => "✓",
                Verdict::Attention => "!",
                Verdict::Bad => "✗",
            };
            say!("{sign} {check}: {answer}");
        }
    }
    Ok(if bad { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
}

async fn examine(folder: &Path, findings: &mut Findings) {
    let now = SystemClock.now();
    let config = Config::load(&folder.join(config::FILE));
    let Some(config) = findings.take("configuration", |_| "valid".into(), config) else { return };
    let kek = findings.take(
        "key-encryption key",
        |kek: &Kek| format!("{} is readable", kek.id()),
        Kek::load(&config.kek_file),
    );
    database(&config, findings);
    if assembly::is_unsettled(&config.data) {
        findings.add(
            "restored folder",
            Verdict::Attention,
            "the node is read-only until every active peer has reported the newest checkpoint that it holds of this log; \
             the running node's log names those that have not",
        );
    }
    let Some((roots, register)) = trust(&config, findings, now) else { return };
    let Some(member) = register.member(&config.participant) else {
        let sequence = register.body().sequence;
        return findings.add(
            "membership",
            Verdict::Bad,
            format!("register {sequence} does not list {}", config.participant),
        );
    };
    membership(member, findings);
    let keys = kek.and_then(|kek| keys(&config, &kek, member, findings, now));
    space(&config, findings);
    for (name, connection) in &config.connections {
        let late = |_| Err(Error::Unavailable(format!("{} does not respond", connection.place())));
        let tried = tokio::time::timeout(CONNECTION_TIME_MAX, probe(connection)).await.unwrap_or_else(late);
        findings.take(&format!("connection {name}"), String::clone, tried);
    }
    let running = listeners(&config, findings).await;
    if let Some(keys) = keys {
        let ca = roots.ca().map(<[u8]>::to_vec).collect();
        let rule = AddressRule { allow_private: config.peer.allow_private_addresses };
        let clients = MemberClients::new(keys.tls, ca, rule, Arc::new(SystemClock));
        for peer in &register.body().members {
            if peer.id == config.participant || peer.status != Status::Active {
                continue;
            }
            match peer.connector {
                None => connect(&clients, peer, running, findings).await,
                Some(_) => dial_connector(&clients, peer, findings).await,
            }
        }
    }
}

fn database(config: &Config, findings: &mut Findings) {
    let path = config.data.join(sqlite::FILE);
    let good = |entries: &u64| format!("intact; the log has {entries} entries and matches the last signed root");
    findings.take("database", good, sqlite::examine(&path, &config.participant.log_origin(0)));
}

fn trust(config: &Config, findings: &mut Findings, now: Timestamp) -> Option<(RootChain, VerifiedRegister)> {
    let loaded = || -> anyhow::Result<(RootChain, VerifiedRegister)> {
        let log = sqlite::log_rows(&config.data.join(sqlite::FILE))?;
        let mut roots = RootChain::new(load_root(&config.data)?);
        for json in log.roots()? {
            roots = roots.extended(json.as_bytes())?;
        }
        let jws = log.newest_register()?.ok_or(assembly::AssemblyError::NotJoined)?;
        let register = VerifiedRegister::verify_in(&jws, &roots)?;
        Ok((roots, register))
    };
    let good = |(roots, register): &(RootChain, VerifiedRegister)| {
        let (version, body) = (roots.newest().body().version, register.body());
        format!("register {} under root document {version}, {} members", body.sequence, body.members.len())
    };
    let (roots, register) = findings.take("register", good, loaded())?;
    expiry("register", register.body().expires, now, findings);
    Some((roots, register))
}

fn expiry(what: &str, until: Timestamp, now: Timestamp, findings: &mut Findings) {
    let days = until.ms().saturating_sub(now.ms()).div_euclid(86_400_000);
    // A register is valid for two weeks and renewed after one; a certificate is renewed a month before its end.
    let early = if what == "register" { 7 } else { 30 };
    let verdict = match days {
        ..0 => Verdict::Bad,
        days if days < early => Verdict::Attention,
        _ => Verdict::Good,
    };
    findings.add(format!("{what}: validity"), verdict, format!("until {until} ({days} days left)"));
}

fn membership(member: &Member, findings: &mut Findings) {
    match member.status {
        Status::Active => findings.add("membership", Verdict::Good, "active"),
        Status::Suspended => findings.add("membership", Verdict::Bad, "suspended by the alliance"),
    }
}

fn keys(config: &Config, kek: &Kek, member: &Member, findings: &mut Findings, now: Timestamp) -> Option<OwnKeys> {
    let loaded = OwnKeys::load(&config.data, kek, member, now);
    let good = |keys: &OwnKeys| {
        format!("readable and listed in the register (document key {}, log key {})", keys.document.id(), keys.log.id())
    };
    let keys = findings.take("keys and certificate", good, loaded)?;
    expiry("certificate", keys.certificate_until, now, findings);
    if member.endpoint != config.peer.endpoint {
        let (own, listed) = (&config.peer.endpoint, &member.endpoint);
        findings.add("endpoint", Verdict::Bad, format!("the configuration has {own}, but the register has {listed}"));
    }
    if own_entry(&config.data, &config.participant).is_some_and(|believed| believed.keys.len() < member.keys.len()) {
        findings.add("quarantine", Verdict::Attention, "keys of this node have not been confirmed here yet");
    }
    Some(keys)
}

fn space(config: &Config, findings: &mut Findings) {
    let space = Space::new(&config.data, config.disk.reserve_mib.saturating_mul(1 << 20));
    let good = |(free, total): &(u64, u64)| format!("{} of {} free", output::bytes(*free), output::bytes(*total));
    let Some((free, total)) = findings.take("disk", good, space.bytes()) else { return };
    if let Err(full) = space.check() {
        let answer = format!(
            "{full}: no data is received or published; make room, or change `disk.reserve_mib`; transfers can be ended \
             (`crosspark transfers terminate`, `crosspark request cancel`)"
        );
        findings.add("disk: free space", Verdict::Bad, answer);
    } else if free < total / limits::DISK_WARNED_FRACTION {
        findings.add("disk: free space", Verdict::Attention, "nearly full");
    }
}

/// Whether the node runs. The lock of its folder decides, since any program may answer at its ports.
async fn listeners(config: &Config, findings: &mut Findings) -> bool {
    match assembly::lock(&config.data) {
        Err(assembly::AssemblyError::Locked(_)) => {
            let (verdict, answer) = readiness(config).await;
            findings.add("node", verdict, answer);
            return true;
        }
        Err(error) => findings.add("node", Verdict::Bad, error.to_string()),
        Ok(_free) => {}
    }
    for (name, address) in [("peer.listen", config.peer.listen), ("management.listen", config.management.listen)] {
        let free = TcpListener::bind(address).map_err(|error| format!("in use by another program: {error}"));
        findings.take(&format!("port {address}"), |_| format!("free for `{name}`; the node is not running"), free);
    }
    false
}

/// Readiness, as the running node reports it.
async fn readiness(config: &Config) -> (Verdict, String) {
    let url = format!("http://{}/readyz", config.management.listen);
    let asked = match own_node_client() {
        Ok(client) => client.get(url).timeout(Duration::from_secs(5)).send().await.map_err(|error| in_words(&error)),
        Err(error) => Err(error.to_string()),
    };
    match asked {
        Ok(ready) if ready.status().is_success() => (Verdict::Good, "running and ready".into()),
        Ok(ready) => {
            let problem: serde_json::Value = ready.json().await.unwrap_or_default();
            (Verdict::Bad, format!("running, but not ready: {}", output::text(&problem, "detail")))
        }
        Err(error) => (Verdict::Bad, format!("a process has locked the folder but does not answer: {error}")),
    }
}

/// Checks the name, port and key of another connector. Any response at the base of its protocol paths is accepted.
async fn dial_connector(clients: &MemberClients, peer: &Member, findings: &mut Findings) {
    let name = format!("connector {}", peer.id);
    let client = clients.client(peer, peer.endpoint.as_str());
    let Some(client) = findings.take(&name, |_| format!("is at {}", peer.endpoint), client) else { return };
    let answer = client.get(peer.endpoint.as_str()).timeout(Duration::from_secs(20)).send().await;
    let answer = answer.map_err(|error| in_words(&error));
    findings.take(&format!("{name}: connection"), |_| "name, port, TLS and key are correct".into(), answer);
}

/// Checks a peer: its name, port and key, its clock, and whether it can connect to this node.
async fn connect(clients: &MemberClients, peer: &Member, running: bool, findings: &mut Findings) {
    let name = format!("peer {}", peer.id);
    let Some(client) =
        findings.take(&name, |_| format!("is at {}", peer.endpoint), clients.client(peer, peer.endpoint.as_str()))
    else {
        return;
    };
    let before = SystemClock.now();
    let version = get(&client, &peer.endpoint.join("/.well-known/dspace-version")).await;
    let took = SystemClock.now().ms() - before.ms();
    let Some(date) = findings.take(
        &format!("{name}: connection"),
        |_| format!("name, port, TLS and key are correct ({took} ms)"),
        version.map(|(date, _)| date),
    ) else {
        return;
    };
    match date.map(|date| date.ms() - SystemClock.now().ms()) {
        // The Date header has a resolution of one second.
        Some(skew) if skew.abs() > limits::SKEW_MS_MAX => {
            let seconds = skew / 1_000;
            findings.add(
                format!("{name}: clock"),
                Verdict::Bad,
                format!("differs by {seconds} s, which is refused (limit 60 s): synchronise both clocks with NTP"),
            );
        }
        Some(skew) if skew.abs() > 5_000 => {
            findings.add(format!("{name}: clock"), Verdict::Attention, format!("differs by {} s", skew / 1_000));
        }
        Some(_) => findings.add(format!("{name}: clock"), Verdict::Good, "synchronised"),
        None => findings.add(format!("{name}: clock"), Verdict::Attention, "the peer's answer has no Date header"),
    }
    if !running {
        return findings.add(
            format!("{name}: reverse connection"),
            Verdict::Attention,
            "not checked, because this node is not running",
        );
    }
    let back = get(&client, &peer.endpoint.join("/reach")).await.and_then(|(_, said)| {
        let said: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        if said["reached"] == true {
            Ok(())
        } else {
            Err(format!("the peer cannot connect to this node: {}", output::text(&said, "reason")))
        }
    });
    findings.take(&format!("{name}: reverse connection"), |()| "the peer can connect to this node".into(), back);
}

/// Fetches a URL; returns the server's time and the body.
async fn get(client: &Client, url: &str) -> Result<(Option<Timestamp>, String), String> {
    let response = client.get(url).timeout(Duration::from_secs(20)).send().await.map_err(|error| in_words(&error))?;
    let date = date_of(&response);
    let status = response.status();
    let body = response.text().await.map_err(|error| in_words(&error))?;
    if status.is_success() { Ok((date, body)) } else { Err(format!("the peer answers {status}: {body}")) }
}
