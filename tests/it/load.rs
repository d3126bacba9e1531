//! Load test with many concurrent downloads, negotiations, idle connections and slow readers on loopback. A small
//! version runs with the other tests; the full version, which prints measurements, is started by
//! `cargo test --release --test it load::full -- --ignored --nocapture`.

use crate::harness::*;
use crosspark::core::id::ProcessId;
use crosspark::keys::Cell;
use crosspark::net::own_node_client;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Amount of concurrent load.
struct Shape {
    seconds: u64,
    downloads: usize,
    negotiations_per_second: usize,
    idle: usize,
    slow: usize,
    records: usize,
}

/// Statuses of the responses and their durations.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<String, Vec<u64>>>>);

impl Tally {
    fn add(&self, what: impl Into<String>, took: Duration) {
        self.0.lock().unwrap().entry(what.into()).or_default().push(took.as_micros() as u64);
    }

    fn kinds(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).map_or(0, Vec::len)
    }

    fn print(&self, name: &str) {
        for (what, times) in self.0.lock().unwrap().iter_mut() {
            times.sort_unstable();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64 / 1_000.0;
            let (median, tail, last) = (at(0.5), at(0.99), at(1.0));
            let count = times.len();
            println!(
                "{name:<14} {what:<12} {count:>8}   median {median:>8.1} ms   p99 {tail:>8.1} ms   max {last:>8.1} ms"
            );
        }
    }
}

