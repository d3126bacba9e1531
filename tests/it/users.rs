//! Users who take more than their share: others are served all the same.

use crate::harness::*;
use reqwest::StatusCode;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

async fn status(park: &Park, path: &str, token: &str) -> StatusCode {
    let client = crosspark::net::own_node_client().unwrap();
    let response = client.get(format!("{}{path}", park.management)).bearer_auth(token).send().await.unwrap();
    response.status()
}

/// Connections that have sent a request and do not read its response.
async fn unread(park: &Park, requests: usize, request: &str) -> Vec<TcpStream> {
    let address = park.management.strip_prefix("http://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..requests {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        connections.push(stream);
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_are_limited_and_end_with_their_caller() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let consent = json!({"permission": [{"action": "use", "duty": [{"action": "obtainConsent"}]}]});
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &consent).await;
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    let (id, token) = (asked["id"].as_str().unwrap(), b.token_of("requester").await);
    let path = format!("/v1/requests/{id}?wait=60");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let connections = unread(&b, 1_030, &request).await;
    // Those beyond the limit are answered, and wait no longer.
    let refused = async |wait: &str| {
        let client = crosspark::net::own_node_client().unwrap();
        let url = format!("{}/v1/requests/{id}?wait={wait}", b.management);
        client.get(url).bearer_auth(&token).send().await.unwrap()
    };
    let begun = Instant::now();
    while refused("60").await.status() != StatusCode::SERVICE_UNAVAILABLE {
        assert!(begun.elapsed() < Duration::from_secs(20), "all of them wait");
    }
    // Health, other tokens, and the same token without waiting.
    assert_eq!(status(&b, "/healthz", "").await, StatusCode::OK);
    assert_eq!(status(&b, "/readyz", "").await, StatusCode::OK);
    assert_eq!(status(&b, "/v1/status", &b.admin_token()).await, StatusCode::OK);
    assert_eq!(refused("0").await.status(), StatusCode::OK);
    // When the callers have hung up, their places are free at once.
    drop(connections);
    let begun = Instant::now();
    while refused("1").await.status() != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(10), "the places of callers that have gone are still taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run_a.stop();
    run_b.stop();
}

/// Uploads that stop inside their first or second part hold neither the publications of others nor the API.
#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_stop_nobody() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let slow = a.token_of("publisher").await;
    let metadata = json!({
        "title": "Slow", "schema": "urn:crosspark:schema:economic-indicator", "format": "ndjson",
        "policy": {"permission": [{"action": "use"}]},
    });
    let head = format!(
        "POST /v1/datasets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {slow}\r\ncontent-length: 100000000\r\n\
         content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"metadata\"\r\n\r\n"
    );
    let in_records =
        format!("{head}{metadata}\r\n--b\r\ncontent-disposition: form-data; name=\"records\"\r\n\r\n{{\"area\":\"A\",");
    let (mut first, second) = (unread(&a, 2, &head).await, unread(&a, 2, &in_records).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The same token has no more places: it is told so, with a time, after a while.
    let mut waiting = unread(&a, 1, &head).await.pop().unwrap();
    // Another publisher is not affected.
    let body = json!({"role": "publisher", "person": "Other", "days": 1});
    let (_, other) = a.call("POST", "/v1/tokens", &a.admin_token(), Some(body)).await;
    let (file, policy) = (a.folder.with_extension("records"), a.folder.with_extension("permit"));
    std::fs::write(&file, records(1_000)).unwrap();
    std::fs::write(&policy, metadata["policy"].to_string()).unwrap();
    let args = ["publish", text(&file), "--format", "ndjson", "--schema", "urn:crosspark:schema:economic-indicator"];
    let more = ["--policy", text(&policy), "--title", "Fast", "--node", &a.management, "--token"];
    let args = [&args[..], &more, &[other["secret"].as_str().unwrap()]].concat();
    let begun = Instant::now();
    for _ in 0..5 {
        tokio::task::block_in_place(|| good(&args));
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let mut answer = vec![0; 1_000];
    let length = tokio::time::timeout(Duration::from_secs(20), waiting.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after:"), "{answer}");
    // A place is free again when its upload is broken off.
    drop((first.pop(), second));
    let token = a.token_of("publisher").await;
    let args = [&args[..args.len() - 1], &[token.as_str()]].concat();
    tokio::task::block_in_place(|| good(&args));
    run.stop();
}
