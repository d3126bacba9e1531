//! `crosspark clock`: the clock of a node, compared with its log and its peers.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done, exit};
use super::output::{self, say};
use clap::Subcommand;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// Compare the clock with the node's log and with its peers.
    Show(NodeArgs),
    /// Follow the machine's clock again after it was ahead; most peers must confirm its time.
    Correct(NodeArgs),
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::Show(node) => {
            let report = Api::new(&node)?.get("/v1/clock").await?;
            print(&report, as_json)?;
            let behind = report.get("behind").is_some_and(Value::is_string);
            Ok(if behind { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
        }
        Command::Correct(node) => {
            let report = Api::new(&node)?.post("/v1/clock/correction", &json!({})).await?;
            if !as_json {
                say!("The node follows the machine's clock again; its log states the correction.");
            }
            print(&report, as_json)?;
            done()
        }
    }
}

fn print(report: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(report);
    }
    say!("machine  {}", output::text(report, "system"));
    say!("node     {}", output::text(report, "node"));
    for peer in output::list(report, "peers") {
        let [id, time, ahead] = ["peer", "time", "aheadSeconds"].map(|name| output::text(peer, name));
        say!("peer     {time} at {id} ({ahead} s ahead)");
    }
    if report.get("behind").is_some_and(Value::is_string) {
        say!("WRONG    {}", output::text(report, "behind"));
    }
    Ok(())
}
