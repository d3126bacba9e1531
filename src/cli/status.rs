//! `crosspark status`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use serde_json::Value;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let status = Api::new(&args.node)?.get("/v1/status").await?;
    if json {
        output::json(&status)?;
        return done();
    }
    let of = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value) if !value.is_null() => value.to_string(),
        _ => String::new(),
    };
    say!("node        {} (crosspark {})", of("/participant"), of("/version"));
    say!("endpoint    {}", of("/endpoint"));
    let register = status.get("register").cloned().unwrap_or_default();
    say!("register    {}, until {}", of("/register/sequence"), output::time(&register, "expires"));
    say!(
        "log         {} entries, {} of them not yet under a checkpoint",
        of("/health/log/entries"),
        of("/health/log/unsignedEntries")
    );
    say!(
        "outbox      {} messages waiting, the oldest for {} s",
        of("/outbox/waiting"),
        of("/health/outboxOldestSeconds")
    );
    say!("processes   {} open, {} downloads in progress", of("/health/openProcesses"), of("/health/downloads"));
    if let (Some(free), Some(total)) =
        (bytes(&status, "/health/disk/freeBytes"), bytes(&status, "/health/disk/totalBytes"))
    {
        say!("disk        {free} of {total} free");
    }
    let expiries = status.pointer("/health/expiries").and_then(Value::as_array).cloned().unwrap_or_default();
    for expiry in expiries {
        let (what, until, days) =
            (output::text(&expiry, "what"), output::time(&expiry, "until"), output::text(&expiry, "days"));
        say!("{what:<12} until {until} ({days} days)");
    }
    let warnings = status.pointer("/health/warnings").and_then(Value::as_array).cloned().unwrap_or_default();
    for warning in warnings.iter().filter_map(Value::as_str) {
        say!("ATTENTION   {warning}");
    }
    if warnings.is_empty() {
        say!("nothing needs attention");
    }
    done()
}

fn bytes(status: &Value, pointer: &str) -> Option<String> {
    status.pointer(pointer).and_then(Value::as_u64).map(output::bytes)
}
