//! Disks that become full: large deliveries are refused, what ends a process can still be written, and nothing that is not
//! needed stays.

use crate::harness::*;
use crosspark::assembly::Overrides;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;

fn with_disk(free: &Arc<AtomicU64>) -> Overrides {
    let free = free.clone();
    Overrides { disk: Some(Box::new(move || Ok((free.load(Ordering::SeqCst), 1 << 40)))), ..Overrides::default() }
}

fn files(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    all.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Records that hardly compress.
fn large(n: usize) -> String {
    let name = |i: usize| hex::encode(ring::digest::digest(&ring::digest::SHA256, &i.to_le_bytes()));
    (0..n).map(|i| format!("{{\"area\":\"{}\",\"period\":\"2024\",\"value\":{i}}}\n", name(i))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_leaves_room() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let free = Arc::new(AtomicU64::new(1 << 40));
    let (run_a, here) = (a.start().await, b.start_here(with_disk(&free)).await);
    let (published, _) = a.publish("economic-indicator", &large(40_000), "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    assert!(published["sealedBytes"].as_u64().unwrap() > MIB, "{published}");
    // The reserve is a GiB, and this leaves one MiB beyond it.
    free.store(1_025 * MIB, Ordering::SeqCst);
    let refused = b.request(&a, dataset, "research").await;
    assert_eq!(refused["stage"], "refused", "{refused}");
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("there is no room: it needs 1 MiB, but the disk has room for 1 MiB"), "{reason}");
    let small = a.publish("economic-indicator", &records(10), "ndjson", &research()).await.0;
    assert_eq!(b.request(&a, dataset_of(&small), "research").await["stage"], "verified");
    assert!(files(&b.folder.join("received/parts")).is_empty());
    // Publishing uses no reserve, either.
    free.store(1_000 * MIB, Ordering::SeqCst);
    let (said, code) = b.publish("economic-indicator", &records(10), "ndjson", &research()).await;
    assert!(said.to_string().contains("less than the reserve"), "{code} {said}");
    let status = b.get("admin", "/v1/status").await;
    assert!(status["health"]["warnings"].to_string().contains("no data is received or published"), "{status}");
    free.store(1 << 40, Ordering::SeqCst);
    assert_eq!(b.request(&a, dataset, "research").await["stage"], "verified");
    here.stop().await;
    run_a.settle().await;
    run_a.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_limits_what_is_kept() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let (large, _) = a.publish("economic-indicator", &large(60_000), "ndjson", &research()).await;
    let (other, _) = a.publish("economic-indicator", &large_other(), "ndjson", &research()).await;
    let configuration = b.folder.join("crosspark.toml");
    let original = std::fs::read_to_string(&configuration).unwrap();
    for (limit, first, second) in [
        ("delivery_mib_max = 1", "is larger than this node accepts", "is larger than this node accepts"),
        ("provider_mib_max = 3", "", "of this provider are kept already"),
        ("received_mib_max = 3", "", "of all providers are kept already"),
    ] {
        let start = original.find("[disk]").unwrap();
        std::fs::write(&configuration, original[..start].to_owned() + "[disk]\n" + limit + "\n").unwrap();
        let run_b = b.start().await;
        for (published, expected) in [(&large, first), (&other, second)] {
            let view = b.request(&a, dataset_of(published), "research").await;
            let reason = view["reason"].as_str().unwrap_or_default();
            assert_eq!(view["stage"], if expected.is_empty() { "verified" } else { "refused" }, "{limit}: {view}");
            assert!(reason.contains(expected), "{limit}: {view}");
        }
        run_b.settle().await;
        run_b.stop();
    }
    run_a.settle().await;
    run_a.stop();
}

fn large_other() -> String {
    large(120_000).lines().skip(60_000).map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_processes_end() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let free = Arc::new(AtomicU64::new(1 << 40));
    let (run_a, here) = (a.start().await, b.start_here(with_disk(&free)).await);
    let consent = json!({"permission": [{"action": "use", "duty": [{"action": "obtainConsent"}]}]});
    let (published, _) = a.publish("economic-indicator", &records(10), "ndjson", &consent).await;
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    let token = b.token_of("requester").await;
    assert!(b.folder.join("ballast").exists());
    free.store(0, Ordering::SeqCst);
    let client = crosspark::net::own_node_client().unwrap();
    let ready = client.get(format!("{}/readyz", b.management)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().await.unwrap().contains("the disk is full"));
    assert!(!b.folder.join("ballast").exists(), "the room that was set aside is free now");
    let status: Value = b.get("admin", "/v1/status").await;
    assert!(status["health"]["warnings"].to_string().contains("the disk is full"), "{status}");
    assert!(b.try_request(&a, dataset_of(&published), "research").await.is_none());
    let id = asked["id"].as_str().unwrap();
    let path = format!("/v1/requests/{id}/cancellation");
    let (code, view) = b.call("POST", &path, &token, Some(json!({}))).await;
    assert!(code == 200 && view["stage"] == "cancelled", "{code} {view}");
    free.store(1 << 40, Ordering::SeqCst);
    here.stop().await;
    run_a.stop();
}

/// Received bytes without a use are removed at the start: of ended transfers, and of none.
#[tokio::test(flavor = "multi_thread")]
async fn remains_of_ended_transfers_are_removed() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(10), "ndjson", &research()).await;
    let mut views = Vec::new();
    for _ in 0..2 {
        views.push(b.request(&a, dataset_of(&published), "research").await);
    }
    run_a.settle().await;
    run_b.settle().await;
    run_b.stop();
    let [kept, ended] = [0, 1].map(|i| views[i]["holding"].as_str().unwrap().to_owned());
    let database = rusqlite::Connection::open(b.folder.join("state.db")).unwrap();
    let sql = "UPDATE holding SET body = json_set(body, '$.state', 'fetching') WHERE id = ?1";
    assert_eq!(database.execute(sql, [&ended]).unwrap(), 1);
    let received = b.folder.join("received");
    for part in [&ended, "urn:uuid:00000000-0000-4000-8000-00000000dead"] {
        std::fs::write(received.join("parts").join(part), b"sealed").unwrap();
    }
    let run_b = b.start().await;
    for _ in 0..500 {
        if files(&received.join("parts")).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((files(&received.join("parts")), files(&received)), (Vec::new(), vec![kept]));
    run_b.stop();
    run_a.stop();
}
