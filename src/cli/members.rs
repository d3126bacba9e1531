//! `crosspark members`: the members in this node's register, and keys that wait for an administrator's confirmation.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::KeyId;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

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
    /// File: `register.jws` or a root document.
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

async fn install(args: Install, json: bool) -> Outcome {
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", args.file.display()))?;
    let path = if text.trim_start().starts_with('{') { "/v1/root" } else { "/v1/register" };
    let api = Api::new(&args.node)?;
    let response = api.send(api.request(Method::POST, path).body(text)).await?;
    let answer: Value = response.json().await?;
    if json {
        output::json(&answer)?;
    } else {
        let new = answer["installed"] == true;
        say!("{}", if new { "installed" } else { "already installed" });
    }
    done()
}

async fn list(args: List, json: bool) -> Outcome {
    let found = Api::new(&args.node)?.get("/v1/members").await?;
    if json {
        output::json(&found)?;
        return done();
    }
    say!("register {} (expires {})", output::text(&found, "sequence"), output::text(&found, "expires"));
    let rows = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let members = rows("members");
    let members = members.iter().map(|member| {
        let names = member.get("names").and_then(Value::as_object).cloned().unwrap_or_default();
        let names: Vec<&str> = names.values().filter_map(Value::as_str).collect();
        let groups: Vec<&str> = output::list(member, "groups").iter().filter_map(Value::as_str).collect();
        let groups = if groups.is_empty() { String::new() } else { format!("groups: {}", groups.join(", ")) };
        let head = format!("{}  {}", output::text(member, "id"), output::text(member, "status"));
        (head, vec![names.join(" / "), output::text(member, "endpoint"), groups])
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
