//! `crosspark request`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done, exit};
use super::output::{self, note, say};
use crate::contracts::{RequestStage, RequestView};
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use crate::core::json;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Subcommand)]
pub enum Command {
    /// Request a peer's dataset for a purpose, and wait until it is delivered or refused.
    New(New),
    /// Show one request.
    Show(Show),
    /// List the requests of your enterprise.
    List(List),
    /// Cancel a request that is not delivered yet.
    Cancel(Cancel),
}

#[derive(Args)]
pub struct New {
    #[command(flatten)]
    node: NodeArgs,
    /// Providing park: did:web:HOST.
    #[arg(long)]
    provider: ParticipantId,
    /// Id of the dataset.
    #[arg(long)]
    dataset: DatasetId,
    /// Purpose; the policy may permit only certain purposes.
    #[arg(long)]
    purpose: Text,
    /// Seconds to wait; 0 returns at once.
    #[arg(long, default_value_t = 300)]
    wait: u64,
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request.
    request: ProcessId,
    /// Seconds to wait until the request is delivered or refused.
    #[arg(long, default_value_t = 0)]
    wait: u64,
}

#[derive(Args)]
pub struct Cancel {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the request.
    request: ProcessId,
    /// Reason, sent to the provider.
    #[arg(long)]
    reason: Option<Text>,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::New(args) => {
            let api = Api::new(&args.node)?;
            let view = create(&api, &args.provider, &args.dataset, &args.purpose).await?;
            if !as_json {
                note!("requested: {}", view.id);
            }
            let view = wait(&api, view, Duration::from_secs(args.wait)).await?;
            print(&view, as_json)
        }
        Command::Show(args) => {
            let api = Api::new(&args.node)?;
            let view = show(&api, &args.request, 0).await?;
            let view = wait(&api, view, Duration::from_secs(args.wait)).await?;
            print(&view, as_json)
        }
        Command::Cancel(args) => {
            let path = format!("/v1/requests/{}/cancellation", args.request.in_url());
            let view = Api::new(&args.node)?.post(&path, &json!({"reason": args.reason})).await?;
            if as_json {
                output::json(&view)?;
            } else {
                say!("cancelled: {}", args.request);
            }
            done()
        }
        Command::List(args) => list(&Api::new(&args.node)?, as_json).await,
    }
}

/// Creates a request.
pub async fn create(
    api: &Api,
    provider: &ParticipantId,
    dataset: &DatasetId,
    purpose: &Text,
) -> anyhow::Result<RequestView> {
    create_once(api, (provider, dataset, purpose), None).await
}

/// Likewise; a request with the same idempotency key is made once.
pub async fn create_once(
    api: &Api,
    (provider, dataset, purpose): (&ParticipantId, &DatasetId, &Text),
    once: Option<&str>,
) -> anyhow::Result<RequestView> {
    let body = json!({"provider": provider, "dataset": dataset, "purpose": purpose});
    let request = api.request(Method::POST, "/v1/requests").json(&body);
    let request = once.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key));
    Ok(json::read(&api.send(request).await?.bytes().await?)?)
}

/// State of a request, after its next change or `wait_seconds`.
pub async fn show(api: &Api, id: &ProcessId, wait_seconds: u64) -> anyhow::Result<RequestView> {
    let value = api.get(&format!("/v1/requests/{}?wait={wait_seconds}", id.in_url())).await?;
    Ok(json::read(&serde_json::to_vec(&value)?)?)
}

/// The requests by which a dataset was delivered.
pub async fn delivered(api: &Api, dataset: &str) -> anyhow::Result<Vec<RequestView>> {
    let all = api.all("/v1/requests", "requests").await?;
    let views = output::list(&all, "requests").iter().filter_map(|view| {
        let view: RequestView = json::read(&serde_json::to_vec(view).ok()?).ok()?;
        (view.dataset.as_str() == dataset && view.stage == RequestStage::Verified).then_some(view)
    });
    Ok(views.collect())
}

/// Waits with long polls until a request is delivered or refused.
pub async fn wait(api: &Api, mut view: RequestView, time: Duration) -> anyhow::Result<RequestView> {
    let begun = tokio::time::Instant::now();
    while !view.stage.is_settled() {
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        view = show(api, &view.id, left.as_secs().clamp(1, 50)).await?;
    }
    Ok(view)
}

fn print(view: &RequestView, as_json: bool) -> Outcome {
    let code = match view.stage {
        RequestStage::Verified | RequestStage::Ready => ExitCode::SUCCESS,
        RequestStage::Refused | RequestStage::Cancelled => ExitCode::from(exit::REFUSED),
        _ => ExitCode::from(exit::PENDING),
    };
    if as_json {
        output::json(view)?;
        return Ok(code);
    }
    let value = serde_json::to_value(view)?;
    match view.stage {
        RequestStage::Verified => {
            say!("Delivered and verified: {}.", output::count(view.records.unwrap_or(0), "record", "records"));
            say!("Write them to a file: crosspark fetch {} --out FILE", view.id);
        }
        RequestStage::Ready => {
            say!("The provider delivers plain data. Write it to a file: crosspark fetch {} --out FILE", view.id);
        }
        RequestStage::Cancelled => {
            note!("cancelled by this park: {}", output::text(&value, "reason"));
        }
        RequestStage::Refused => {
            let reason = view.reason.as_deref().unwrap_or("no reason was given");
            note!("refused: {}", reason.replace(char::is_control, " "));
        }
        RequestStage::Requested => {
            say!("{}: requested; {}.", view.id, view.waits_for.as_deref().unwrap_or("the provider decides"));
            say!("Check again later: crosspark request show {}", view.id);
        }
        stage => {
            let waits_for = view.waits_for.as_deref().map(|what| format!("; {what}")).unwrap_or_default();
            say!("{}: {}{waits_for}", view.id, format!("{stage:?}").to_lowercase());
        }
    }
    let version = view.version.map(|version| format!("version {version}")).unwrap_or_default();
    let about = [format!("{} of {}", view.dataset, view.provider), version];
    say!("{:<9}{}", "dataset", output::joined(about, ", "));
    say!("{:<9}{} for {}, {}", "request", view.enterprise, view.purpose, output::time(&value, "started"));
    say!("{:<9}{}", "terms", output::terms(&value));
    say!("{:<9}{}", "trace", output::text(&value, "trace"));
    print_withdrawn(view.withdrawn.as_deref());
    Ok(code)
}

/// Prints the withdrawal of a dataset, since a holder of the data must know of it.
pub fn print_withdrawn(reason: Option<&str>) {
    if let Some(reason) = reason {
        say!("The provider has withdrawn the dataset: {reason}");
    }
}

async fn list(api: &Api, as_json: bool) -> Outcome {
    let found = api.all("/v1/requests", "requests").await?;
    if as_json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = output::list(&found, "requests").iter().map(|request| {
        let [id, stage, dataset, provider, purpose, reason] =
            ["id", "stage", "dataset", "provider", "purpose", "reason"].map(|name| output::text(request, name));
        let withdrawn = output::text(request, "withdrawn");
        let withdrawn = if withdrawn.is_empty() { withdrawn } else { format!("withdrawn: {withdrawn}") };
        let facts = [format!("for {purpose}"), output::time(request, "started"), reason, withdrawn];
        (format!("{id}  {stage}"), vec![format!("{dataset} of {provider}"), output::joined(facts, ", ")])
    });
    output::entries(rows, "Your enterprise has made no requests yet; make one with: crosspark request new");
    Ok(ExitCode::SUCCESS)
}
