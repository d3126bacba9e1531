//! Delivered records, from the node to a file.

use super::api::Api;
use super::output;
use crate::core::id::ProcessId;
use crate::durable::rename;
use crate::export::Format;
use anyhow::Context;
use reqwest::Method;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncWrite, AsyncWriteExt};

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

/// Copies the data of a request to `to`. Returns records, if their number is known, and bytes; fails if they are incomplete.
pub async fn copy(
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
