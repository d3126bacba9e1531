//! `crosspark fetch --follow`: each new version of a dataset, as it is published.

use super::api::{Api, ApiError};
use super::download::{ChoiceArgs, fetch};
use super::outcome::{Outcome, exit};
use super::output::{self, note, say};
use super::request;
use crate::contracts::{RequestStage, RequestView};
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::export::Format;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the delivery of a version may take before the next look.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(3_600);

/// Writes the newest version that was delivered, and then each that is published, until one is refused.
pub async fn run(
    api: &Api,
    first: &ProcessId,
    format: (Format, &ChoiceArgs),
    out: &Path,
    every: Duration,
    as_json: bool,
) -> Outcome {
    anyhow::ensure!(out != Path::new("-"), "--follow writes a file, not standard output");
    let first = request::show(api, first, 0).await?;
    let mut newest = newest(api, first).await?;
    let mut written = None;
    loop {
        if written.as_ref() != Some(&newest.id) {
            let (records, bytes) = match fetch(api, &newest.id, format, out).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    retried(error)?;
                    tokio::time::sleep(every).await;
                    continue;
                }
            };
            written = Some(newest.id.clone());
            let version = newest.version.unwrap_or_default();
            if as_json {
                output::json_line(
                    &json!({"file": out, "version": version, "request": newest.id, "records": records, "bytes": bytes}),
                )?;
            } else {
                say!("Wrote version {version}, {}, to {}.", output::bytes(bytes), out.display());
            }
        }
        tokio::time::sleep(every).await;
        match next(api, &newest).await {
            Ok(None) => {}
            Ok(Some(view)) if view.stage == RequestStage::Verified => newest = view,
            Ok(Some(view)) => {
                let stage = format!("{:?}", view.stage).to_lowercase();
                let why = view.reason.or(view.waits_for).map(|why| format!(": {why}")).unwrap_or_default();
                note!(
                    "error: the request for the next version is {stage}{why}; {} keeps the version before",
                    out.display()
                );
                return Ok(ExitCode::from(exit::REFUSED));
            }
            Err(error) => retried(error)?,
        }
    }
}

/// Tells an error after which it is tried again: a park or node that cannot be reached now can be later. A refusal stays
/// one.
fn retried(error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<ApiError>() {
        Some(refused) if refused.status < 500 && refused.status != 429 => Err(error),
        _ => {
            note!("{error:#}; trying again");
            Ok(())
        }
    }
}

/// The request that delivered the newest version of the same dataset.
async fn newest(api: &Api, first: RequestView) -> anyhow::Result<RequestView> {
    let delivered = request::delivered(api, first.dataset.as_str()).await?.into_iter();
    let same = delivered.filter(|view| view.provider == first.provider && view.purpose == first.purpose);
    Ok(same.max_by_key(|view| (view.version, view.started)).unwrap_or(first))
}

/// The request for the next version, delivered or ended; none if there is no newer version.
async fn next(api: &Api, newest: &RequestView) -> anyhow::Result<Option<RequestView>> {
    let (provider, dataset) = (newest.provider.as_str(), newest.dataset.as_str());
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("peer", provider)
        .append_pair("dataset", dataset)
        .finish();
    let found = api.get(&format!("/v1/catalog?{query}")).await?;
    let version = output::list(&found, "datasets").first().and_then(|offered| offered["version"].as_u64());
    let (Some(version), Some(known)) = (version, newest.version) else {
        anyhow::bail!("{dataset} has no versions that could be followed");
    };
    if version <= known {
        return Ok(None);
    }
    // The same version is requested once, also if the answer is lost.
    let asked = Digest::labelled("crosspark/follow/v1", &[dataset.as_bytes(), newest.purpose.as_str().as_bytes()]);
    let once = format!("follow-{version}-{asked}");
    let view = request::create_once(api, (&newest.provider, &newest.dataset, &newest.purpose), Some(&once)).await?;
    request::wait(api, view, DELIVERY_TIME_MAX).await.map(Some)
}
