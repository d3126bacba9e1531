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

/// A member that is refused again and again, and one that sends much: the log does not grow with it, the counts are in it.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_one_kind_are_summed() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let configuration = a.folder.join("crosspark.toml");
    let original = std::fs::read_to_string(&configuration).unwrap();
    assert!(original.contains("stored_mib_per_member_per_day = 256"), "{original}");
    std::fs::write(&configuration, original.replace("per_day = 256", "per_day = 1")).unwrap();
    let run = a.start().await;
    let client = a.client(&alliance, b.identity());
    let url = format!("{}/dsp/2025-1/transfers/urn:uuid:00000000-0000-4000-8000-000000000000", a.endpoint);
    let mut promised = 0;
    for _ in 0..300 {
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        promised += usize::from(response.headers().contains_key("crosspark-promise"));
    }
    // Two minutes at most have begun.
    let entries = a.entries().await;
    let own = entries.iter().filter(|row| row["entry"]["kind"] == "access.refused").count();
    assert!((20..=40).contains(&own) && promised == own, "{own} {promised}");
    let counted = entries.iter().filter(|row| row["entry"]["kind"] == "refusals.counted");
    let counts = counted.filter(|row| row["entry"]["parties"] == json!([b.id]));
    let counts: u64 = counts.filter_map(|row| row["entry"]["detail"]["access.refused: not-found"].as_u64()).sum();
    assert_eq!(counts as usize + own, 300);

    // The quota of bytes: a message that is refused costs what it is long.
    let message = json!({"@context": [CONTEXT], "@type": "ContractRequestMessage", "padding": "x".repeat(400_000)});
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let sent = client.post(format!("{}/dsp/2025-1/negotiations/request", a.endpoint)).json(&message);
        statuses.push(sent.send().await.unwrap().status().as_u16());
    }
    assert_eq!((statuses[0], statuses[3]), (400, 429), "{statuses:?}");
    assert!(std::fs::metadata(a.folder.join("state.db")).unwrap().len() < 2 << 20);
    run.stop();
}

/// Revoking all administrators' tokens at the same time leaves one; secrets are not cached; files are the owner's only.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_remains_and_nothing_is_left_open() {
    use std::os::unix::fs::PermissionsExt;
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run, run_b) = (a.start().await, b.start().await);
    let client = crosspark::net::own_node_client().unwrap();
    // Each administrator revokes their own token, all at the same time.
    let mut secrets = vec![a.admin_token()];
    for _ in 0..7 {
        let request = client.post(format!("{}/v1/tokens", a.management)).bearer_auth(a.admin_token());
        let response = request.json(&json!({"role": "admin", "person": "x", "days": 1})).send().await.unwrap();
        let caching = response.headers()["cache-control"].clone();
        assert_eq!((response.status(), caching.to_str().unwrap()), (StatusCode::CREATED, "no-store"));
        let created: serde_json::Value = response.json().await.unwrap();
        secrets.push(created["secret"].as_str().unwrap().to_owned());
    }
    for role in ["requester", "publisher", "auditor"] {
        a.token_of(role).await;
    }
    let all = a.get("admin", "/v1/tokens").await["tokens"].as_array().unwrap().clone();
    let admins = all.iter().filter(|token| token["role"] == "admin").map(|token| token["id"].as_str().unwrap());
    // Which secret belongs to which id does not matter: every id is revoked, by some administrator.
    let revoke = admins.zip(&secrets).map(|(id, secret)| {
        let request = client.delete(format!("{}/v1/tokens/{id}", a.management)).bearer_auth(secret);
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let statuses = futures_util::future::join_all(revoke).await;
    let database = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
    let sql = "SELECT count(*) FROM token WHERE revoked = 0 AND json_extract(body, '$.role') = 'admin'";
    let left: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(left >= 1 && statuses.contains(&204), "{left}: {statuses:?}");

    let (published, _) = b.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    assert_eq!(a.request(&b, dataset_of(&published), "research").await["stage"], "verified");
    let mut folders = vec![a.folder.clone(), b.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            }
        }
    }
    run_b.settle().await;
    run.stop();
    run_b.stop();
}

/// The folder of a node that was killed: its last entries are not covered yet, which is no tampering.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_not_a_forger() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    for _ in 0..20 {
        a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    }
    run.kill();
    let (code, report) = a.verify(&[]);
    assert!(code == 5 || code == 0, "{code} {report}");
    // What was altered is still found.
    let database = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
    database.execute("UPDATE entry SET body = replace(body, 'dataset.published', 'dataset.withdrawn')", []).unwrap();
    drop(database);
    assert_eq!(a.verify(&[]).0, 4);
}
