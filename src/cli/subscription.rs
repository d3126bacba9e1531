//! `crosspark subscription`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::{DatasetId, ParticipantId, SubscriptionId, Text};
use crate::subscriptions::NewSubscription;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

#[derive(Subcommand)]
pub enum Command {
    /// Let the node request each new version of a peer's dataset, beginning with the newest.
    Add(Add),
    /// List the subscriptions of your enterprise.
    List(List),
    /// End a subscription; what was requested goes on.
    Remove(Remove),
}

#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    node: NodeArgs,
    /// Providing park: did:web:HOST.
    #[arg(long)]
    provider: ParticipantId,
    /// Id of the dataset.
    #[arg(long)]
    dataset: DatasetId,
    /// Purpose; the policy may permit only certain purposes.
    #[arg(long)]
    purpose: Text,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the subscription.
    subscription: SubscriptionId,
}

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::Add(args) => {
            let new = NewSubscription { provider: args.provider, dataset: args.dataset, purpose: args.purpose };
            let made = Api::new(&args.node)?.post("/v1/subscriptions", &serde_json::to_value(new)?).await?;
            if json {
                output::json(&made)?;
            } else {
                let [id, version] = ["id", "version"].map(|name| output::text(&made, name));
                say!("Subscribed: {id}; version {version} is requested.");
            }
        }
        Command::List(args) => {
            let found = Api::new(&args.node)?.get("/v1/subscriptions").await?;
            if json {
                output::json(&found)?;
                return done();
            }
            let rows = output::list(&found, "subscriptions").iter().map(row);
            output::entries(rows, "There are no subscriptions.");
        }
        Command::Remove(args) => {
            let api = Api::new(&args.node)?;
            let path = format!("/v1/subscriptions/{}", args.subscription.in_url());
            api.send(api.request(Method::DELETE, &path)).await?;
            if !json {
                say!("removed: {}", args.subscription);
            }
        }
    }
    done()
}

fn row(subscription: &Value) -> (String, Vec<String>) {
    let [id, dataset, provider, purpose, version, stage, request, problem] =
        ["id", "dataset", "provider", "purpose", "version", "stage", "request", "problem"]
            .map(|name| output::text(subscription, name));
    let mut lines = vec![format!("{dataset} of {provider}, for {purpose}"), format!("version {version}: {stage}")];
    if !request.is_empty() {
        lines.push(format!("request {request}"));
    }
    if !problem.is_empty() {
        lines.push(format!("ATTENTION: {problem}"));
    }
    (id, lines)
}
