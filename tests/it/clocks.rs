//! Clocks that are wrong: set back, they open nothing; ahead, they are recovered from.

use crate::harness::*;
use crosspark::assembly::Overrides;
use crosspark::core::time::{Clock, SystemClock};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

async fn ready(park: &Park) -> (StatusCode, String) {
    let client = crosspark::net::own_node_client().unwrap();
    let response = client.get(format!("{}/readyz", park.management)).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// The policy ends; then both nodes are restarted with clocks before its end, as two parks that agreed on it would do.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_opens_no_policy() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let at = |ms: i64| Overrides { clock: Some(Arc::new(ShiftedClock(AtomicI64::new(ms)))), ..Overrides::default() };
    let with_clock = || Overrides { clock: Some(clock.clone()), ..Overrides::default() };
    let (here_a, here_b) = (a.start_here(with_clock()).await, b.start_here(with_clock()).await);
    let end = SystemClock.now().plus_ms(HOUR_MS).to_string();
    let for_an_hour = policy(&[("purpose", "eq", json!("research")), ("dateTime", "lt", json!(end))]);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &for_an_hour).await;
    let dataset = dataset_of(&published).to_owned();
    clock.0.store(3 * HOUR_MS, Ordering::SeqCst);
    // Nothing is logged at park A after the end.
    let too_late = b.try_request(&a, &dataset, "research").await;
    assert!(too_late.is_none_or(|view| view["stage"] != "verified"));

    // Set back while they run: closed at once, for users, peers and the data plane.
    clock.0.store(HOUR_MS / 2, Ordering::SeqCst);
    let (status, said) = ready(&a).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && said.contains("the clock of this machine is wrong"), "{said}");
    assert!(b.try_request(&a, &dataset, "research").await.is_none());
    here_a.stop().await;
    here_b.stop().await;

    // And after a restart, whatever the machine shows. `start_here` waits for readiness, so this is done by hand.
    for park in [&a, &b] {
        let config = crosspark::config::Config::load(&park.folder.join("crosspark.toml")).unwrap();
        let assembled = crosspark::assembly::assemble(config, at(HOUR_MS / 2)).await.unwrap();
        let closed = assembled.services.node.clock().behind();
        assert!(closed.is_some_and(|reason| reason.contains("wrong")), "{}", park.id);
        let now = assembled.services.node.now();
        assert!(now >= SystemClock.now().plus_ms(3 * HOUR_MS - 60_000), "the node forgot its time: {now}");
    }
    let (code, report) = a.verify(&[]);
    assert_eq!(code, 0, "{report}");
}

/// A clock that was five days ahead for a moment: an administrator has the peers confirm the time, and work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_is_corrected() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let here = a.start_here(Overrides { clock: Some(clock.clone()), ..Overrides::default() }).await;
    clock.0.store(5 * DAY_MS, Ordering::SeqCst);
    a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    clock.0.store(0, Ordering::SeqCst);
    let args = |command: &'static str| {
        let arguments = ["clock", command, "--node", &a.management, "--token", &a.admin_token(), "--json"];
        let arguments = arguments.map(str::to_owned);
        tokio::task::spawn_blocking(move || {
            let output = crosspark(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
            (output.status.code().unwrap(), read(&output.stdout), read(&output.stderr))
        })
    };
    let (code, shown, _) = args("show").await.unwrap();
    assert!(code == 1 && shown["behind"].as_str().unwrap().contains("is wrong"), "{shown}");
    let status = a.get("admin", "/v1/status").await;
    assert!(status["health"]["warnings"][0].as_str().unwrap().contains("the clock of this machine"), "{status}");
    // Nobody confirms.
    let (code, _, refused) = args("correct").await.unwrap();
    assert!(code == 3 && refused["detail"].as_str().unwrap().contains("0 of 1 parks confirm"), "{refused}");
    // A peer contradicts.
    let run_b = b.start().await;
    clock.0.store(-2 * HOUR_MS, Ordering::SeqCst);
    let (code, _, refused) = args("correct").await.unwrap();
    assert!(code == 3 && refused["detail"].as_str().unwrap().contains("did:web:park-b.example shows"), "{refused}");
    // The peer confirms.
    clock.0.store(0, Ordering::SeqCst);
    let (code, corrected, refused) = args("correct").await.unwrap();
    assert!(code == 0 && corrected["behind"].is_null(), "{refused}");
    let (code, _, refused) = args("correct").await.unwrap();
    assert!(code == 3 && refused["detail"].as_str().unwrap().contains("nothing to correct"), "{refused}");

    let (published, _) = a.publish("economic-indicator", &records(5), "ndjson", &research()).await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(end["stage"], "verified", "{end}");
    a.get("auditor", "/v1/audit/checkpoint").await;
    here.stop().await;
    // Also after a restart, and the verification tells of it.
    let here = a.start_here(Overrides::default()).await;
    assert_eq!(b.request(&a, dataset_of(&published), "research").await["stage"], "verified");
    run_b.settle().await;
    here.stop().await;
    run_b.stop();
    let (code, report) = a.verify(&[&b]);
    assert_eq!(code, 0, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("the park set its clock back"), "{report}");
}
