//! Everything at the same time, for a while: users of all kinds, a hostile member, a node that is killed again and again,
//! and one whose clock jumps. Memory, files and log grow only as the work does. For longer runs, CROSSPARK_SOAK_SECONDS.

use crate::harness::*;
use crosspark::assembly::Overrides;
use serde_json::json;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What was done, and until when.
#[derive(Default)]
struct Work {
    over: AtomicBool,
    done: AtomicU64,
    attacks: AtomicU64,
}

impl Work {
    /// Repeats `work` until the end, with a pause.
    async fn repeat<F: Future<Output = ()>>(&self, pause_ms: u64, count: &AtomicU64, mut work: impl FnMut(u64) -> F) {
        for n in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            work(n).await;
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

/// A request and whatever comes of it; the node may be down at any time.
async fn use_data(park: &Park, provider: &Park, dataset: &str, cancel: bool) {
    let Some(view) = park.try_request(provider, dataset, "research").await else { return };
    let path = format!("/v1/requests/{}", view["id"].as_str().unwrap());
    let (client, token) = (crosspark::net::own_node_client().unwrap(), park.token_of("requester").await);
    let call = if cancel {
        client.post(format!("{}{path}/cancellation", park.management)).json(&json!({}))
    } else {
        client.get(format!("{}{path}?wait=2", park.management))
    };
    let _ = call.bearer_auth(&token).send().await;
    if let Ok(data) = client.get(format!("{}{path}/data", park.management)).bearer_auth(&token).send().await {
        let _ = data.bytes().await;
    }
}

async fn attack(park: &Park, client: &reqwest::Client, n: u64) {
    let pid = "urn:uuid:00000000-0000-4000-8000-000000000000";
    let post = |path: &str| client.post(format!("{}{path}", park.endpoint));
    let message = |kind: &str| json!({"@context": [CONTEXT], "@type": kind, "padding": "x".repeat(20_000)});
    let request = match n % 6 {
        0 => client.get(format!("{}/dsp/2025-1/transfers/{pid}", park.endpoint)),
        1 => post("/dsp/2025-1/negotiations/request").json(&message("ContractRequestMessage")),
        2 => post(&format!("/data/{pid}/key")).body("not a JWS"),
        3 => post("/dsp/2025-1/catalog/request").header("content-type", "application/json").body("[".repeat(1_000)),
        4 => post("/register").body("a.b.c"),
        _ => post("/dsp/2025-1/transfers/request").body(vec![0u8; 600_000]),
    };
    // Some of them hang up.
    let _ = request.timeout(Duration::from_millis(if n.is_multiple_of(7) { 2 } else { 5_000 })).send().await;
}

async fn decide(park: &Park, n: u64) {
    let token = park.token_of("publisher").await;
    for pending in park.get("publisher", "/v1/approvals").await["approvals"].as_array().unwrap() {
        let path = format!("/v1/approvals/{}", pending["id"].as_str().unwrap());
        park.call("POST", &path, &token, Some(json!({"approve": n.is_multiple_of(2)}))).await;
    }
}

async fn publish_and_withdraw(park: &Park, n: u64) {
    // Not for the hostile member, which runs no node that could be notified.
    let terms = policy(&[("recipient", "isAnyOf", json!(["did:web:park-b.example", "did:web:park-d.example"]))]);
    let (published, code) = park.publish("economic-indicator", &records(20 + n as usize), "ndjson", &terms).await;
    assert_eq!(code, 0, "{published}");
    if !n.is_multiple_of(3) {
        let path = format!("/v1/datasets/{}/withdrawal", dataset_of(&published));
        park.call("POST", &path, &park.token_of("publisher").await, Some(json!({"reason": "over"}))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_at_once() {
    let seconds = std::env::var("CROSSPARK_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let alliance = Alliance::new();
    let [a, b, hostile, d] = alliance.parks(["park-a", "park-b", "park-c", "park-d"]);
    // The honest members do in an hour what others do in months.
    let configuration = a.folder.join("crosspark.toml");
    let original = std::fs::read_to_string(&configuration).unwrap();
    assert!(original.contains("per_day = 256"), "{original}");
    std::fs::write(&configuration, original.replace("per_day = 256", "per_day = 65536")).unwrap();
    let run_a = a.start().await;
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let here_d = d.start_here(Overrides { clock: Some(clock.clone()), ..Overrides::default() }).await;
    let consent = json!({"permission": [{"action": "use", "duty": [{"action": "obtainConsent"}]}]});
    let (open, _) = a.publish("economic-indicator", &records(500), "ndjson", &research()).await;
    let (guarded, _) = a.publish("economic-indicator", &records(50), "ndjson", &consent).await;
    let (open, guarded) = (dataset_of(&open), dataset_of(&guarded));
    for park in [&a, &b, &d] {
        for role in ["publisher", "requester", "auditor"] {
            if !std::ptr::eq(park, &b) {
                park.token_of(role).await;
            }
        }
    }
    let mut run_b = Some(b.start().await);
    b.token_of("requester").await;
    let (work, client) = (Work::default(), a.client(&alliance, hostile.identity()));
    let (work, client) = (&work, &client);
    let mut samples: Vec<(u64, usize, u64)> = Vec::new();
    let watch = async {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            if run_b.is_none() {
                run_b = Some(b.start().await);
            }
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            samples.push((run_a.memory_kib(), run_a.descriptors(), entries(&a)));
            run_b.take().unwrap().kill();
        }
        work.over.store(true, Ordering::SeqCst);
        b.start().await
    };
    let jumps = [0, 30_000, -30_000, -7_200_000, 0];
    let (run_b, ..) = tokio::join!(
        watch,
        work.repeat(5, &work.done, |_| use_data(&b, &a, open, false)),
        work.repeat(20, &work.done, |n| use_data(&b, &a, guarded, n.is_multiple_of(3))),
        work.repeat(30, &work.done, |_| use_data(&d, &a, open, false)),
        work.repeat(50, &work.done, |n| decide(&a, n)),
        work.repeat(300, &work.done, |n| publish_and_withdraw(&a, n)),
        work.repeat(0, &work.attacks, |n| attack(&a, client, n)),
        work.repeat(400, &work.done, |n| {
            clock.0.store(jumps[n as usize % jumps.len()], Ordering::SeqCst);
            std::future::ready(())
        }),
    );
    clock.0.store(0, Ordering::SeqCst);
    let (done, attacks) = (work.done.load(Ordering::SeqCst), work.attacks.load(Ordering::SeqCst));
    let (first, last) = (samples[samples.len() / 2], samples[samples.len() - 1]);
    println!(
        "{done} jobs, {attacks} attacks; memory KiB, descriptors, entries: {first:?} at half, {last:?} at the end"
    );
    assert!(last.0 < first.0 + 64 * 1024, "memory grows: {samples:?}");
    assert!(samples.iter().all(|(_, descriptors, _)| *descriptors < 400), "{samples:?}");
    // A job has at most 20 entries at the provider; attacks, at most those that are not summed.
    let minutes = seconds / 60 + 2;
    let most = done * 20 + minutes * 6 * u64::from(crosspark::core::limits::REFUSALS_SINGLE_PER_MINUTE) + 200;
    assert!(last.2 < most, "{} entries, at most {most}", last.2);
    let size: u64 = ["state.db", "state.db-wal"]
        .iter()
        .map(|name| std::fs::metadata(a.folder.join(name)).map_or(0, |m| m.len()))
        .sum();
    assert!(size < (24 << 20) + last.2 * 12_000, "{size} bytes for {} entries", last.2);

    // It all ends well.
    let end = b.request(&a, open, "research").await;
    assert_eq!(end["stage"], "verified", "{end} {}", b.log());
    run_a.settle().await;
    run_b.settle().await;
    here_d.stop().await;
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[&b, &d]).0, 0);
    assert_eq!(b.verify(&[]).0, 0);
    // What ran in this process may have written after its last checkpoint.
    assert!(matches!(d.verify(&[]).0, 0 | 5));
    for park in [&a, &b, &d] {
        let parts = std::fs::read_dir(park.folder.join("received/parts")).unwrap().count();
        assert_eq!(parts, 0, "{} has partial downloads", park.id);
    }
}

fn entries(park: &Park) -> u64 {
    let state = rusqlite::Connection::open(park.folder.join("state.db")).unwrap();
    state.query_row("SELECT COUNT(*) FROM entry", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}
