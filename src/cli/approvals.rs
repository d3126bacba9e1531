//! `crosspark approvals`: pending requests and offers, and their approval or rejection by a person of this park.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::{ProcessId, Text};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum Command {
    /// List pending requests (under a policy that requires consent) and offers from other parks.
    List(NodeArgs),
    /// Show a pending request or offer with its policy.
    Show(One),
    /// Approve a request or accept an offer.
    Approve(Approve),
    /// Reject a request or an offer.
    Reject(Reject),
}

#[derive(Args)]
pub struct One {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request or offer, as shown by `crosspark approvals list`.
    id: ProcessId,
}

#[derive(Args)]
pub struct Approve {
    #[command(flatten)]
    one: One,
    /// Reason, recorded in the log.
    #[arg(long)]
    comment: Option<Text>,
    /// For an offer: the purpose, if its policy permits several.
    #[arg(long)]
    purpose: Option<Text>,
    /// For an offer: the enterprise of this park that will use the data.
    #[arg(long)]
    enterprise: Option<Text>,
}

#[derive(Args)]
pub struct Reject {
    #[command(flatten)]
    one: One,
    /// Reason, sent to the peer and recorded in the log.
    #[arg(long)]
    comment: Option<Text>,
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::List(node) => list(&Api::new(&node)?, as_json).await,
        Command::Show(one) => {
            let found = Api::new(&one.node)?.get(&format!("/v1/approvals/{}", one.id.in_url())).await?;
            if as_json {
                output::json(&found)?;
                return done();
            }
            for name in ["id", "role", "peer", "dataset", "purpose", "enterprise", "trace"] {
                say!("{name:<12}{}", output::text(&found, name));
            }
            say!("{:<12}{}", "since", output::time(&found, "since"));
            say!("{:<12}{}", "terms", output::terms(&found));
            say!("{}", serde_json::to_string_pretty(found.get("policy").unwrap_or(&Value::Null))?);
            done()
        }
        Command::Approve(args) => {
            let decision = json!({
                "approve": true, "comment": args.comment, "purpose": args.purpose, "enterprise": args.enterprise,
            });
            decide(&args.one, &decision, as_json).await
        }
        Command::Reject(args) => decide(&args.one, &json!({"approve": false, "comment": args.comment}), as_json).await,
    }
}

async fn decide(one: &One, decision: &Value, as_json: bool) -> Outcome {
    let decided = Api::new(&one.node)?.post(&format!("/v1/approvals/{}", one.id.in_url()), decision).await?;
    if as_json {
        output::json(&decided)?;
    } else {
        say!("{} {}", if decision["approve"] == true { "approved" } else { "rejected" }, one.id);
    }
    done()
}

async fn list(api: &Api, as_json: bool) -> Outcome {
    let found = api.all("/v1/approvals", "approvals").await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "approvals").iter().map(|row| {
        let [id, role, peer, dataset, purpose, enterprise] =
            ["id", "role", "peer", "dataset", "purpose", "enterprise"].map(|name| output::text(row, name));
        let what = if role == "provider" { format!("request of {peer}") } else { format!("offer of {peer}") };
        let who = output::joined([what, enterprise, purpose, output::time(row, "since")], ", ");
        let trace = format!("trace {}", output::text(row, "trace"));
        (id, vec![who, format!("dataset {dataset}"), output::terms(row), trace])
    });
    output::entries(rows, "Nothing waits for a decision.");
    done()
}
