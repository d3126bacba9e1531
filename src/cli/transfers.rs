//! `crosspark transfers` and `crosspark offer`.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Subcommand)]
pub enum Command {
    /// List the open transfers.
    List(NodeArgs),
    /// Suspend a transfer: no data is served until this park resumes it.
    Suspend(Step),
    /// Resume a transfer that this park suspended.
    Resume(Step),
    /// Complete a transfer.
    Complete(Step),
    /// Terminate a transfer.
    Terminate(Step),
}

#[derive(Args)]
pub struct Step {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the transfer.
    id: ProcessId,
    /// Reason, sent to the peer.
    #[arg(long)]
    reason: Option<Text>,
}

#[derive(Args)]
pub struct Offer {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of a dataset of this park.
    dataset: DatasetId,
    /// Participant id of the consumer.
    #[arg(long)]
    to: ParticipantId,
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    let (step, name) = match command {
        Command::List(node) => return list(&Api::new(&node)?, as_json).await,
        Command::Suspend(step) => (step, "suspend"),
        Command::Resume(step) => (step, "resume"),
        Command::Complete(step) => (step, "complete"),
        Command::Terminate(step) => (step, "terminate"),
    };
    let body = json!({"step": name, "reason": step.reason});
    let moved = Api::new(&step.node)?.post(&format!("/v1/transfers/{}", step.id.in_url()), &body).await?;
    if as_json {
        output::json(&moved)?;
    } else {
        say!("{}: {}", step.id, output::text(&moved, "state"));
    }
    done()
}

async fn list(api: &Api, as_json: bool) -> Outcome {
    let found = api.all("/v1/transfers", "transfers").await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "transfers").iter().map(|row| {
        let [id, role, peer, format, state] =
            ["id", "role", "peer", "format", "state"].map(|name| output::text(row, name));
        let whose = if role == "provider" { format!("to {peer}") } else { format!("from {peer}") };
        (format!("{id}  {state}"), vec![output::joined([whose, format, output::time(row, "started")], ", ")])
    });
    output::entries(rows, "There are no open transfers.");
    done()
}

pub async fn offer(args: Offer, as_json: bool) -> Outcome {
    let body = json!({"consumer": args.to, "dataset": args.dataset});
    let made = Api::new(&args.node)?.post("/v1/offers", &body).await?;
    if as_json {
        output::json(&made)?;
    } else {
        say!("Offered to {}: negotiation {}.", args.to, output::text(&made, "id"));
    }
    done()
}
