//! `crosspark fetch`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::ProcessId;
use crate::ingest::Format;
use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request that delivered the dataset.
    request: ProcessId,
    /// File to write; it appears only when it is complete.
    #[arg(long)]
    out: PathBuf,
    /// Format, ndjson or csv; by default from the file name.
    #[arg(long, value_parser = super::publish::parse_format)]
    format: Option<Format>,
}

pub async fn run(args: Args, json: bool) -> Outcome {
    let format = args.format.or_else(|| Format::of_file(&args.out.display().to_string()));
    let format = format.with_context(|| format!("{}: give --format ndjson or --format csv", args.out.display()))?;
    let api = Api::new(&args.node)?;
    let (records, bytes) = fetch(&api, &args.request, format, &args.out).await?;
    let withdrawn = super::request::show(&api, &args.request, 0).await?.withdrawn;
    if json {
        output::json(&json!({"file": args.out, "records": records, "bytes": bytes, "withdrawn": withdrawn}))?;
    } else {
        say!("Wrote {} records, {}, to {}.", records, output::bytes(bytes), args.out.display());
        super::request::print_withdrawn(withdrawn.as_deref());
    }
    done()
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

/// Writes a delivered dataset to a temporary file, which is synced and renamed to `out`. Returns records and bytes.
pub async fn fetch(api: &Api, request: &ProcessId, format: Format, out: &Path) -> anyhow::Result<(u64, u64)> {
    let path = format!("/v1/requests/{}/data?format={}", request.in_url(), format.name());
    let mut response = api.send(api.request(Method::GET, &path)).await?;
    let stated = response.headers().get("crosspark-records").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let name = out.file_name().context("--out must name a file")?.to_string_lossy().into_owned();
    let beside = out.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let mut file = tokio::fs::File::create(&beside).await.with_context(|| format!("{}", beside.display()))?;
    let mut unfinished = Unfinished(Some(beside.clone()));
    let bar = output::bytes_bar(None, "fetching");
    let (mut bytes, mut lines) = (0u64, 0u64);
    while let Some(piece) = response.chunk().await.context("the node ended the download early; nothing was written")? {
        bytes += piece.len() as u64;
        lines += piece.iter().filter(|b| **b == b'\n').count() as u64;
        bar.inc(piece.len() as u64);
        file.write_all(&piece).await?;
    }
    bar.finish_and_clear();
    // For plain data from another connector, the number of records is not known in advance.
    let records = stated.unwrap_or(lines);
    if format == Format::Ndjson && lines != records {
        anyhow::bail!("only {lines} of {records} records were received; nothing was written");
    }
    file.sync_all().await?;
    tokio::fs::rename(&beside, out).await.with_context(|| format!("{}", out.display()))?;
    unfinished.0 = None;
    Ok((records, bytes))
}
