//! The command line: one file a command.

mod alliance;
mod api;
mod audit;
mod backup;
mod catalog;
mod connector;
mod demo;
mod doctor;
mod fetch;
mod members;
mod node;
mod output;
mod publish;
mod request;
mod requests;
mod root;
mod search;
mod serve;
mod status;
mod token;
mod transfers;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Exit codes beside 0 (done) and 2 (wrong usage, by clap).
pub mod exit {
    /// It failed.
    pub const FAILED: u8 = 1;
    /// It was refused: by a policy, a peer, or because records are invalid.
    pub const REFUSED: u8 = 3;
    /// Evidence does not verify.
    pub const UNVERIFIED: u8 = 4;
    /// It is not decided yet.
    pub const PENDING: u8 = 5;
}

/// Validated, sealed datasets between parks, under policy, with evidence.
#[derive(Parser)]
#[command(
    name = "crosspark",
    version,
    about = "Exchange validated, sealed datasets between parks, under policy, with evidence / 园区间数据交换",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 evidence does not verify, 5 not decided yet."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run an alliance: its root document, register and certificates.
    #[command(subcommand)]
    Alliance(alliance::Command),
    /// Make a park's node, and let it join an alliance.
    #[command(subcommand)]
    Node(node::Command),
    /// Run a park's node.
    Serve(serve::Args),
    /// Look at everything that a node needs, with a plain answer for each.
    Doctor(doctor::Args),
    /// See how a running node is doing.
    Status(status::Args),
    /// Publish a file of records as a dataset.
    Publish(publish::Args),
    /// See what this node or a peer offers.
    Catalog(catalog::Args),
    /// Search what all peers let this node see.
    Search(search::Search),
    /// Withdraw a dataset of this node.
    Withdraw(search::Withdraw),
    /// Request a peer's dataset, or see how requests are.
    #[command(subcommand)]
    Request(request::Command),
    /// Decide what waits for a person: approve or reject.
    #[command(subcommand)]
    Requests(requests::Command),
    /// Offer a dataset to a consumer.
    Offer(transfers::Offer),
    /// See the transfers that are under way; pause, resume or end them.
    #[command(subcommand)]
    Transfers(transfers::Command),
    /// Write a delivered dataset to a file.
    Fetch(fetch::Args),
    /// See the alliance's members, confirm keys, give the node a newer register.
    #[command(subcommand)]
    Members(members::Command),
    /// Make, list and revoke tokens of the management API.
    #[command(subcommand)]
    Token(token::Command),
    /// Verify a node's log offline, or list its entries.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write one consistent archive of a node's folder, while it runs.
    Backup(backup::Backup),
    /// Make a node's folder from an archive.
    Restore(backup::Restore),
    /// Show the whole: an alliance, two parks, a delivery, a refusal, both logs verified.
    Demo(demo::Args),
}

/// How a command ended.
pub type Outcome = anyhow::Result<ExitCode>;

/// Runs a command.
pub fn run(cli: Cli) -> ExitCode {
    // Every TLS configuration names ring itself; this is for what asks for the process' default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let json = cli.json;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Alliance(command) => alliance::run(command, json),
            Command::Node(command) => node::run(command, json).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Doctor(args) => doctor::run(args, json).await,
            Command::Status(args) => status::run(args, json).await,
            Command::Publish(args) => publish::run(args, json).await,
            Command::Catalog(args) => catalog::run(args, json).await,
            Command::Search(args) => search::search(args, json).await,
            Command::Withdraw(args) => search::withdraw(args, json).await,
            Command::Request(command) => request::run(command, json).await,
            Command::Requests(command) => requests::run(command, json).await,
            Command::Offer(args) => transfers::offer(args, json).await,
            Command::Transfers(command) => transfers::run(command, json).await,
            Command::Fetch(args) => fetch::run(args, json).await,
            Command::Members(command) => members::run(command, json).await,
            Command::Token(command) => token::run(command, json).await,
            Command::Audit(command) => audit::run(command, json).await,
            Command::Backup(args) => backup::backup(&args, json),
            Command::Restore(args) => backup::restore(&args, json),
            Command::Demo(args) => demo::run(args, json).await,
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            error.downcast_ref::<api::ApiError>().map_or(ExitCode::from(exit::FAILED), api::ApiError::exit_code)
        }
    }
}

/// Done, and nothing to complain of.
fn done() -> Outcome {
    Ok(ExitCode::SUCCESS)
}
