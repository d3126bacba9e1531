//! Exchanges end to end, also with altered bytes and killed processes.

use crate::harness::*;
use serde_json::{Value, json};
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_file_arrives_with_every_value() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/economy-gdp.csv");
    let csv = std::fs::read_to_string(real).unwrap_or_else(|_| {
        eprintln!("skipped: data not present; generated data instead");
        let rows: String = (0..5_000).map(|i| format!("Area {i},A{i},2024,{}.{}\n", i * 7_919, 1 + i % 9)).collect();
        format!("Country Name,Country Code,Year,Value\n{rows}")
    });
    let renamed = csv.replacen("Country Name,Country Code,Year,Value", "area_name,area,period,value", 1);
    let (published, code) = a.publish("economic-indicator", &renamed, "csv", &research()).await;
    assert_eq!(code, 0, "{published}");
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(view["stage"], "verified", "{view}");

    let ndjson = b.data(&view, "ndjson").await;
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let mut count = 0;
    for (row, line) in rows.records().zip(ndjson.lines()) {
        let (row, record): (_, Value) = (row.unwrap(), serde_json::from_str(line).unwrap());
        assert_eq!(
            (&row[0], &row[1], &row[2]),
            (
                record["area_name"].as_str().unwrap(),
                record["area"].as_str().unwrap(),
                record["period"].as_str().unwrap()
            )
        );
        assert_eq!(row[3].parse::<f64>().unwrap(), record["value"].as_f64().unwrap());
        count += 1;
    }
    assert_eq!(count, ndjson.lines().count());
    assert_eq!(view["records"], count);

    // The same data as CSV.
    let back = b.data(&view, "csv").await;
    let mut back = csv::Reader::from_reader(back.as_bytes());
    let column = back.headers().unwrap().iter().position(|name| name == "value").unwrap();
    for (row, line) in back.records().zip(ndjson.lines()) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row.unwrap()[column].parse::<f64>().unwrap(), record["value"].as_f64().unwrap());
    }

    // By the command line; the file appears only when it is complete.
    let out = b.folder.with_extension("out.ndjson");
    let token = b.call("GET", "/v1/status", "wrong", None).await;
    assert_eq!(token.0, 401);
    std::fs::write(&out, "before").unwrap();
    let failed = crosspark(&[
        "fetch",
        view["id"].as_str().unwrap(),
        "--out",
        text(&out),
        "--node",
        &b.management,
        "--token",
        "wrong",
    ]);
    assert_eq!(failed.status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before");

    // The logs of both parks have the release, the receipt and the signatures of the other park.
    run_a.settle().await;
    run_b.settle().await;
    let kinds = |entries: &[Value]| {
        entries.iter().map(|row| row["entry"]["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (of_a, of_b) = (a.entries().await, b.entries().await);
    for (entries, needed) in [
        (&of_a, vec!["dataset.published", "negotiation.moved", "transfer.moved", "key.released", "receipt.received"]),
        (
            &of_b,
            vec![
                "negotiation.moved",
                "transfer.moved",
                "dataset.fetching",
                "key.requested",
                "dataset.received",
                "dataset.opened",
            ],
        ),
    ] {
        let kinds = kinds(entries);
        assert!(needed.iter().all(|kind| kinds.iter().any(|k| k == kind)), "{kinds:?}");
    }
    for entries in [&of_a, &of_b] {
        let both = entries.iter().any(|row| {
            let detail = &row["entry"]["detail"];
            detail["providerSignature"].is_string() && detail["consumerSignature"].is_string()
        });
        assert!(both);
    }
    // The person is in the consumer's log as a commitment with its opening, and is unknown to the provider.
    assert!(of_b.iter().any(|row| row["fields"][0]["value"] == "Li Hua"));
    assert!(
        !serde_json::to_string(&of_a[3..]).unwrap().contains("Li Hua")
            || of_a
                .iter()
                .all(|row| row["entry"]["parties"].as_array().is_none_or(Vec::is_empty) || row["fields"] == json!([]))
    );
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[&b]).0, 0);
    // The provider got no data from the consumer and holds no checkpoint of its log; the audit reports that.
    let (code, said) = b.verify(&[&a]);
    assert!(code == 1 && said.to_string().contains("nothing could be compared"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_records_publish_nothing_and_leave_nothing() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let mut bad = records(30_000);
    bad.push_str("{\"area\":\"Z\",\"period\":\"2024\",\"value\":\"seven\"}\n");
    bad.push_str("{\"area\":\"Z\",\"area\":\"Y\"}\n");
    let (rejection, code) = a.publish("economic-indicator", &bad, "ndjson", &research()).await;
    assert_eq!(code, 3);
    assert_eq!((&rejection["invalid"], &rejection["records"]), (&json!(2), &json!(30_002)));
    assert_eq!(
        rejection["first"][0],
        json!({"line": 30_001, "pointer": "/value", "rule": "type", "value": "seven",
               "reason": "\"seven\" is not of type \"number\""})
    );
    assert_eq!(rejection["first"][1]["rule"], "json");
    assert_eq!(a.get("publisher", "/v1/datasets").await["datasets"], json!([]));
    let left: Vec<_> = std::fs::read_dir(a.folder.join("blobs")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["parts"]);
    for (policy, part) in [
        (policy(&[("spatial", "eq", json!("CN"))]), "leftOperand"),
        (json!({"permission": [{"action": "use", "duty": [{"action": "compensate"}]}]}), "duty"),
    ] {
        let (said, code) = a.publish("economic-indicator", &records(1), "ndjson", &policy).await;
        assert_ne!(code, 0);
        assert!(said.to_string().contains(part), "{said}");
    }
    let (said, code) = a.publish("no-such-schema", &records(1), "ndjson", &research()).await;
    assert!(code == 3 && said.to_string().contains("it knows"), "{said}");
    // The publisher sees the name of a property that the schema does not know; the log never does, for it may be data.
    let unknown = "{\"area\":\"Z\",\"period\":\"2024\",\"value\":1,\"confidential\":1}\n";
    let (rejection, _) = a.publish("economic-indicator", unknown, "ndjson", &research()).await;
    assert_eq!(rejection["first"][0]["pointer"], "/confidential");
    let malformed = "{\"confidential\":1e999}\n";
    let (rejection, _) = a.publish("economic-indicator", malformed, "ndjson", &research()).await;
    assert_eq!(rejection["first"][0]["pointer"], "/confidential");
    let entries = a.entries().await;
    let refused: Vec<_> = entries.iter().filter(|row| row["entry"]["kind"] == "dataset.refused").collect();
    assert_eq!(refused[0]["entry"]["detail"]["line"], 30_001, "{}", refused[0]);
    assert!(!json!(entries).to_string().contains("confidential"));
    let (published, code) = a.publish("economic-indicator", &records(1), "ndjson", &research()).await;
    assert_eq!(code, 0, "{published}");
    run.stop();
    // As after a crash between writing the sealed bytes and the commit.
    let blobs = a.folder.join("blobs");
    std::fs::write(blobs.join("ab".repeat(32)), "sealed").unwrap();
    a.start().await.stop();
    let kept = blobs.join(published["container"].as_str().unwrap().trim_start_matches("sha256:"));
    assert!(kept.exists() && !blobs.join("ab".repeat(32)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_what_is_seen_agreed_and_released() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let hidden = policy(&[("recipient", "eq", json!("did:web:other.example"))]);
    a.publish("economic-indicator", &records(2), "ndjson", &hidden).await;
    let twice = policy(&[("count", "lteq", json!("1")), ("purpose", "eq", json!("research"))]);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &twice).await;
    let dataset = dataset_of(&published);
    let catalog = b.get("requester", &format!("/v1/catalog?peer={}", a.id)).await;
    let seen: Vec<&str> =
        catalog["datasets"].as_array().unwrap().iter().map(|d| d["dataset"].as_str().unwrap()).collect();
    assert_eq!(seen, [dataset]);

    let refused = b.request(&a, dataset, "advertising").await;
    assert_eq!(refused["stage"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("advertising"));
    let rule = |entries: &[Value]| {
        entries.iter().rev().find(|row| row["entry"]["decision"] == "refused").map(|row| row["entry"]["rule"].clone())
    };
    assert_eq!(rule(&a.entries().await), Some(json!("/permission/0/constraint/1")));
    let granted = b.request(&a, dataset, "research").await;
    assert_eq!(granted["stage"], "verified", "{granted}");
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

/// One byte of the provider's blob is altered: the consumer detects it before it requests the key.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_container_is_rejected_and_named() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(5_000), "ndjson", &research()).await;
    let blob = a.folder.join("blobs").join(published["container"].as_str().unwrap().trim_start_matches("sha256:"));
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(view["stage"], "refused", "{view}");
    assert!(view["reason"].as_str().unwrap().contains("sealed bytes have the digest"), "{view}");
    run_a.settle().await;
    run_b.settle().await;
    assert!(b.entries().await.iter().any(|row| row["entry"]["kind"] == "dataset.rejected"));
    assert!(!a.entries().await.iter().any(|row| row["entry"]["kind"] == "key.released"));
    let left: Vec<_> = std::fs::read_dir(b.folder.join("received")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["parts"], "the rejected bytes are gone");
    run_a.stop();
    run_b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_log_is_found_by_what_the_peer_holds() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    // The next checkpoint is signed automatically, ten seconds after the last one.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(view["stage"], "verified");
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
    let database = a.folder.join("state.db");
    let tamper = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    // The text of an entry is altered in the database only.
    tamper(
        "UPDATE entry SET body = replace(body, 'research', 'marketing') WHERE n = (SELECT MIN(n) FROM entry WHERE body LIKE '%research%')",
    );
    let (code, report) = a.verify(&[&b]);
    assert_eq!(code, 4);
    assert_eq!(report["faults"][0]["artifact"], "entry", "{report}");
    tamper("UPDATE entry SET body = replace(body, 'marketing', 'research')");
    assert_eq!(a.verify(&[&b]).0, 0);
    // The park withholds its newest entries and their checkpoint, but the peer's checkpoint proves that they exist.
    tamper("DELETE FROM field; DELETE FROM entry WHERE n >= 3; DELETE FROM checkpoint; UPDATE head SET size = 3");
    let (code, report) = a.verify(&[&b]);
    assert_eq!(code, 4);
    assert!(report.to_string().contains("entries were removed"), "{report}");
}

/// Each node is killed several times during a delivery, which continues where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_goes_on() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (mut run_a, mut run_b) = (a.start().await, b.start().await);
    let text = (0..120_000)
        .map(|i| {
            format!("{{\"area\":\"A{i}\",\"note\":\"{:x}\",\"period\":\"2024\",\"value\":{i}}}\n", (i as u128).pow(5))
        })
        .collect::<String>();
    let once = policy(&[("count", "lteq", json!("1"))]);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &once).await;
    let view = b.begin_request(&a, dataset_of(&published), "research").await;
    for round in 0..6u64 {
        tokio::time::sleep(std::time::Duration::from_millis(15 + round * 12)).await;
        if round % 2 == 0 {
            run_b.kill();
            run_b = b.start().await;
        } else {
            run_a.kill();
            run_a = a.start().await;
        }
    }
    let end = b.wait(&view, 60).await;
    assert_eq!(end["stage"], "verified", "{end} {}", b.log());
    assert_eq!(b.data(&end, "ndjson").await, text);
    run_a.settle().await;
    run_b.settle().await;
    let released = a.entries().await.iter().filter(|row| row["entry"]["kind"] == "key.released").count();
    assert_eq!(released, 1, "counted once");
    run_a.stop();
    run_b.stop();
}

/// Two people of one park request the same dataset concurrently: the deliveries do not interfere.
#[tokio::test(flavor = "multi_thread")]
async fn two_requests_for_one_dataset_at_once() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text = records(60_000);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    let ends = tokio::join!(
        b.request(&a, dataset, "research"),
        b.request(&a, dataset, "research"),
        b.request(&a, dataset, "planning")
    );
    for end in [ends.0, ends.1, ends.2] {
        assert_eq!(end["stage"], "verified", "{end}");
        assert_eq!(b.data(&end, "ndjson").await, text);
    }
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

/// The same container, delivered again, is stored once; if the stored bytes are damaged, it is fetched again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_container_is_stored_once() {
    use std::os::unix::fs::MetadataExt;
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text = records(1_000);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &research()).await;
    let file = |view: &Value| b.folder.join("received").join(view["holding"].as_str().unwrap());
    let inode = |view: &Value| std::fs::metadata(file(view)).unwrap().ino();
    let mut views = Vec::new();
    for _ in 0..3 {
        let view = b.request(&a, dataset_of(&published), "research").await;
        assert_eq!(b.data(&view, "ndjson").await, text);
        views.push(view);
    }
    // Requests at the same time, too.
    let dataset = dataset_of(&published);
    views.extend(futures_util::future::join_all((0..6).map(|_| b.request(&a, dataset, "research"))).await);
    assert!(views.iter().all(|view| view["stage"] == "verified" && inode(view) == inode(&views[0])), "{views:?}");
    let mut bytes = std::fs::read(file(&views[0])).unwrap();
    bytes[100] ^= 1;
    std::fs::write(file(&views[0]), bytes).unwrap();
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(b.data(&view, "ndjson").await, text);
    assert_ne!(inode(&view), inode(&views[0]));
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

/// A caller that disconnects at once loses the response, but its request is still carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_stops_nothing() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    alliance.command("renew", &a);
    let client = a.client(&alliance, b.identity());
    // The valid next register, sent repeatedly without waiting for the response.
    for _ in 0..20 {
        let request = client.post(format!("{}/register", a.endpoint)).body(alliance.register());
        let _ = request.timeout(std::time::Duration::from_micros(1_500)).send().await;
    }
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(end["stage"], "verified", "{end} {}", a.log());
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}