/// Starts a transfer that stays STARTED because the consumer's node cannot store the data. Returns the provider's id of
/// the transfer and its token.
async fn started_transfer(a: &Park, b: &Park, dataset: &str) -> (String, String) {
    let parts = b.folder.join("received/parts");
    std::fs::remove_dir_all(&parts).unwrap();
    std::fs::write(&parts, "in the way").unwrap();
    b.begin_request(a, dataset, "research").await;
    let database = rusqlite::Connection::open(b.folder.join("state.db")).unwrap();
    for _ in 0..1_000 {
        let found = database.query_row(
            "SELECT body FROM process WHERE kind = 'transfer' AND state = 'STARTED' AND role = 'consumer'",
            [],
            |row| row.get::<_, String>(0),
        );
        if let Ok(body) = found {
            let transfer: Value = serde_json::from_str(&body).unwrap();
            let id: ProcessId = transfer["id"].as_str().unwrap().parse().unwrap();
            let cell = Cell { table: "process", row: id.as_str(), column: "token" };
            let token = b.kek().unwrap(cell, transfer["wrapped_token"].as_str().unwrap()).unwrap();
            let token = String::from_utf8(token.to_vec()).unwrap();
            return (transfer["peer_pid"].as_str().unwrap().to_owned(), token);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no transfer was started: {}", b.log());
}

/// An error with its causes, without details that differ each time.
fn trouble(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    format!("error {}", causes.join(": "))
}

fn address(park: &Park) -> SocketAddr {
    park.endpoint.strip_prefix("https://").unwrap().parse().unwrap()
}

async fn run(shape: Shape) {
    let alliance = Alliance::new();
    let parks = alliance.parks(["park-a", "taker-1", "taker-2", "taker-3", "taker-4", "taker-5", "asker-1", "asker-2"]);
    let [a, takers @ .., asker_1, asker_2] = &parks;
    let run_a = a.start().await;
    let mut running = Vec::new();
    for park in &parks[1..] {
        running.push(park.start().await);
    }
    let noise: String = (0..shape.records as u64)
        .map(|n| {
            let digest = crosspark::core::digest::Digest::of(&n.to_le_bytes());
            format!("{{\"area\":\"A{n}\",\"note\":\"{digest}\",\"period\":\"2024\",\"value\":{n}}}\n")
        })
        .collect();
    let (large, _) = a.publish("economic-indicator", &noise, "ndjson", &research()).await;
    let (small, _) = a.publish("economic-indicator", &records(20), "ndjson", &research()).await;
    let size = large["sealedBytes"].as_u64().unwrap();
    let mut transfers = Vec::new();
    for taker in takers {
        transfers.push(started_transfer(a, taker, dataset_of(&large)).await);
    }
    let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (downloads, asked, probes) = (Tally::default(), Tally::default(), Tally::default());
    let before = run_a.memory_kib();
    let mut tasks = tokio::task::JoinSet::new();

    for n in 0..shape.downloads {
        let (taker, (transfer, token)) = (&takers[n % takers.len()], &transfers[n % takers.len()]);
        let client = a.client(&alliance, taker.identity());
        let (url, token) = (format!("{}/data/{transfer}", a.endpoint), token.clone());
        let (stop, bytes, tally) = (stop.clone(), bytes.clone(), downloads.clone());
        tasks.spawn(async move {
            let mut from = (n as u64 * 7_919_000) % size;
            while !stop.load(Ordering::Relaxed) {
                let (begun, end) = (Instant::now(), (from + (1 << 20)).min(size));
                let range = format!("bytes={from}-{}", end - 1);
                let answer = client.get(&url).bearer_auth(&token).header("range", range).send().await;
                let (what, got) = match answer {
                    Ok(answer) => {
                        (answer.status().to_string(), answer.bytes().await.map_or(0, |bytes| bytes.len() as u64))
                    }
                    Err(error) => (trouble(error), 0),
                };
                let whole = !what.starts_with("206") || got == end - from;
                tally.add(if whole { what } else { "cut short".into() }, begun.elapsed());
                bytes.fetch_add(got, Ordering::Relaxed);
                from = if end == size { 0 } else { end };
            }
        });
    }
    for (asker, token) in
        [(asker_1, asker_1.token_of("requester").await), (asker_2, asker_2.token_of("requester").await)]
    {
        let url = format!("{}/v1/requests", asker.management);
        let body = json!({"provider": a.id, "dataset": dataset_of(&small), "purpose": "research"});
        let (stop, tally, every) = (stop.clone(), asked.clone(), 2_000_000 / shape.negotiations_per_second as u64);
        let client = own_node_client().unwrap();
        tasks.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_micros(every));
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let (request, tally) = (client.post(&url).bearer_auth(&token).json(&body), tally.clone());
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let what = match request.send().await {
                        Ok(answer) => answer.status().to_string(),
                        Err(error) => trouble(error),
                    };
                    tally.add(what, begun.elapsed());
                });
            }
        });
    }
    // Idle connections from many addresses; each is opened again after it was closed.
    for n in 0..shape.idle {
        let (stop, to) = (stop.clone(), address(a));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(format!("127.1.{}.{}:0", 1 + n / 200, 1 + n % 200).parse().unwrap()).unwrap();
                if let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await {
                    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 1])).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    for n in 0..shape.slow {
        let (taker, (transfer, token)) = (&takers[n % takers.len()], &transfers[n % takers.len()]);
        let config = Arc::new(a.client_config(&alliance, taker.identity()));
        let head = format!("GET /data/{transfer} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
        let (stop, to) = (stop.clone(), address(a));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let Ok(stream) = tokio::net::TcpStream::connect(to).await else { continue };
                let connector = tokio_rustls::TlsConnector::from(config.clone());
                let Ok(mut stream) = connector.connect(ServerName::try_from("a").unwrap(), stream).await else {
                    continue;
                };
                let _ = stream.write_all(head.as_bytes()).await;
                let mut drop_of_it = [0; 512];
                while !stop.load(Ordering::Relaxed) && stream.read(&mut drop_of_it).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        });
    }
    // An honest member that sends few requests.
    let (client, url) = (a.client(&alliance, asker_1.identity()), format!("{}/log/checkpoint", a.endpoint));
    let mut highest = before;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(shape.seconds) {
        let asked_at = Instant::now();
        let what = match client.get(&url).send().await {
            Ok(answer) => answer.status().to_string(),
            Err(error) => trouble(error),
        };
        probes.add(what, asked_at.elapsed());
        highest = highest.max(run_a.memory_kib());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let took = begun.elapsed().as_secs_f64();
    let halfway = run_a.memory_kib();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    for park in [asker_1, asker_2] {
        let deadline = Instant::now() + Duration::from_secs(60 + shape.seconds);
        while park.get("admin", "/v1/status").await["outbox"]["waiting"] != 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let log = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
    let finalized: i64 = log
        .query_row("SELECT COUNT(*) FROM process WHERE kind = 'negotiation' AND state = 'FINALIZED'", [], |row| {
            row.get(0)
        })
        .unwrap();
    downloads.print("downloads");
    asked.print("requests");
    probes.print("honest member");
    let mib = bytes.load(Ordering::Relaxed) as f64 / took / 1_048_576.0;
    println!("{mib:.0} MiB/s served; {finalized} negotiations finalized, {:.0} a second", finalized as f64 / took);
    println!("memory of the provider: {before} KiB before, {highest} at most, {halfway} at the end");
    for kind in downloads.kinds() {
        assert!(kind.starts_with("206") || kind.starts_with("429"), "a download ended with {kind}");
    }
    for kind in asked.kinds() {
        assert!(kind.starts_with("202") || kind.starts_with("429") || kind.starts_with("503"), "a request: {kind}");
    }
    assert!(
        probes.kinds().iter().all(|kind| kind.starts_with("200") || kind.starts_with("503")),
        "{:?}",
        probes.kinds()
    );
    assert!(probes.count("200 OK") > 0 && finalized > 0);
    assert!(highest - before < 512 * 1024, "memory grew to {highest} KiB");
    assert!(!a.log().contains("panicked"), "{}", a.log());
    drop(running);
    run_a.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_little() {
    run(Shape { seconds: 3, downloads: 40, negotiations_per_second: 20, idle: 300, slow: 5, records: 20_000 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; for stats, in a release build"]
async fn full() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    run(Shape {
        seconds: number("LOAD_SECONDS", 60) as u64,
        downloads: number("LOAD_DOWNLOADS", 500),
        negotiations_per_second: number("LOAD_NEGOTIATIONS", 200),
        idle: number("LOAD_IDLE", 10_000),
        slow: number("LOAD_SLOW", 50),
        records: number("LOAD_RECORDS", 1_000_000),
    })
    .await;
}
