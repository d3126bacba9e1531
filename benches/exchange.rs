//! Two nodes on the loopback interface with real TLS and SQLite files: negotiations up to FINALIZED, a page of a large
//! catalog, and searches among many datasets.
//!
//! `cargo bench --bench exchange [-- FINISHED]`, where FINISHED is the number of finished negotiations in the databases
//! during the second measurement (default 100000). The nodes and the measurement share the cores of the machine.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(dead_code, unused_imports, reason = "the test harness has more than the benchmark uses")]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use crosspark::assembly::Overrides;
use crosspark::audit::entry::{Draft, Facts, Kind};
use crosspark::catalog::{About, Offered};
use crosspark::contracts::NegotiationRequest;
use crosspark::core::digest::Digest;
use crosspark::core::id::{ParticipantId, ProcessId, Text, TokenId};
use crosspark::core::random::SystemRandomness;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::dataset::manifest::SchemaRef;
use crosspark::index::{Batch, Cursor, Index, Query};
use crosspark::negotiation::{Negotiation, Role, State, Subject};
use crosspark::node::{Assessment, DecisionMaker, NegotiationStep, PolicyDecides, TransferStep, User, UserRole};
use crosspark::policy::{Channel, Decision, Policy};
use crosspark::services::Services;
use crosspark::storage::{Change, VersionRow, Write};
use crosspark::transfer::Transfer;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use harness::{Alliance, Park, dataset_of, message, records};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Decides by policy, but requests no delivery after the agreement.
struct NoDelivery;

impl DecisionMaker for NoDelivery {
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep {
        PolicyDecides.negotiation(negotiation, says)
    }
    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep {
        PolicyDecides.transfer(transfer, policy)
    }
    fn delivery(&self, _: &Negotiation, _: bool) -> Option<Channel> {
        None
    }
}

fn text(text: &str) -> Text {
    Text::parse(text).unwrap()
}

fn user() -> User {
    User {
        token: TokenId::parse("urn:uuid:bench").unwrap(),
        role: UserRole::Requester,
        person: text("Li Hua"),
        enterprise: Some(text(harness::ENTERPRISE)),
    }
}

struct Pair {
    consumer: Services,
    provider: ParticipantId,
    version: VersionRow,
}

impl Pair {
    /// Runs one negotiation until it is finalized.
    async fn negotiate(&self) -> Duration {
        let begun = Instant::now();
        let terms = (self.version.offer.clone(), self.version.dataset.clone(), self.version.policy.clone());
        let purpose = text("research");
        let ask = NegotiationRequest {
            provider: &self.provider,
            terms,
            purpose: &purpose,
            enterprise: text(harness::ENTERPRISE),
        };
        let id = self.consumer.contracts.requests.ask(&user(), ask, None).await.unwrap();
        let mut seen = 0;
        loop {
            let found = self.consumer.node.store().negotiation(&id).await.unwrap().unwrap();
            match found.state {
                State::Finalized => return begun.elapsed(),
                State::Terminated => panic!("{:?}", found.reason),
                _ => seen = self.consumer.node.store().changed(seen).await,
            }
        }
    }

    async fn measure(&self, name: &str, in_flight: usize, count: usize) {
        let begun = Instant::now();
        let mut left = count;
        let mut running = FuturesUnordered::new();
        let mut took = Vec::with_capacity(count);
        while left > 0 || !running.is_empty() {
            while left > 0 && running.len() < in_flight {
                running.push(self.negotiate());
                left -= 1;
            }
            took.extend(running.next().await);
        }
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        took.sort();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
        println!("{name:<34} {rate:>8.0}/s   median {:>7.2} ms   p99 {:>7.2} ms", at(0.5), at(0.99));
    }
}

