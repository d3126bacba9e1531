//! Monitoring: metrics, trace ids in the logs of both nodes, the doctor, warnings of expiry.

use crate::harness::*;
use crosspark::assembly::Overrides;
use crosspark::core::time::{Clock, SystemClock, Timestamp};
use crosspark::net::own_node_client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The samples of a node's metrics, by name and labels.
async fn stats(park: &Park) -> BTreeMap<String, f64> {
    let response = own_node_client().unwrap().get(format!("{}/metrics", park.management)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    let (mut samples, mut typed) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            typed.push(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(typed.iter().any(|known| name.split('{').next() == Some(known)), "{line} has no type");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} is there twice");
        }
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_what_happens() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    let before = stats(&a).await;
    assert_eq!(b.request(&a, dataset, "advertising").await["stage"], "refused");
    let _ = a.call("GET", "/v1/tokens", "wrong", None).await;
    let after = stats(&a).await;
    assert!(after["crosspark_log_entries"] > before["crosspark_log_entries"]);
    assert_eq!(after["crosspark_refusals_total{reason=\"no-token\"}"], 1.0);
    assert_eq!(after["crosspark_expiry_days{what=\"register\"}"], 13.0);
    assert!(after["crosspark_expiry_days{what=\"certificate\"}"] > 300.0);
    assert_eq!((after["crosspark_read_only"], after["crosspark_warnings"]), (0.0, 0.0));
    assert!(after["crosspark_disk_free_bytes"] > 0.0 && after["crosspark_database_bytes"] > 0.0);
    // No request can be made while the provider is down.
    run_a.kill();
    let pending = b.try_request(&a, dataset, "research").await;
    assert!(pending.is_none(), "the offer cannot be read");
    run_b.stop();
}

/// The trace id, given by the user or created by the node, is in the log lines of both nodes.
#[tokio::test(flavor = "multi_thread")]
async fn one_id_through_both_logs() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let body = json!({"provider": a.id, "dataset": dataset_of(&published), "purpose": "research"});
    let request = own_node_client()
        .unwrap()
        .post(format!("{}/v1/requests", b.management))
        .bearer_auth(b.token_of("requester").await)
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let view: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    let end = b.wait(&view, 60).await;
    assert_eq!((&end["stage"], &end["trace"]), (&json!("verified"), &json!(trace)), "{end}");
    // Another request has another trace id.
    let other = b.request(&a, dataset_of(&published), "research").await;
    let other_trace = other["trace"].as_str().unwrap();
    assert!(other_trace != trace && other_trace.len() == 32);
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
    for id in [trace, other_trace] {
        let lines = |park: &Park, part: &str| park.log().lines().any(|line| line.contains(id) && line.contains(part));
        assert!(lines(&b, "requested") && lines(&b, "delivered and verified"), "{}", b.log());
        assert!(lines(&a, "data key released"), "{}", a.log());
    }
}

fn doctor(park: &Park) -> (i32, Vec<(String, String, String)>) {
    let output = crosspark(&["doctor", text(&park.folder), "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = found.as_array().unwrap().iter().map(|f| (text(f, "check"), text(f, "verdict"), text(f, "answer")));
    (output.status.code().unwrap(), all.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_has_a_plain_answer() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let ask = async |park: &Park| {
        let folder = park.folder.clone();
        let (code, found) = tokio::task::block_in_place(|| doctor(park));
        assert!(folder.exists());
        (code, found)
    };
    let (code, found) = ask(&a).await;
    assert_eq!(code, 0, "{found:#?}");
    assert!(found.iter().all(|(_, verdict, _)| verdict == "good"), "{found:#?}");
    let peer = format!("peer {}", b.id);
    for part in ["connection", "clock", "reverse connection"] {
        assert!(found.iter().any(|(check, ..)| *check == format!("{peer}: {part}")), "{part}: {found:#?}");
    }
    let bad = |found: &[(String, String, String)], part: &str, answer: &str| {
        let hit = found
            .iter()
            .any(|(check, verdict, said)| check.contains(part) && verdict == "bad" && said.contains(answer));
        assert!(hit, "{part}, {answer}: {found:#?}");
    };
    // For a copy of the folder, the running node that uses the ports is another program.
    let copy = a.folder.with_extension("copy");
    assert!(std::process::Command::new("cp").arg("-r").args([&a.folder, &copy]).status().unwrap().success());
    let output = crosspark(&["doctor", text(&copy)]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("in use by another program") && !said.contains("running and ready"), "{said}");
    // A peer that is not running.
    run_b.kill();
    let (code, found) = ask(&a).await;
    assert_eq!(code, 1);
    bad(&found, &format!("{peer}: connection"), "nothing listens at its address");
    // This node is not running, and another program uses its port.
    run_a.kill();
    let address = a.endpoint.strip_prefix("https://").unwrap();
    let taken = std::net::TcpListener::bind(address).unwrap();
    let (code, found) = ask(&a).await;
    assert_eq!(code, 1);
    bad(&found, &format!("port {address}"), "in use");
    drop(taken);
    // Damaged files in the folder.
    let certificate = std::fs::read(a.folder.join("tls.pem")).unwrap();
    std::fs::copy(b.folder.join("tls.pem"), a.folder.join("tls.pem")).unwrap();
    bad(&ask(&a).await.1, "keys and certificate", "does not list the key");
    std::fs::write(a.folder.join("tls.pem"), certificate).unwrap();
    let kek = a.folder.with_extension("kek");
    let mut mode = std::fs::metadata(&kek).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
    std::fs::set_permissions(&kek, mode).unwrap();
    bad(&ask(&a).await.1, "key-encryption key", "chmod 600");
    let database = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
    database.execute_batch("UPDATE tile SET data = zeroblob(length(data))").unwrap();
    bad(&ask(&a).await.1, "database", "do not match its root");
    std::fs::write(a.folder.join("crosspark.toml"), "participant = 7").unwrap();
    bad(&ask(&a).await.1, "configuration", "participant");
}

struct Later(i64);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0 * 86_400_000)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_to_end_is_said() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    for (days, expected) in [(0, None), (6, None), (8, Some("the register expires")), (13, Some("in 0 days"))] {
        let here = a.start_here(Overrides { clock: Some(Arc::new(Later(days))), ..Overrides::default() }).await;
        let status = a.get("admin", "/v1/status").await;
        let warnings = status["health"]["warnings"].as_array().unwrap().clone();
        match expected {
            None => assert!(warnings.is_empty(), "{days}: {warnings:?}"),
            Some(part) => assert!(warnings[0].as_str().unwrap().contains(part), "{days}: {warnings:?}"),
        }
        let said = crosspark_status(&a).await;
        assert!(said.contains(expected.map_or("nothing needs attention", |_| "ATTENTION")), "{said}");
        here.stop().await;
    }
}

async fn crosspark_status(park: &Park) -> String {
    let (node, token) = (park.management.clone(), park.admin_token());
    let output = tokio::task::spawn_blocking(move || crosspark(&["status", "--node", &node, "--token", &token]));
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}
