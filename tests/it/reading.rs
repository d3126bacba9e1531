//! What was delivered is read where people work: by pandas, polars, DuckDB and spreadsheets.

use crate::harness::*;
use crate::schemas::at;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECORDS: [&str; 2] = [
    r#"{"count":3,"day":"2024-03-05","free":true,"name":"甲, 007","seen":"2024-03-05T09:07:00Z","size":1.5,"tags":["x","y"]}"#,
    r#"{"count":-5,"free":false,"name":"=1+1"}"#,
];

fn schema(id: &str) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": id, "x-version": "1.0.0", "type": "object",
        "properties": {
            "name": {"type": "string"}, "count": {"type": "integer"}, "size": {"type": "number"},
            "free": {"type": "boolean"}, "day": {"type": "string", "format": "date"},
            "seen": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"type": "string"}}, "never": {"type": "string"},
        },
        "required": ["name"], "additionalProperties": false,
    })
}

/// A Python that has what the script needs.
fn python() -> Option<PathBuf> {
    let needs = "import pandas, pyarrow, polars, duckdb, openpyxl";
    let has =
        |python: &PathBuf| Command::new(python).args(["-c", needs]).output().is_ok_and(|ran| ran.status.success());
    ["target/contracts/bin/python", "python3"].map(PathBuf::from).into_iter().find(has)
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_records_are_read_where_people_work() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let id = format!("{}/sizes", a.id);
    std::fs::write(path("schema.json"), schema(&id).to_string()).unwrap();
    std::fs::write(path("policy.json"), research().to_string()).unwrap();
    at(&a, "publisher", &["schema", "add", text(&path("schema.json")), "--unfinished"]).await.unwrap();
    let publish = async |records: &[&str], more: &[&str]| {
        std::fs::write(path("data.ndjson"), records.join("\n")).unwrap();
        let (file, terms) = (path("data.ndjson"), path("policy.json"));
        let args = ["publish", text(&file), "--schema", &id, "--policy", text(&terms), "--title", "Sizes"];
        at(&a, "publisher", &[&args[..], more].concat()).await.unwrap()
    };
    let published = publish(&RECORDS[..1], &[]).await;
    let dataset = dataset_of(&published).to_owned();
    let first = b.request(&a, &dataset, "research").await;
    assert_eq!(first["stage"], "verified", "{first}");
    publish(&RECORDS, &["--dataset", &dataset]).await;
    let view = b.request(&a, &dataset, "research").await;
    assert_eq!((&view["stage"], &view["version"]), (&json!("verified"), &json!(2)), "{view}");

    let request = view["id"].as_str().unwrap();
    for (file, more) in [
        ("all.csv", &["--bom", "--raw"][..]),
        ("all.xlsx", &[]),
        ("all.parquet", &[]),
        ("all.json", &[]),
        ("some.csv", &["--columns", "size,name", "--where", "count<0"]),
        ("filled.csv", &["--skip-empty"]),
        ("page.ndjson", &["--offset", "1", "--limit", "1"]),
    ] {
        at(&b, "requester", &[&["fetch", request, "--out", text(&path(file))][..], more].concat()).await.unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert!(read("all.csv").starts_with("\u{FEFF}count,day,free,name,never,seen,size,tags\r\n"));
    assert_eq!(read("some.csv"), "size,name\r\n,'=1+1\r\n");
    assert!(read("filled.csv").starts_with("count,day,free,name,seen,size,tags\r\n"));
    assert_eq!(read("page.ndjson"), format!("{}\n", RECORDS[1]));
    assert_eq!(serde_json::from_str::<Value>(&read("all.json")).unwrap()[1]["count"], -5);

    // Others of the same park see nothing, and each reading is logged.
    let token = b.token_of("requester").await;
    let latest = format!("/v1/datasets/{}/latest.json", dataset);
    let (status, rows) = b.call("GET", &latest, &token, None).await;
    assert_eq!((status, rows.as_array().unwrap().len()), (200, 2), "the newest version: {rows}");
    let opened = async || b.entries().await.iter().filter(|entry| entry["entry"]["kind"] == "dataset.opened").count();
    let before = opened().await;
    assert!(before >= 7, "each reading is an entry");
    for (query, status) in [("?columns=nothing", 400), ("?where=count", 400), ("?limit=x", 400), ("?format=csv", 400)] {
        let (found, answer) = b.call("GET", &format!("{latest}{query}"), &token, None).await;
        assert_eq!(found, status, "{query}: {answer}");
    }
    // What a format cannot hold is told before anything is sent, and is in no log line.
    let big = publish(&[r#"{"count":123456789000000000000,"name":"big"}"#], &[]).await;
    let big = b.request(&a, dataset_of(&big), "research").await;
    let path_of_big = format!("/v1/requests/{}/data?format=parquet", big["id"].as_str().unwrap());
    let (status, refused) = b.call("GET", &path_of_big, &token, None).await;
    assert_eq!((status, refused["title"].as_str()), (400, Some("export")), "{refused}");
    assert!(
        refused["detail"].as_str().unwrap().contains("`123456789000000000000` is not a 64-bit integer"),
        "{refused}"
    );
    assert!(b.log().contains("an export ended early") && !b.log().contains("123456789"));
    let other = b.token_of("publisher").await;
    assert_eq!(b.call("GET", &latest, &other, None).await.0, 403);
    assert!(opened().await >= before);

    match python() {
        None => println!("skipped: pip install pandas pyarrow polars duckdb openpyxl"),
        Some(python) => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let files = ["all.xlsx", "all.csv", "all.parquet"].map(path);
            let ran = Command::new(python)
                .arg(root.join("tests/files/read.py"))
                .arg(&dataset)
                .args(&files)
                .env("PYTHONPATH", root.join("examples/python"))
                .env("CROSSPARK_NODE", &b.management)
                .env("CROSSPARK_TOKEN", &token)
                .output()
                .unwrap();
            let (out, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            assert_eq!(out.trim(), "same", "{told}");
        }
    }
    run_a.stop();
    run_b.stop();
}

/// Each new version is requested for the same purpose and written in place of the one before; a refusal ends it.
#[tokio::test(flavor = "multi_thread")]
async fn new_versions_are_followed() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("policy.json"), research().to_string()).unwrap();
    let publish = async |areas: &[(&str, f64)], more: &[&str]| {
        let record = |(area, value): &(&str, f64)| {
            json!({"indicator": "GDP", "area": area, "period": "2024", "value": value}).to_string()
        };
        let (file, terms) = (path("data.ndjson"), path("policy.json"));
        std::fs::write(&file, areas.iter().map(record).collect::<Vec<_>>().join("\n")).unwrap();
        let schema = "urn:crosspark:schema:economic-indicator";
        let args = ["publish", text(&file), "--schema", schema, "--policy", text(&terms), "--title", "GDP"];
        at(&a, "publisher", &[&args[..], more].concat()).await.unwrap()
    };
    let published = publish(&[("CHN", 1.0), ("DEU", 2.0), ("FRA", 3.0)], &[]).await;
    assert_eq!(published.get("changes"), None);
    let dataset = dataset_of(&published).to_owned();
    let view = b.request(&a, &dataset, "research").await;
    let (token, out) = (b.token_of("requester").await, path("gdp.csv"));
    let request = view["id"].as_str().unwrap();
    let begin = || {
        let args =
            ["fetch", request, "--follow", "--every", "1", "--out", text(&out), "--node", &b.management, "--json"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosspark"));
        command.args(args).env("CROSSPARK_TOKEN", &token);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let lines = async |count: usize| {
        for _ in 0..300 {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            if text.lines().count() == count {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("no file with {count} lines")
    };
    let mut following = begin();
    assert!(lines(4).await.contains("FRA"));
    let published = publish(&[("CHN", 1.5), ("DEU", 2.0), ("ITA", 4.0), ("JPN", 5.0)], &["--dataset", &dataset]).await;
    assert_eq!(published["changes"], json!({"since": 1, "added": 2, "removed": 1, "changed": 1}));
    let text = lines(5).await;
    assert!(text.contains("ITA") && !text.contains("FRA"), "{text}");
    following.kill().unwrap();
    following.wait().unwrap();

    // It begins with the newest version that was delivered, without another release, and goes on.
    std::fs::remove_file(&out).unwrap();
    let released = || a.entries();
    let before = released().await.iter().filter(|entry| entry["entry"]["kind"] == "key.released").count();
    assert!(before >= 2, "each version has a release of its own");
    let following = begin();
    lines(5).await;
    assert_eq!(released().await.iter().filter(|entry| entry["entry"]["kind"] == "key.released").count(), before);
    // A version whose policy permits another purpose only ends it; the file stays.
    std::fs::write(path("policy.json"), policy(&[("purpose", "eq", json!("planning"))]).to_string()).unwrap();
    publish(&[("CHN", 9.0)], &["--dataset", &dataset]).await;
    let ended = following.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(lines(5).await.contains("ITA"));
    run_a.stop();
    run_b.stop();
}