fn finished(n: usize, peer: &ParticipantId, role: Role, version: &VersionRow) -> Negotiation {
    let now = SystemClock.now();
    Negotiation {
        id: ProcessId::parse(&format!("urn:old:{n}")).unwrap(),
        role,
        peer: peer.clone(),
        peer_pid: Some(ProcessId::parse(&format!("urn:theirs:{n}")).unwrap()),
        state: State::Finalized,
        revision: 1,
        subject: Subject {
            dataset: version.dataset.clone(),
            offer: version.offer.clone(),
            policy: version.policy.clone(),
            written: None,
            asked: Some(version.policy.clone()),
            claim: Some("x".repeat(900)),
            purpose: Some(text("research")),
            enterprise: Some(text(harness::ENTERPRISE)),
        },
        callback: None,
        approval: None,
        agreement: None,
        reason: None,
        cancelled: false,
        seen: Vec::new(),
        trace: None,
        started: now,
        updated: now,
    }
}

/// Commits many changes concurrently.
async fn commit_all(node: &Services, changes: impl Iterator<Item = Write>) {
    let random = SystemRandomness::new();
    let mut all = futures_util::stream::iter(changes.map(|write| {
        let change = Change::new(Draft::new(Kind::NegotiationTransition, Facts::default(), &random)).write(write);
        let node = node.clone();
        async move { node.node.store().commit(change).await.map(drop) }
    }))
    .buffer_unordered(1_024);
    while let Some(done) = all.next().await {
        done.unwrap();
    }
}

fn row(n: usize, like: &VersionRow) -> VersionRow {
    let digest = Digest::of(format!("row {n}").as_bytes());
    VersionRow {
        dataset: format!("urn:x:{n:08}").parse().unwrap(),
        offer: format!("urn:o:{n}").parse().unwrap(),
        manifest_digest: digest,
        blob: digest,
        title: text(&format!("Dataset {n}")),
        ..like.clone()
    }
}

/// A dataset with a title of a few English and Chinese words.
fn offered(n: usize, version: &VersionRow) -> Offered {
    let english =
        ["energy", "motion", "genome", "compute", "traffic", "patent", "climate", "robot", "sensor", "finance"];
    let chinese = ["能耗", "动作", "基因", "算力", "交通", "专利", "气候", "机器人", "传感", "金融"];
    let (a, b, c) = (n % 10, (n / 10) % 10, (n / 100) % 10);
    Offered {
        dataset: format!("urn:x:{n:08}").parse().unwrap(),
        title: text(&format!("{} of {} parks {}{} 第{n}号", english[a], english[b], chinese[c], chinese[a])),
        description: format!("Monthly {} records of enterprises, {} 园区企业数据 {n}", english[c], chinese[b]),
        offer: format!("urn:o:{n}").parse().unwrap(),
        policy: version.policy.clone(),
        version: Some(1),
        manifest: Some(version.manifest_digest),
        schema: Some(SchemaRef { id: format!("urn:crosspark:schema:{a}"), ..version.schema.clone() }),
        shared: None,
        records: Some(1_000),
        bytes: Some(100_000),
        published: Some(SystemClock.now().plus_ms(-(n as i64) * 60_000)),
        formats: vec!["crosspark-sealed".into()],
        about: About { theme: Some(text(english[b])), ..About::default() },
        quality: Default::default(),
        refused: None,
    }
}

fn told(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let ms = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
    println!("{name:<34} median {:>7.2} ms   p99 {:>7.2} ms", ms(0.5), ms(0.99));
}

async fn catalogs(alliance: &Alliance, a: &Park, b: &Park, node: &Services, like: &VersionRow) {
    let client = a.client(alliance, b.identity());
    let url = format!("{}/dsp/2025-1/catalog/request", a.endpoint);
    let mut filled = 0;
    for total in [1_000, 10_000, 50_000] {
        commit_all(node, (filled..total).map(|n| Write::InsertVersion(Box::new(row(n, like))))).await;
        filled = total;
        let mut took = Vec::new();
        for n in 0..200 {
            let address = format!("{url}?after=urn:x:{:08}", n * total / 400);
            let begun = Instant::now();
            let answer = client.post(address).json(&message("CatalogRequestMessage", json!({}))).send().await.unwrap();
            let page: serde_json::Value = answer.json().await.unwrap();
            took.push(begun.elapsed());
            assert_eq!(page["dataset"].as_array().unwrap().len(), 100);
        }
        told(&format!("page of 100 among {total} datasets"), took);
    }
}

