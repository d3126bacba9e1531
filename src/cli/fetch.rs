//! `crosspark fetch`

use super::api::{Api, NodeArgs};
use super::args;
use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use crate::contracts::RequestStage;
use crate::core::id::ProcessId;
use crate::durable::rename;
use crate::ingest::Form;
use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::io::{AsyncWrite, AsyncWriteExt};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request that delivered the dataset.
    request: ProcessId,
    /// File to write, which appears only when it is complete; `-` for standard output.
    #[arg(long)]
    out: PathBuf,
    /// Format, ndjson or csv; by default from the file name.
    #[arg(long, value_parser = super::args::parse_form)]
    format: Option<Form>,
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let format = args.format.or_else(|| args::form_of(&args.out));
    let format = format.with_context(|| format!("{}: give --format ndjson or --format csv", args.out.display()))?;
    let api = Api::new(&args.node)?;
    if let Some(code) = unavailable(&api, &args.request, json).await? {
        return Ok(code);
    }
    if args.out == Path::new("-") {
        return to_standard_output(&api, &args.request, format).await;
    }
    let (records, bytes) = fetch(&api, &args.request, format, &args.out).await?;
    let withdrawn = super::request::show(&api, &args.request, 0).await?.withdrawn;
    if json {
        output::json(&json!({"file": args.out, "records": records, "bytes": bytes, "withdrawn": withdrawn}))?;
    } else {
        let records = output::count(records, "record", "records");
        say!("Wrote {records}, {}, to {}.", output::bytes(bytes), args.out.display());
        super::request::print_withdrawn(withdrawn.as_deref());
    }
    done()
}

/// The file that is replaced once the new one is complete: the target of a link, never a device or pipe.
fn replaced(out: &Path) -> anyhow::Result<PathBuf> {
    match std::fs::metadata(out) {
        Ok(found) if found.is_file() => Ok(std::fs::canonicalize(out)?),
        Ok(_) => anyhow::bail!("{} is no regular file; `--out -` writes to standard output", out.display()),
        Err(_) => Ok(out.to_owned()),
    }
}

/// Removes the incomplete file on an error.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Copies the data of a request to `to`. Returns records and bytes; fails if they are incomplete.
async fn copy(
    api: &Api,
    request: &ProcessId,
    format: Form,
    to: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<(u64, u64)> {
    let path = format!("/v1/requests/{}/data?format={}", request.in_url(), format.name());
    let mut response = api.send(api.request(Method::GET, &path)).await?;
    let stated = response.headers().get("crosspark-records").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bar = output::bytes_bar(None, "fetching");
    let (mut bytes, mut lines) = (0u64, 0u64);
    while let Some(piece) = response.chunk().await.context("the node ended the download early")? {
        bytes += piece.len() as u64;
        lines += piece.iter().filter(|b| **b == b'\n').count() as u64;
        bar.inc(piece.len() as u64);
        to.write_all(&piece).await?;
    }
    bar.finish_and_clear();
    // For plain data from another connector, the number of records is not known in advance.
    let records = stated.unwrap_or(lines);
    anyhow::ensure!(format != Form::Ndjson || lines == records, "only {lines} of {records} records were received");
    to.flush().await?;
    Ok((records, bytes))
}

/// Writes a delivered dataset to standard output. A reader that closes the pipe has read enough.
async fn to_standard_output(api: &Api, request: &ProcessId, format: Form) -> Outcome {
    let own = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match copy(api, request, format, &mut tokio::fs::File::from_std(own)).await {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            done()
        }
        copied => copied.and_then(|_| done()),
    }
}

/// Writes a delivered dataset to a temporary file, readable by its owner only, which is synced and renamed to `out`.
/// Returns records and bytes.
pub async fn fetch(api: &Api, request: &ProcessId, format: Form, out: &Path) -> anyhow::Result<(u64, u64)> {
    let out = replaced(out)?;
    let name = out.file_name().context("--out must name a file")?.to_string_lossy().into_owned();
    let beside = out.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let mut options = tokio::fs::OpenOptions::new();
    let created = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).await;
    let mut file = created.with_context(|| format!("{} cannot be written", out.display()))?;
    let mut unfinished = Unfinished(Some(beside.clone()));
    let copied = copy(api, request, format, &mut file).await.context("nothing was written")?;
    file.sync_all().await?;
    rename(&beside, &out).with_context(|| format!("{}", out.display()))?;
    unfinished.0 = None;
    Ok(copied)
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
