//! `crosspark catalog`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output;
use crate::core::id::ParticipantId;
use serde_json::Value;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Peer whose catalog is read; by default, this node's own datasets are listed (for publishers).
    #[arg(long)]
    peer: Option<ParticipantId>,
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let path = args.peer.map_or("/v1/datasets".to_owned(), |peer| format!("/v1/catalog?peer={}", peer.in_url()));
    let found = api.get(&path).await?;
    if json {
        output::json(&found)?;
        return done();
    }
    let datasets = found.get("datasets").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = datasets.iter().map(|dataset| {
        let schema = dataset.get("schema").map(|schema| output::text(schema, "id")).unwrap_or_default();
        let bytes = dataset.get("bytes").and_then(Value::as_u64).map(output::bytes).unwrap_or_default();
        let (id, title) = (output::text(dataset, "dataset"), output::text(dataset, "title"));
        vec![id, title, output::text(dataset, "version"), schema, output::text(dataset, "records"), bytes]
    });
    output::table(&["dataset", "title", "version", "schema", "records", "sealed"], rows);
    let unknown = found.get("unreadable").and_then(Value::as_u64).unwrap_or(0);
    if unknown > 0 {
        eprintln!("{unknown} more datasets have offers that this node does not understand.");
    }
    done()
}
