//! `crosspark fetch`

use super::api::{Api, ApiError, NodeArgs};
use super::download::{ChoiceArgs, copy, fetch};
use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use super::{args, follow};
use crate::contracts::RequestStage;
use crate::core::id::ProcessId;
use crate::export::Format;
use anyhow::Context;
use serde_json::json;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request that delivered the dataset; or of the dataset, for its newest version that was delivered.
    request: ProcessId,
    /// File to write, which appears only when it is complete; `-` for standard output.
    #[arg(long)]
    out: PathBuf,
    /// Format: ndjson, csv, json, xlsx or parquet, or zip for files and their records; by default from the file name.
    #[arg(long, value_parser = args::parse_format)]
    format: Option<Format>,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Go on: request each new version for the same purpose, and write it in place of the one before. The newest version
    /// that was delivered is where it begins.
    #[arg(long)]
    follow: bool,
    /// Seconds between two looks for a new version.
    #[arg(long, default_value_t = 60, requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

pub async fn run(mut args: Args, json: bool) -> Outcome {
    let choice = &args.choice;
    let format = args.format.or_else(|| Format::of_file(&args.out.to_string_lossy()));
    let format = format.with_context(|| format!("{}: give --format, such as csv or xlsx", args.out.display()))?;
    let api = Api::new(&args.node)?;
    args.request = request_of(&api, args.request).await?;
    if let Some(code) = unavailable(&api, &args.request, json).await? {
        return Ok(code);
    }
    if args.follow {
        return follow::run(&api, &args.request, (format, choice), &args.out, Duration::from_secs(args.every), json)
            .await;
    }
    if args.out == Path::new("-") {
        return to_standard_output(&api, &args.request, (format, choice)).await;
    }
    let (records, bytes) = fetch(&api, &args.request, (format, choice), &args.out).await?;
    let withdrawn = super::request::show(&api, &args.request, 0).await?.withdrawn;
    if json {
        output::json(&json!({"file": args.out, "records": records, "bytes": bytes, "withdrawn": withdrawn}))?;
    } else {
        let records = records.map(|records| format!("{}, ", output::count(records, "record", "records")));
        say!("Wrote {}{}, to {}.", records.unwrap_or_default(), output::bytes(bytes), args.out.display());
        super::request::print_withdrawn(withdrawn.as_deref());
    }
    done()
}

/// Writes a delivered dataset to standard output. A reader that closes the pipe has read enough.
async fn to_standard_output(api: &Api, request: &ProcessId, format: (Format, &ChoiceArgs)) -> Outcome {
    let own = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match copy(api, request, format, &mut tokio::fs::File::from_std(own)).await {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            done()
        }
        copied => copied.and_then(|_| done()),
    }
}

/// The request with this id, or the one that delivered the newest version of the dataset with this id.
async fn request_of(api: &Api, id: ProcessId) -> anyhow::Result<ProcessId> {
    let unknown = match super::request::show(api, &id, 0).await {
        Err(error) if error.downcast_ref::<ApiError>().is_some_and(|error| error.status == 404) => error,
        known => return known.map(|_| id),
    };
    let delivered = super::request::delivered(api, id.as_str()).await?;
    let newest = delivered.iter().max_by_key(|view| (view.version, view.started)).ok_or(unknown)?;
    // Another park could give its data the same id.
    anyhow::ensure!(
        delivered.iter().all(|view| view.provider == newest.provider),
        "several parks delivered a dataset {id}; give the id of the request"
    );
    Ok(newest.id.clone())
}

/// The exit code of a request whose data cannot be fetched, unless they can be.
async fn unavailable(api: &Api, request: &ProcessId, as_json: bool) -> anyhow::Result<Option<ExitCode>> {
    let view = super::request::show(api, request, 0).await?;
    let code = match view.stage {
        RequestStage::Verified | RequestStage::Ready => return Ok(None),
        RequestStage::Refused | RequestStage::Cancelled => exit::REFUSED,
        _ => exit::PENDING,
    };
    let stage = format!("{:?}", view.stage).to_lowercase();
    let why = view.reason.or(view.waits_for).map(|why| format!(": {why}")).unwrap_or_default();
    let detail = format!("the request is {stage}{why}; nothing was written");
    if as_json {
        note!("{}", json!({"detail": detail}))
    } else {
        note!("error: {detail}")
    }
    Ok(Some(ExitCode::from(code)))
}
