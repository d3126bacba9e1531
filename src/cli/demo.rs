//! `crosspark demo`: an alliance and two park nodes as separate processes on loopback, from founding to audit.

mod park;
mod story;

use super::outcome::{Outcome, exit};
use super::{audit, fetch, publish, request};
use crate::contracts::{RequestStage, RequestView};
use crate::core::id::{ParticipantId, Text};
use crate::core::json;
use crate::ingest::Format;
use crate::publishing::Publication;
use anyhow::Context;
use park::{Operator, Park};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use story::Story;

#[derive(clap::Args)]
pub struct Args {
    /// Keep the nodes running, and print their addresses and tokens.
    #[arg(long)]
    keep: bool,
    /// Folder for the demonstration; by default a temporary one.
    #[arg(long)]
    folder: Option<PathBuf>,
}

const COMPUTE: &str = include_str!("../../examples/data/compute-resources.ndjson");
const INDICATORS: &str = include_str!("../../examples/data/park-indicators.csv");
const ENTERPRISES: &str = include_str!("../../examples/data/enterprises.csv");
const RESEARCH: &str = include_str!("../../examples/policies/research.json");
const MEMBERS: &str = include_str!("../../examples/policies/members.json");

/// Longest wait for one step, generous for slow machines.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(args: Args, as_json: bool) -> Outcome {
    let (folder, temporary) = match &args.folder {
        Some(folder) => (folder.clone(), false),
        None => (std::env::temp_dir().join(format!("crosspark-demo-{}", std::process::id())), true),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut story = Story::new(as_json);
    let outcome = tell(&folder, &mut story, args.keep).await;
    if let Err(error) = outcome {
        story.check("the demonstration ran to completion", false, &format!("{error:#}"));
    }
    let good = story.finish()?;
    if temporary && !args.keep {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn tell(folder: &Path, story: &mut Story, keep: bool) -> anyhow::Result<()> {
    story.chapter("Two parks form an alliance / 两园区结成联盟");
    let operator = Operator::init(folder)?;
    let ai = Park::make(
        folder,
        "shijingshan-ai",
        "Shijingshan AI Large Model Industrial Cluster",
        "石景山人工智能大模型产业集聚区",
    )
    .await?;
    let vr =
        Park::make(folder, "zgc-vr", "Zhongguancun Virtual Reality Industrial Park", "中关村虚拟现实产业园").await?;
    for park in [&ai, &vr] {
        operator.admit(park)?;
    }
    for park in [&ai, &vr] {
        park.join(&operator)?;
    }
    story.timing("alliance_ms");
    story.check("an alliance with two members", true, "keys created, fingerprints compared, certificates issued");

    let mut ai = ai.start().await?;
    let mut vr = vr.start().await?;
    story.timing("nodes_ready_ms");
    story.check("both nodes run as separate processes", true, &format!("{} and {}", ai.endpoint(), vr.endpoint()));

    story.chapter("The parks publish / 园区发布数据");
    publish_samples(folder, story, &ai, &vr).await?;

    story.chapter("An enterprise searches, requests and receives data / 企业查找、申请并获得数据");
    deliver(folder, story, &ai, &vr).await?;

    story.chapter("A request that the policy does not permit is refused and logged / 不符合策略的申请被拒绝并留痕");
    refuse(story, &ai, &vr).await?;

    if keep {
        story.keep(&[&ai, &vr])?;
        tokio::signal::ctrl_c().await?;
    }
    ai.stop().await?;
    vr.stop().await?;
    story.timing("stopped_ms");

    story.chapter("An auditor verifies both logs offline / 审计员离线核验两份日志");
    verify(story, &operator, &ai, &vr)
}

async fn publish_samples(folder: &Path, story: &mut Story, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    let samples = [
        (
            ai,
            "Compute resources of the cluster / 集聚区算力资源",
            "compute-resource",
            COMPUTE,
            RESEARCH,
            Format::Ndjson,
        ),
        (vr, "Indicators of the parks / 园区指标", "economic-indicator", INDICATORS, MEMBERS, Format::Csv),
        (vr, "Enterprises of the park / 园区企业", "enterprise", ENTERPRISES, MEMBERS, Format::Csv),
    ];
    for (n, (park, title, schema, text, policy, format)) in samples.into_iter().enumerate() {
        let file = folder.join(format!("sample-{n}.{}", format.name()));
        std::fs::write(&file, text)?;
        let published = publish::send(&park.publisher()?, &publication(title, schema, policy, format)?, &file).await?;
        story.line(&format!(
            "{} publishes “{title}”: {} records, sealed {} bytes",
            park.name(),
            published.records,
            published.sealed_bytes
        ));
    }
    story.timing("published_ms");
    story.check("three datasets published", true, "every record valid under a shared schema, sealed and signed");

    let file = folder.join("broken.ndjson");
    std::fs::write(&file, COMPUTE.replacen("\"kind\":\"mixed\"", "\"kind\":\"abacus\"", 1))?;
    let broken = publication("Broken", "compute-resource", RESEARCH, Format::Ndjson)?;
    let refused = publish::send(&ai.publisher()?, &broken, &file).await;
    let reason = refused.err().map(|error| error.to_string()).unwrap_or_default();
    story.check("a file with one invalid record is refused completely", reason.contains("1 of 25"), &reason);
    Ok(())
}

fn publication(title: &str, schema: &str, policy: &str, format: Format) -> anyhow::Result<Publication> {
    Ok(Publication {
        title: Text::parse(title)?,
        description: "Sample data of the demonstration.".into(),
        schema: format!("urn:crosspark:schema:{schema}"),
        policy: json::read(policy.as_bytes())?,
        format,
        dataset: None,
        about: Default::default(),
    })
}

async fn ask(consumer: &Park, provider: &Park, purpose: &str) -> anyhow::Result<RequestView> {
    let api = consumer.requester()?;
    let dataset = first_dataset(consumer, provider.id()).await?;
    let view = request::create(&api, provider.id(), &dataset, &Text::parse(purpose)?).await?;
    request::wait(&api, view, PATIENCE).await
}

async fn first_dataset(consumer: &Park, provider: &ParticipantId) -> anyhow::Result<crate::core::id::DatasetId> {
    let found = consumer.requester()?.get(&format!("/v1/catalog?peer={}", provider.in_url())).await?;
    let dataset = found["datasets"][0]["dataset"].as_str().context("the catalog is empty")?;
    Ok(dataset.parse()?)
}

async fn deliver(folder: &Path, story: &mut Story, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    story.line(&format!("Silkroad Visual Beijing Center, at {}, requests compute resources for research", vr.name()));
    let begun = story.now();
    let view = ask(vr, ai, "research").await?;
    let out = folder.join("compute-resources.ndjson");
    let verified = view.stage == RequestStage::Verified;
    if verified {
        fetch::fetch(&vr.requester()?, &view.id, Format::Ndjson, &out).await?;
    }
    story.timing_since("request_to_file_ms", begun);
    let reason = view.reason.clone().unwrap_or_default();
    story.check("requested, negotiated, delivered, verified", verified, &reason);
    let same = std::fs::read_to_string(&out).is_ok_and(|text| same_records(&text, COMPUTE));
    story.check("every value equals the published one", same, "compared record by record");

    // In the opposite direction, too: both parks are provider and consumer.
    let view = ask(ai, vr, "planning").await?;
    let out = folder.join("from-vr.csv");
    let verified = view.stage == RequestStage::Verified;
    if verified {
        fetch::fetch(&ai.requester()?, &view.id, Format::Csv, &out).await?;
    }
    story.timing("other_way_ms");
    let detail = format!("{} records as CSV", view.records.unwrap_or(0));
    story.check("delivered in the opposite direction, too", verified, &detail);
    Ok(())
}

/// Whether the records are equal apart from the order of members and the notation of numbers.
fn same_records(found: &str, published: &str) -> bool {
    let canonical = |text: &str| -> Vec<Vec<u8>> {
        text.lines().map(|line| json::canonicalize(line.as_bytes()).unwrap_or_default()).collect()
    };
    let found = canonical(found);
    !found.is_empty() && found == canonical(published)
}

async fn refuse(story: &mut Story, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    let view = ask(vr, ai, "advertising").await?;
    let reason = view.reason.clone().unwrap_or_default();
    story.line(&format!("the same enterprise requests them for advertising: {reason}"));
    story.check("a request for another purpose is refused", view.stage == RequestStage::Refused, &reason);
    let entries = ai.auditor()?.get("/v1/audit/entries?limit=1000").await?;
    let logged = entries["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["entry"]["decision"] == "refused" && row["entry"]["purpose"] == "advertising");
    let rule = logged.map(|row| row["entry"]["rule"].to_string()).unwrap_or_default();
    story.check("the provider's log has the refusal and its rule", !rule.is_empty(), &rule);
    story.timing("refusal_ms");
    Ok(())
}

fn verify(story: &mut Story, operator: &Operator, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    for (park, other) in [(ai, vr), (vr, ai)] {
        let held_by = vec![other.folder().to_owned()];
        let args = audit::Verify::new(park.folder(), park.id(), &operator.fingerprint(), held_by);
        let report = audit::verify(&args)?;
        let detail = format!(
            "{} entries, {} checkpoints compared, including one held by the other park",
            report.entries, report.checkpoints
        );
        let fault = report.faults.first().map(|fault| fault.reason.clone());
        let covered = report.covered == report.entries;
        story.check(
            &format!("the log of {} verifies", park.name()),
            report.is_good() && covered,
            &fault.unwrap_or(detail),
        );
    }
    story.timing("verified_ms");
    Ok(())
}
