//! `crosspark fetch`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use super::{args, follow};
use crate::contracts::RequestStage;
use crate::core::id::ProcessId;
use crate::durable::rename;
use crate::export::Format;
use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
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
    /// Format: ndjson, csv, json, xlsx or parquet; by default from the file name.
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

/// What of the records is written, and how.
#[derive(clap::Args, Debug, Default)]
pub struct ChoiceArgs {
    /// Properties, separated by commas; by default all, in the schema's order.
    #[arg(long)]
    columns: Option<String>,
    /// Conditions on records, such as "area=CHN and period>=2015": = != < <= > >=, and ~ for a part of a text.
    #[arg(long = "where")]
    rows: Option<String>,
    /// Records of the dataset that are passed over.
    #[arg(long)]
    offset: Option<u64>,
    /// Records of the dataset that are looked at.
    #[arg(long)]
    limit: Option<u64>,
    /// Leave out properties that no record has.
    #[arg(long)]
    skip_empty: bool,
    /// CSV: begin with a byte order mark, without which Excel does not read UTF-8.
    #[arg(long)]
    bom: bool,
    /// CSV: leave texts as they are that a spreadsheet would run as a formula; otherwise an apostrophe is put before them.
    #[arg(long)]
    raw: bool,
}

impl ChoiceArgs {
    fn query(&self, format: Format) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("format", format.name());
        let numbers = [("offset", self.offset), ("limit", self.limit)];
        let texts = [("columns", self.columns.clone()), ("where", self.rows.clone())];
        let texts = texts.into_iter().chain(numbers.map(|(name, number)| (name, number.map(|n| n.to_string()))));
        let flags = [("skipEmpty", self.skip_empty), ("bom", self.bom), ("raw", self.raw)];
        let flags = flags.map(|(name, set)| (name, set.then(|| "true".to_owned())));
        for (name, value) in texts.chain(flags).filter_map(|(name, value)| Some((name, value?))) {
            query.append_pair(name, &value);
        }
        query.finish()
    }
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let choice = &args.choice;
    let format = args.format.or_else(|| Format::of_file(&args.out.to_string_lossy()));
    let format = format.with_context(|| format!("{}: give --format, such as csv or xlsx", args.out.display()))?;
    let api = Api::new(&args.node)?;
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

/// Copies the data of a request to `to`. Returns records, if their number is known, and bytes; fails if they are incomplete.
async fn copy(
    api: &Api,
    request: &ProcessId,
    (format, choice): (Format, &ChoiceArgs),
    to: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<(Option<u64>, u64)> {
    let path = format!("/v1/requests/{}/data?{}", request.in_url(), choice.query(format));
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
    // It is not known in advance for records that are chosen, nor for plain data from another connector.
    let records = stated.or((format == Format::Ndjson).then_some(lines));
    if let Some(records) = records.filter(|_| format == Format::Ndjson) {
        anyhow::ensure!(lines == records, "only {lines} of {records} records were received");
    }
    to.flush().await?;
    Ok((records, bytes))
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

/// Writes a delivered dataset to a temporary file, readable by its owner only, which is synced and renamed to `out`.
/// Returns records and bytes.
pub async fn fetch(
    api: &Api,
    request: &ProcessId,
    format: (Format, &ChoiceArgs),
    out: &Path,
) -> anyhow::Result<(Option<u64>, u64)> {
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
