//! `crosspark demo`: an alliance and two park nodes as separate processes on loopback, from founding to audit.

mod park;
mod story;

use super::outcome::{Outcome, exit};
use super::{audit, download, output, publish, request};
use crate::contracts::{RequestStage, RequestView};
use crate::core::id::Text;
use crate::core::json;
use crate::dataset::quality::Detail;
use crate::export;
use crate::ingest::{Form, Format, Input, Reading, sketch};
use crate::source::Publication;
use anyhow::Context;
use park::{Operator, Park};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
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
    /// First of four consecutive ports; by default free ones, so that several demonstrations can run at once.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65_532))]
    ports: Option<u16>,
}

const COMPUTE: &str = include_str!("../../examples/data/compute-resources.ndjson");
const INDICATORS: &str = include_str!("../../examples/data/park-indicators.csv");
const SATISFACTION: &str = include_str!("../../examples/data/satisfaction.csv");
const FLATS: &str = include_str!("../../examples/data/flats.csv");
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
    let outcome = tell(&folder, &mut story, &args).await;
    if let Err(error) = outcome {
        story.check(("the demonstration ran to completion", "演示运行到结束"), false, &format!("{error:#}"));
    }
    let good = story.finish()?;
    if temporary && !args.keep {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn tell(folder: &Path, story: &mut Story, args: &Args) -> anyhow::Result<()> {
    story.chapter(("Two parks form an alliance", "两个园区结成联盟"));
    let operator = Operator::init(folder)?;
    let ai = Park::make(
        folder,
        "shijingshan-ai",
        "Shijingshan AI Large Model Industrial Cluster",
        "石景山人工智能大模型产业集聚区",
        args.ports,
    )
    .await?;
    let vr = Park::make(
        folder,
        "zgc-vr",
        "Zhongguancun Virtual Reality Industrial Park",
        "中关村虚拟现实产业园",
        args.ports.map(|first| first + 2),
    )
    .await?;
    for park in [&ai, &vr] {
        operator.admit(park)?;
    }
    for park in [&ai, &vr] {
        park.join(&operator)?;
    }
    story.timing("alliance_ms");
    let detail =
        story.words(("keys created, fingerprints compared, certificates issued", "已生成密钥、核对指纹、签发证书"));
    story.check(("an alliance with two members", "联盟有两个成员"), true, detail);

    let mut ai = ai.start().await?;
    let mut vr = vr.start().await?;
    story.timing("nodes_ready_ms");
    let nodes = format!("{}, {}", ai.endpoint(), vr.endpoint());
    story.check(("both nodes run as separate processes", "两个节点各自独立运行"), true, &nodes);

    story.chapter(("The parks publish", "园区发布数据"));
    publish_samples(folder, story, &ai, &vr).await?;

    story.chapter(("An enterprise searches, requests and receives data", "企业查找、申请并获得数据"));
    deliver(folder, story, &ai, &vr).await?;

    story.chapter(("A request that the policy does not permit is refused and logged", "不符合策略的申请被拒绝并留痕"));
    refuse(story, &ai, &vr).await?;

    if args.keep {
        story.keep(&[ai.describe(), vr.describe()])?;
        tokio::signal::ctrl_c().await?;
    }
    ai.stop().await?;
    vr.stop().await?;
    story.timing("stopped_ms");

    story.chapter(("An auditor verifies both logs offline", "审计员离线核验两份日志"));
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
        (vr, "Satisfaction with the park / 园区满意度", "satisfaction-survey", SATISFACTION, MEMBERS, Format::Csv),
    ];
    for (n, (park, title, schema, text, policy, format)) in samples.into_iter().enumerate() {
        let file = folder.join(format!("sample-{n}.{}", format.name()));
        std::fs::write(&file, text)?;
        let published = publish::send(&park.publisher()?, &publication(title, schema, policy, format)?, &file).await?;
        let publishes = story.words(("publishes", "发布"));
        let sealed = story.words(("records, sealed bytes:", "条记录，密封字节数："));
        let (park, records, bytes) = (story.words(park.name()), published.records, published.sealed_bytes);
        story.line(&format!("{park} {publishes} “{title}”: {records} {sealed} {bytes}"));
    }
    story.timing("published_ms");
    let detail = story
        .words(("every record valid under a shared schema, sealed and signed", "每条记录都符合共享模式，已密封并签名"));
    story.check(("four datasets published", "已发布四个数据集"), true, detail);

    let schema = own_schema(folder, ai).await?;
    let flats = publication("Flats for talents / 人才公寓", &schema, MEMBERS, Format::Csv)?;
    let published = publish::send(&ai.publisher()?, &flats, &folder.join("flats.csv")).await?;
    let detail = format!("{} {} {schema}", published.records, story.words(("records under", "条记录，模式")));
    let name = ("from a file to a schema of the park, and data under it", "由文件生成园区自有模式，并据此发布数据");
    story.check(name, published.records == 40, &detail);

    let file = folder.join("broken.ndjson");
    std::fs::write(&file, COMPUTE.replacen("\"kind\":\"mixed\"", "\"kind\":\"abacus\"", 1))?;
    let broken = publication("Broken", "compute-resource", RESEARCH, Format::Ndjson)?;
    let refused = publish::send(&ai.publisher()?, &broken, &file).await;
    let reason = refused.err().map(|error| error.to_string()).unwrap_or_default();
    let name = ("a file with one invalid record is refused completely", "含一条无效记录的文件被整体拒绝");
    story.check(name, reason.contains("1 of 25"), &reason);
    Ok(())
}

