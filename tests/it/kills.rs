//! SIGKILL at more than two hundred points of an exchange, at provider and consumer, by log entry and by time.

use crate::ends::everything_ended_well;
use crate::harness::*;
use serde_json::{Value, json};
use std::time::Duration;

/// When a node is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This number of log entries after the request, plus a delay.
    Entry(u64, Duration),
    /// This long after the request.
    Time(Duration),
}

fn moments() -> Vec<Moment> {
    let entries = (1..=10).flat_map(|n| [0, 700, 3_000].map(|us| Moment::Entry(n, Duration::from_micros(us))));
    let times = (0..72).map(|n| Moment::Time(Duration::from_micros(n * 900)));
    entries.chain(times).collect()
}

fn entries(park: &Park) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let log = rusqlite::Connection::open_with_flags(park.folder.join("state.db"), flags).unwrap();
    log.query_row("SELECT COALESCE(MAX(n), -1) + 1 FROM entry", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

async fn wait_for(moment: Moment, park: &Park, begun: u64) {
    match moment {
        Moment::Time(pause) => tokio::time::sleep(pause).await,
        Moment::Entry(n, pause) => {
            // One node may log fewer entries than this in the whole exchange; then the kill comes after the end.
            for _ in 0..400 {
                if entries(park) >= begun + n {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_two_hundred_points() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (mut run_a, mut run_b) = (a.start().await, b.start().await);
    let (text, once) = (records(2_000), policy(&[("count", "lteq", json!("1"))]));
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &once).await;
    let dataset = dataset_of(&published).to_owned();
    let mut requests: Vec<Value> = Vec::new();
    for (n, moment) in moments().into_iter().flat_map(|moment| [(0, moment), (1, moment)]) {
        let park = if n == 0 { &a } else { &b };
        let begun = entries(park);
        requests.push(b.begin_request(&a, &dataset, "research").await);
        wait_for(moment, park, begun).await;
        if n == 0 {
            run_a.kill();
            run_a = a.start().await;
        } else {
            run_b.kill();
            run_b = b.start().await;
        }
    }
    assert!(requests.len() > 200);
    let (parks, runs) = ((&a, &b), (run_a, run_b));
    everything_ended_well(parks, runs, &requests, &text).await;
}
