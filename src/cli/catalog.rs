//! `crosspark catalog`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, note};
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
    let nothing = match &args.peer {
        Some(peer) => format!("{peer} offers nothing that this node may see."),
        None => "This node has published nothing; the datasets of peers: crosspark search".to_owned(),
    };
    let path = args.peer.map_or("/v1/datasets".to_owned(), |peer| format!("/v1/catalog?peer={}", peer.in_url()));
    let found = api.all(&path, "datasets").await?;
    if json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "datasets").iter().map(|dataset| output::dataset(dataset, ""));
    output::entries(rows, &nothing);
    let unknown = found.get("unreadable").and_then(Value::as_u64).unwrap_or(0);
    if unknown > 0 {
        note!("{unknown} more datasets have offers that this node does not understand.");
    }
    done()
}