/// Publishes a schema of the park, inferred from a file that no shared schema describes; returns its `$id`.
async fn own_schema(folder: &Path, park: &Park) -> anyhow::Result<String> {
    let file = folder.join("flats.csv");
    std::fs::write(&file, FLATS)?;
    let id = format!("{}/flats", park.id());
    let proposal = sketch(Input::plain(std::fs::File::open(&file)?, Form::Csv)?)?.proposal(&id, "Flats for talents");
    let api = park.publisher()?;
    let request = api.request(Method::POST, "/v1/schemas").header(CONTENT_TYPE, "application/json").body(proposal.text);
    api.send(request).await?;
    Ok(id)
}

fn publication(title: &str, schema: &str, policy: &str, format: Format) -> anyhow::Result<Publication> {
    Ok(Publication {
        title: Text::parse(title)?,
        description: "Sample data of the demonstration.".into(),
        schema: if schema.contains(':') { schema.to_owned() } else { format!("urn:crosspark:schema:{schema}") },
        policy: json::read(policy.as_bytes())?,
        format,
        reading: Reading::default(),
        mapping: None,
        dataset: None,
        about: Default::default(),
        quality: Detail::Bounds,
        skipped: 0,
    })
}

async fn ask(consumer: &Park, provider: &Park, schema: &str, purpose: &str) -> anyhow::Result<RequestView> {
    let api = consumer.requester()?;
    let found = api.get(&format!("/v1/catalog?peer={}", provider.id().in_url())).await?;
    let is_meant = |offered: &&Value| offered["schema"]["id"].as_str().is_some_and(|id| id.ends_with(schema));
    let offered = output::list(&found, "datasets").iter().find(is_meant);
    let dataset = offered.and_then(|offered| offered["dataset"].as_str()).context("the catalog lacks the dataset")?;
    let view = request::create(&api, provider.id(), &dataset.parse()?, &Text::parse(purpose)?).await?;
    request::wait(&api, view, PATIENCE).await
}

