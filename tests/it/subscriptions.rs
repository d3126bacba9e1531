//! Subscriptions: the node requests each new version by itself, one release each.

use crate::harness::*;
use crate::schemas::at;
use crosspark::assembly::Overrides;
use serde_json::{Value, json};
use std::time::Duration;

/// Publishes one version.
async fn publish(park: &Park, names: &[&str], policy: &Value, dataset: Option<&str>) -> Value {
    let rows: Vec<String> =
        names.iter().map(|name| json!({"id": name, "name": name, "sector": "IT"}).to_string()).collect();
    let (file, terms) = (park.folder.with_extension("ndjson"), park.folder.with_extension("policy"));
    std::fs::write(&file, rows.join("\n")).unwrap();
    std::fs::write(&terms, policy.to_string()).unwrap();
    let schema = "urn:crosspark:schema:enterprise";
    let args = ["publish", text(&file), "--schema", schema, "--policy", text(&terms), "--title", "Firms"];
    let dataset: Vec<&str> = dataset.iter().flat_map(|dataset| ["--dataset", *dataset]).collect();
    at(park, "publisher", &[&args[..], &dataset].concat()).await.unwrap()
}

/// The only subscription, once its version has this stage.
async fn subscription(park: &Park, version: u64, stage: &str) -> Value {
    for _ in 0..600 {
        let found = park.get("requester", "/v1/subscriptions").await;
        let one = &found["subscriptions"][0];
        if (&one["version"], &one["stage"]) == (&json!(version), &json!(stage)) {
            return one.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} {}", park.get("requester", "/v1/subscriptions").await, park.log());
}

async fn releases(park: &Park) -> usize {
    park.entries().await.iter().filter(|row| row["entry"]["kind"] == "key.released").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_versions_are_requested_once_each() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let here = b.start_here(Overrides::default()).await;
    let look = async || {
        here.services.discovery.refresh_index().await;
        here.services.subscriptions.look().await;
    };
    let first = publish(&a, &["one"], &research(), None).await;
    let dataset = dataset_of(&first).to_owned();
    let subscribe = ["subscription", "add", "--provider", &a.id, "--dataset", &dataset, "--purpose", "research"];
    let made = at(&b, "requester", &subscribe).await.unwrap();
    assert_eq!(made["version"], 1, "{made}");
    subscription(&b, 1, "verified").await;
    // The same again is the same, and no version is requested twice.
    assert_eq!(at(&b, "requester", &subscribe).await.unwrap()["id"], made["id"]);
    look().await;
    assert_eq!(releases(&a).await, 1);

    publish(&a, &["one", "two"], &research(), Some(&dataset)).await;
    look().await;
    look().await;
    let second = subscription(&b, 2, "verified").await;
    assert_eq!((&second["problem"], releases(&a).await), (&Value::Null, 2));
    let latest = format!("/v1/datasets/{dataset}/latest.ndjson");
    assert_eq!(b.get("requester", &latest).await.as_str().unwrap().lines().count(), 2);

    // A version that is not permitted is told, and the next one is requested again.
    publish(&a, &["three"], &policy(&[("purpose", "eq", json!("planning"))]), Some(&dataset)).await;
    look().await;
    let refused = subscription(&b, 3, "refused").await;
    assert!(refused["problem"].as_str().unwrap().contains("version 3 was refused"), "{refused}");
    let status = b.get("admin", "/v1/status").await;
    let warning = status["health"]["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("subscription urn:uuid:") && warning.contains("was refused"), "{warning}");
    look().await;
    publish(&a, &["four"], &research(), Some(&dataset)).await;
    look().await;
    subscription(&b, 4, "verified").await;
    assert_eq!(releases(&a).await, 3);

    // Nothing is requested once the person's token is revoked; another token goes on with it.
    let tokens = b.get("admin", "/v1/tokens").await;
    let own = tokens["tokens"].as_array().unwrap().iter().find(|token| token["role"] == "requester").unwrap();
    let path = format!("/v1/tokens/{}", own["id"].as_str().unwrap());
    assert_eq!(b.call("DELETE", &path, &b.admin_token(), None).await.0, 204);
    b.use_tokens(&[]);
    publish(&a, &["five"], &research(), Some(&dataset)).await;
    look().await;
    let lapsed = subscription(&b, 4, "verified").await;
    assert!(lapsed["problem"].as_str().unwrap().contains("no longer valid"), "{lapsed}");
    assert_eq!(releases(&a).await, 3);
    at(&b, "requester", &subscribe).await.unwrap();
    let fifth = subscription(&b, 5, "verified").await;
    assert_eq!((&fifth["problem"], releases(&a).await), (&Value::Null, 4));

    // It is ended; what the node will not follow is told.
    let other = ["subscription", "add", "--provider", &a.id, "--dataset", "urn:uuid:none", "--purpose", "research"];
    assert!(at(&b, "requester", &other).await.is_err());
    let path = format!("/v1/subscriptions/{}", fifth["id"].as_str().unwrap());
    assert_eq!(b.call("DELETE", &path, &b.token_of("requester").await, None).await.0, 204);
    publish(&a, &["six"], &research(), Some(&dataset)).await;
    look().await;
    assert_eq!(b.get("requester", "/v1/subscriptions").await, json!({"subscriptions": []}));
    assert_eq!(releases(&a).await, 4);
    run_a.stop();
    here.stop().await;
}
