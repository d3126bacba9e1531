//! The command line: one file per command.

mod alliance;
mod alliance_folder;
mod alliance_members;
mod alliance_schema;
mod api;
mod approvals;
mod args;
mod audit;
mod backup;
mod catalog;
mod clock;
mod connector;
mod demo;
mod doctor;
mod download;
mod fetch;
mod files;
mod folder;
mod follow;
mod map;
mod members;
mod node;
mod offer;
mod outcome;
mod output;
mod parts;
mod publication;
mod publish;
mod report;
mod reading;
mod request;
mod root;
mod schema;
mod schema_infer;
mod schema_node;
mod schema_page;
mod schema_template;
mod search;
mod serve;
mod skip;
mod source;
mod status;
mod subscription;
mod token;
mod transfers;
mod validate;

pub use outcome::{Outcome, exit};

use crate::ingest::run_jq;
use clap::{Parser, Subcommand};
use output::note;
use serde_json::json;
use std::process::ExitCode;

/// Exchange of validated, sealed datasets between parks, under policy, with evidence.
#[derive(Parser)]
#[command(
    name = "crosspark",
    version,
    about = "Exchange validated, sealed datasets between parks, under policy, with evidence / 园区间数据交换",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (by a policy, a peer or the node), 4 evidence does not verify, 5 not decided or not covered by a checkpoint yet."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text; an error is a JSON object on standard error.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run an alliance: its root document, register and certificates.
    #[command(subcommand)]
    Alliance(alliance::Command),
    /// Create a park's node, let it join an alliance, and renew its keys.
    #[command(subcommand)]
    Node(node::Command),
    /// Run a park's node.
    Serve(serve::Args),
    /// Check everything that a node needs, and print one result per check.
    Doctor(doctor::Args),
    /// Show the state of a running node.
    Status(status::Args),
    /// Publish a file of records as a dataset.
    Publish(Box<publish::Args>),
    /// List, describe, check, compare and publish schemas.
    #[command(subcommand)]
    Schema(schema::Command),
    /// Propose, try and run mappings: how a file's columns become the fields of a schema.
    #[command(subcommand)]
    Map(map::Command),
    /// Publish from a folder, server or database again and again: define sources, run and watch them.
    #[command(subcommand)]
    Source(source::Command),
    /// Validate a file of records without publishing it; needs no node.
    Validate(validate::Args),
    /// List the datasets of this node or of a peer.
    Catalog(catalog::Args),
    /// Search the datasets of all peers that are visible to this node.
    Search(search::Search),
    /// Withdraw a dataset of this node.
    Withdraw(search::Withdraw),
    /// Request a peer's dataset, or show the progress of requests.
    #[command(subcommand)]
    Request(request::Command),
    /// Let the node request each new version of a peer's dataset.
    #[command(subcommand)]
    Subscription(subscription::Command),
    /// Approve or reject pending requests and offers.
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Offer a dataset to a consumer.
    Offer(transfers::Offer),
    /// List, suspend, resume, complete or terminate transfers.
    #[command(subcommand)]
    Transfers(transfers::Command),
    /// Write a delivered dataset to a file.
    Fetch(fetch::Args),
    /// List the alliance's members, confirm keys, install a newer register.
    #[command(subcommand)]
    Members(members::Command),
    /// Compare a node's clock with its peers, and correct it after it was ahead.
    #[command(subcommand)]
    Clock(clock::Command),
    /// Create, list and revoke tokens for the management API.
    #[command(subcommand)]
    Token(token::Command),
    /// Verify a node's log offline, or list its entries.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write one consistent archive of a node's folder; the node may be running.
    Backup(backup::Backup),
    /// Restore a node's folder from an archive.
    Restore(backup::Restore),
    /// Run a demonstration: an alliance, two parks, a delivery, a refusal, both logs verified.
    Demo(demo::Args),
    /// Run the jq programs of a mapping, one record a line.
    #[command(hide = true)]
    JqWorker,
}

/// Prints an error in the arguments, or the help that they ask for; with `--json`, an error is JSON like all others.
pub fn wrong_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args().any(|arg| arg == "--json") {
        let said = error.to_string();
        let detail = said.trim_start_matches("error: ").split("\n\nUsage:").next().unwrap_or_default().trim();
        note!("{}", json!({"detail": detail}));
        return ExitCode::from(2);
    }
    error.exit()
}

/// Runs a command.
pub fn run(cli: Cli) -> ExitCode {
    if matches!(cli.command, Command::JqWorker) {
        return ExitCode::from(if run_jq().is_ok() { 0 } else { exit::FAILED });
    }
    // Our TLS configurations name ring explicitly; libraries may ask for the process default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("error: the runtime could not be started: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    // What a node holds is of no concern to other users of the machine. What an alliance publishes is.
    if !matches!(cli.command, Command::Alliance(_)) {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    }
    let json = cli.json;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Alliance(command) => alliance::run(command, json),
            Command::Node(command) => node::run(command, json).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Doctor(args) => doctor::run(args, json).await,
            Command::Status(args) => status::run(args, json).await,
            Command::Publish(args) => publish::run(*args, json).await,
            Command::Schema(command) => schema::run(command, json).await,
            Command::Map(command) => map::run(command, json),
            Command::Source(command) => source::run(command, json).await,
            Command::Validate(args) => validate::run(args, json),
            Command::Catalog(args) => catalog::run(args, json).await,
            Command::Search(args) => search::search(args, json).await,
            Command::Withdraw(args) => search::withdraw(args, json).await,
            Command::Request(command) => request::run(command, json).await,
            Command::Subscription(command) => subscription::run(command, json).await,
            Command::Approvals(command) => approvals::run(command, json).await,
            Command::Offer(args) => transfers::offer(args, json).await,
            Command::Transfers(command) => transfers::run(command, json).await,
            Command::Fetch(args) => fetch::run(args, json).await,
            Command::Members(command) => members::run(command, json).await,
            Command::Clock(command) => clock::run(command, json).await,
            Command::Token(command) => token::run(command, json).await,
            Command::Audit(command) => audit::run(command, json).await,
            Command::Backup(args) => backup::backup(&args, json),
            Command::Restore(args) => backup::restore(&args, json),
            Command::Demo(args) => demo::run(args, json).await,
            Command::JqWorker => outcome::done(),
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let refused = error.downcast_ref::<api::ApiError>();
            match refused.map(|refused| &refused.body).filter(|body| body.is_object()) {
                Some(problem) if json => note!("{problem}"),
                None if json => note!("{}", json!({"detail": outcome::in_words(&error)})),
                _ => note!("error: {}", outcome::in_words(&error)),
            }
            refused.map_or(ExitCode::from(exit::FAILED), api::ApiError::exit_code)
        }
    }
}