async fn deliver(folder: &Path, story: &mut Story, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    let asks = ("requests compute resources for research", "为研究用途申请算力资源数据");
    story.line(&format!("Silkroad Visual Beijing Center ({}) {}", story.words(vr.name()), story.words(asks)));
    let begun = story.now();
    let view = ask(vr, ai, "compute-resource", "research").await?;
    let out = folder.join("compute-resources.ndjson");
    let verified = view.stage == RequestStage::Verified;
    if verified {
        download::fetch(&vr.requester()?, &view.id, (export::Format::Ndjson, &download::ChoiceArgs::default()), &out)
            .await?;
    }
    story.timing_since("request_to_file_ms", begun);
    let reason = view.reason.clone().unwrap_or_default();
    story.check(("requested, negotiated, delivered, verified", "申请、协商、交付、核验"), verified, &reason);
    let same = std::fs::read_to_string(&out).is_ok_and(|text| same_records(&text, COMPUTE));
    let detail = story.words(("compared record by record", "逐条比较"));
    story.check(("every value equals the published one", "每个值都与发布的一致"), same, detail);

    // In the opposite direction, too: both parks are provider and consumer.
    let view = ask(ai, vr, "enterprise", "planning").await?;
    let out = folder.join("from-vr.csv");
    let verified = view.stage == RequestStage::Verified;
    if verified {
        download::fetch(&ai.requester()?, &view.id, (export::Format::Csv, &download::ChoiceArgs::default()), &out)
            .await?;
    }
    story.timing("other_way_ms");
    let detail = format!("{} {}", view.records.unwrap_or(0), story.words(("records as CSV", "条记录，CSV 格式")));
    story.check(("delivered in the opposite direction, too", "反方向同样交付成功"), verified, &detail);

    let view = ask(vr, ai, "/flats", "planning").await?;
    let verified = view.stage == RequestStage::Verified;
    let detail = format!("{} {}", view.records.unwrap_or(0), story.words(("records", "条记录")));
    let name = ("data under a park's own schema, which is fetched with it", "按园区自有模式交付数据，模式随之取得");
    story.check(name, verified, &detail);
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
    let view = ask(vr, ai, "compute-resource", "advertising").await?;
    let reason = view.reason.clone().unwrap_or_default();
    let asks = ("the same enterprise requests them for advertising", "同一企业为广告用途申请");
    story.line(&format!("{}: {reason}", story.words(asks)));
    let name = ("a request for another purpose is refused", "其他用途的申请被拒绝");
    story.check(name, view.stage == RequestStage::Refused, &reason);
    let entries = ai.auditor()?.get("/v1/audit/entries?limit=1000").await?;
    let logged = entries["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["entry"]["decision"] == "refused" && row["entry"]["purpose"] == "advertising");
    let rule = logged.map(|row| row["entry"]["rule"].to_string()).unwrap_or_default();
    let name = ("the provider's log has the refusal and its rule", "提供方日志记有该拒绝及所依规则");
    story.check(name, !rule.is_empty(), &rule);
    story.timing("refusal_ms");
    Ok(())
}

fn verify(story: &mut Story, operator: &Operator, ai: &Park, vr: &Park) -> anyhow::Result<()> {
    for (park, other) in [(ai, vr), (vr, ai)] {
        let held_by = vec![other.folder().to_owned()];
        let args = audit::Verify::new(park.folder(), park.id(), &operator.fingerprint(), held_by);
        let report = audit::verify(&args)?;
        let compared = story.words((
            "checkpoints compared, including one held by the other park",
            "个检查点已比较，其中一个由对方园区持有",
        ));
        let entries = story.words(("entries", "条"));
        let detail = format!("{} {entries}, {} {compared}", report.entries, report.checkpoints);
        let fault = report.faults.first().map(|fault| fault.reason.clone());
        let covered = report.covered == report.entries;
        let name = (format!("the log of {} verifies", park.name().0), format!("{} 的日志核验通过", park.name().1));
        story.check((&name.0, &name.1), report.is_good() && covered, &fault.unwrap_or(detail));
    }
    story.timing("verified_ms");
    Ok(())
}
