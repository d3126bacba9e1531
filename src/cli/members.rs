//! `crosspark members`: the members in this node's register, and keys that wait for an administrator's confirmation.

use super::api::{Api, NodeArgs};
use super::files;
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::KeyId;
use crate::identity::key::from_base64url;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// List the members, and the keys in quarantine.
    List(List),
    /// Confirm a key in quarantine, after comparing its fingerprint with the member by telephone or in person.
    Confirm(Confirm),
    /// Install a newer register or root document from a file.
    Install(Install),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
pub struct Confirm {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the key.
    key: KeyId,
    /// Fingerprint of the key, given by the member by telephone or in person.
    #[arg(long)]
    fingerprint: String,
}

#[derive(Args)]
pub struct Install {
    #[command(flatten)]
    node: NodeArgs,
    /// File with a register or root document, or with several registers, one in a line; or the operator's folder, or a
    /// copy of its `registers` and `roots`.
    file: PathBuf,
}

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::List(args) => list(args, json).await,
        Command::Confirm(args) => {
            let body = json!({"key": args.key, "fingerprint": args.fingerprint});
            let api = Api::new(&args.node)?;
            let response = api.send(api.request(Method::POST, "/v1/quarantine/confirm").json(&body)).await?;
            drop(response);
            if !json {
                say!("{} is confirmed.", args.key);
            }
            done()
        }
        Command::Install(args) => install(args, json).await,
    }
}

/// Installs what a file or folder holds: root documents first, then registers in their order.
async fn install(args: Install, json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let known = api.get("/v1/members").await?["sequence"].as_u64().unwrap_or(0);
    let mut installed = Vec::new();
    for (path, document) in documents(&args.file, known)? {
        let sequence = sequence_of(&document);
        match api.send(api.request(Method::POST, path).body(document)).await {
            Ok(response) => installed.push(response.json::<Value>().await?),
            // The node may have got a newer one from a peer in the meantime.
            Err(error) => {
                let now = api.get("/v1/members").await?["sequence"].as_u64().unwrap_or(0);
                if now == known || sequence.is_none_or(|sequence| sequence > now) {
                    return Err(error);
                }
            }
        }
    }
    bring_schemas(&api, &args.file.join("schemas")).await?;
    let newest = api.get("/v1/members").await?;
    let new = installed.iter().any(|answer| answer["installed"] == true);
    if json {
        output::json(&json!({"installed": new, "sequence": newest["sequence"]}))?;
    } else {
        let what = if new { "installed" } else { "already installed" };
        say!("{what}; the register is number {}", output::text(&newest, "sequence"));
    }
    done()
}

/// Gives the node the schemas of an operator's folder that it lacks.
async fn bring_schemas(api: &Api, folder: &Path) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let known = api.get("/v1/schemas").await?;
    let lacks = |schema: &&Value| schema.get("title").is_none();
    for schema in output::list(&known, "schemas").iter().filter(lacks) {
        let path = folder.join(format!("{}.json", output::text(schema, "digest").replace("sha256:", "")));
        let Ok(text) = std::fs::read(&path) else { continue };
        api.send(api.request(Method::POST, "/v1/schemas/shared").body(text)).await?;
    }
    Ok(())
}

/// The documents in a file (a register or root document, or several, one in a line) or in an operator's folder, with
/// their paths in the API. Registers of a folder that the node has are left out.
fn documents(file: &Path, known: u64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", path.display()))
    };
    if !file.is_dir() {
        let text = files::read(file, &[files::Kind::Register, files::Kind::Root])?;
        let text = String::from_utf8(text).map_err(|_| anyhow::anyhow!("{} is no register", file.display()))?;
        // A root document may have several lines.
        if text.trim_start().starts_with('{') {
            return Ok(vec![("/v1/root", text)]);
        }
        let all: Vec<&str> = text.split_whitespace().collect();
        // Of several, those that the node has are left out; a single one is judged by the node.
        let is_new = |jws: &&&str| all.len() == 1 || sequence_of(jws).is_none_or(|sequence| sequence > known);
        return Ok(all.iter().filter(is_new).map(|jws| ("/v1/register", (*jws).to_owned())).collect());
    }
    let mut found = Vec::new();
    let registers = [file.join("registers"), file.to_owned()].into_iter().find(|folder| folder.is_dir());
    let parts = [(file.join("roots"), "/v1/root"), (registers.unwrap_or_default(), "/v1/register")];
    for (folder, path) in parts {
        let mut numbered: Vec<(u64, PathBuf)> = Vec::new();
        for entry in folder.read_dir().into_iter().flatten() {
            let one = entry?.path();
            let number = one.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            numbered.extend(number.map(|number| (number, one)));
        }
        anyhow::ensure!(
            path == "/v1/root" || !numbered.is_empty(),
            "{} holds no registers (N.jws): give the operator's folder, or a register",
            file.display()
        );
        numbered.sort();
        for (number, one) in numbered {
            if path == "/v1/root" || number > known {
                found.push((path, read(&one)?));
            }
        }
    }
    Ok(found)
}

/// The number that a register states; the node verifies it.
fn sequence_of(jws: &str) -> Option<u64> {
    let payload = from_base64url(jws.split('.').nth(1)?)?;
    serde_json::from_slice::<Value>(&payload).ok()?.get("sequence")?.as_u64()
}

async fn list(args: List, json: bool) -> Outcome {
    let found = Api::new(&args.node)?.get("/v1/members").await?;
    if json {
        output::json(&found)?;
        return done();
    }
    say!("register {} (expires {})", output::text(&found, "sequence"), output::time(&found, "expires"));
    let rows = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let members = rows("members");
    let members = members.iter().map(|member| {
        let names = member.get("names").and_then(Value::as_object).cloned().unwrap_or_default();
        let names: Vec<&str> = names.values().filter_map(Value::as_str).collect();
        let groups: Vec<&str> = output::list(member, "groups").iter().filter_map(Value::as_str).collect();
        let groups = if groups.is_empty() { String::new() } else { format!("groups: {}", groups.join(", ")) };
        let head = format!("{}  {}", output::text(member, "id"), output::text(member, "status"));
        let reason = output::text(member, "reason");
        let reason = if reason.is_empty() { reason } else { format!("suspended: {reason}") };
        (head, vec![names.join(" / "), output::text(member, "endpoint"), groups, reason])
    });
    output::entries(members, "The register lists no members.");
    for key in rows("quarantine") {
        say!(
            "IN QUARANTINE  {}: no older key signed it. Compare its fingerprint with {}:",
            output::text(&key, "key"),
            output::text(&key, "member")
        );
        say!("               {}", output::text(&key, "fingerprint"));
    }
    done()
}