async fn searches(version: &VersionRow) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path()).unwrap();
    let (total, parks, now) = (100_000, 20, SystemClock.now());
    let begun = Instant::now();
    for park in 0..parks {
        let id = ParticipantId::parse(&format!("did:web:park-{park}.example")).unwrap();
        let of_park: Vec<usize> = (0..total).filter(|n| n % parks == park).collect();
        for part in of_park.chunks(100) {
            let put = part.iter().map(|n| offered(*n, version)).collect();
            index.take(&id, Batch { put, gone: Vec::new() }, now).await.unwrap();
        }
        let cursor = Cursor { change: Some(1), groups: String::new(), whole: now };
        index.complete(&id, cursor, now).await.unwrap();
    }
    println!("{total} datasets indexed in {:.1} s", begun.elapsed().as_secs_f64());
    type Change = fn(&mut Query);
    let all: [(&str, Change); 8] = [
        ("search: two rare words", |q| q.words = "第77777号 records".into()),
        ("search: two Chinese characters", |q| q.words = "算力".into()),
        ("search: a common word", |q| q.words = "records".into()),
        ("search: stem and Chinese", |q| q.words = "genomes 能耗".into()),
        ("search: words, one park", |q| (q.words, q.park) = ("energy".into(), "did:web:park-3.example".parse().ok())),
        ("search: a sector, newest first", |q| q.theme = Some("robot".into())),
        ("search: everything", |_| ()),
        ("search: nothing found", |q| q.words = "不存在".into()),
    ];
    for (name, change) in all {
        let mut took = Vec::new();
        for _ in 0..50 {
            let mut query = Query { limit: 20, ..Query::default() };
            change(&mut query);
            let begun = Instant::now();
            let page = index.search(query, now).await.unwrap();
            took.push(begun.elapsed());
            assert_eq!(page.total == 0, name.contains("nothing"), "{name}");
        }
        told(name, took);
    }
}

#[tokio::main]
async fn main() {
    let finished_max: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    for park in [&a, &b] {
        let path = park.folder.join("crosspark.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let free = toml
            .replace("writes_per_member_per_minute = 3000", "writes_per_member_per_minute = 4000000000")
            .replace("stored_mib_per_member_per_day = 256", "stored_mib_per_member_per_day = 1000000");
        assert_ne!(toml, free);
        std::fs::write(&path, free).unwrap();
    }
    let overrides = || Overrides { decisions: Some(Arc::new(NoDelivery)), ..Overrides::default() };
    let (here_a, here_b) = (a.start_here(overrides()).await, b.start_here(overrides()).await);
    let open = json!({"permission": [{"action": "use"}]});
    let (published, _) = a.publish("economic-indicator", &records(1), "ndjson", &open).await;
    let version =
        here_a.services.node.store().dataset(&dataset_of(&published).parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(Policy::from_value(&version.policy).unwrap().digest(), version.policy_digest);
    let provider: ParticipantId = a.id.parse().unwrap();
    let pair = Pair { consumer: here_b.services.clone(), provider: provider.clone(), version: version.clone() };
    pair.measure("warm up", 8, 200).await;
    pair.measure("negotiations, 1 in flight", 1, 500).await;
    pair.measure("negotiations, 64 in flight", 64, 4_000).await;
    let consumer: ParticipantId = b.id.parse().unwrap();
    for (node, peer, role) in
        [(&here_a.services, &consumer, Role::Provider), (&here_b.services, &provider, Role::Consumer)]
    {
        let all = (0..finished_max).map(|n| Write::PutNegotiation(Box::new(finished(n, peer, role, &version))));
        commit_all(node, all).await;
    }
    println!("-- with {finished_max} finished negotiations in each database");
    pair.measure("negotiations, 1 in flight", 1, 500).await;
    pair.measure("negotiations, 64 in flight", 64, 4_000).await;
    catalogs(&alliance, &a, &b, &here_a.services, &version).await;
    searches(&version).await;
    here_b.stop().await;
    here_a.stop().await;
}
