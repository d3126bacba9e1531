//! Schemas that come from parks and from the alliance: published, fetched, adopted, grown, deprecated.

use crate::harness::*;
use crosspark::dataset::manifest::Manifest;
use crosspark::identity::document;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rents of flats, as a park might describe them.
pub fn rents(id: &str, version: &str, rent: Value) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": id, "x-version": version,
        "title": "Rents", "description": "Rents of flats for talents.",
        "x-zh": {"title": "租金", "description": "人才公寓租金。"},
        "type": "object", "additionalProperties": false, "required": ["flat", "rent"], "x-key": ["flat"],
        "properties": {
            "flat": {
                "title": "Flat", "description": "Number of the flat.", "x-zh": {"title": "房号", "description": "公寓编号。"},
                "type": "string", "maxLength": 20, "examples": ["A-101"]
            },
            "rent": rent,
        },
    })
}

pub fn yuan(extra: Value) -> Value {
    let mut rent = json!({
        "title": "Rent", "description": "Rent in a month.", "x-zh": {"title": "月租", "description": "每月租金。"},
        "x-unit": "CNY", "type": "number", "minimum": 0, "maximum": 100_000, "examples": [4200.5]
    });
    rent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    rent
}

pub fn write(folder: &Path, name: &str, value: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
    path
}

/// Runs a command at a node: its JSON if it succeeds, what it says if it does not.
pub async fn at(park: &Park, role: &str, args: &[&str]) -> Result<Value, String> {
    let token = if role == "admin" { park.admin_token() } else { park.token_of(role).await };
    let output = crosspark(&[args, &["--node", &park.management, "--token", &token, "--json"]].concat());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

pub async fn publish(park: &Park, schema: &str, records: &str, more: &[&str]) -> Result<Value, String> {
    let (file, terms) = (park.folder.with_extension("ndjson"), park.folder.with_extension("policy"));
    std::fs::write(&file, records).unwrap();
    std::fs::write(&terms, research().to_string()).unwrap();
    let args = ["publish", text(&file), "--schema", schema, "--policy", text(&terms), "--title", "Rents"];
    at(park, "publisher", &[&args[..], more].concat()).await
}

pub fn operator(alliance: &Alliance, args: &[&str]) -> Result<Value, String> {
    let folder = alliance.path();
    let output = crosspark(&[&["alliance", "schema", args[0], text(&folder)], &args[1..], &["--json"]].concat());
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The entry of a schema in a node's list.
pub async fn listed(park: &Park, id: &str, version: &str) -> Value {
    let all = park.get("auditor", "/v1/schemas").await;
    let found = all["schemas"].as_array().unwrap().iter().find(|one| one["id"] == id && one["version"] == version);
    found.cloned().unwrap_or_default()
}

async fn deliver(from: &Park, to: &Park, published: &Value, records: &str) {
    let view = to.request(from, dataset_of(published), "research").await;
    assert_eq!(view["stage"], "verified", "{view}");
    let got = to.data(&view, "ndjson").await;
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    assert_eq!(lines(&got), lines(records));
}

/// One park publishes a schema of its own and data under it; another one receives both. The alliance adopts the schema,
/// a minor version follows, a breaking one is refused without a word, a deprecated one is told.
#[tokio::test(flavor = "multi_thread")]
async fn from_one_park_to_the_alliance() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let folder = alliance.folder.path();
    let id = format!("{}/rents", a.id);
    let first = write(folder, "rents.json", &rents(&id, "1.0.0", yuan(json!({}))));
    let records = "{\"flat\":\"A-101\",\"rent\":4200.5}\n{\"flat\":\"A-102\",\"rent\":3900}\n";

    // Nobody else's namespace, and no data before the schema. A refusal is logged.
    let foreign = write(folder, "foreign.json", &rents(&format!("{}/rents", b.id), "1.0.0", yuan(json!({}))));
    let refused = at(&a, "publisher", &["schema", "add", text(&foreign)]).await.unwrap_err();
    assert!(refused.contains(&format!("begins with {}/", a.id)), "{refused}");
    let refused = publish(&a, &id, records, &[]).await.unwrap_err();
    assert!(refused.contains("there is no schema"), "{refused}");
    let added = at(&a, "publisher", &["schema", "add", text(&first)]).await.unwrap();
    assert_eq!((&added["id"], &added["advice"]), (&json!(id), &json!([])), "{added}");
    assert_eq!(at(&a, "publisher", &["schema", "add", text(&first)]).await.unwrap()["digest"], added["digest"]);
    let here = listed(&a, &id, "1.0.0").await;
    assert_eq!((&here["of"], &here["owner"], &here["title"]), (&json!("park"), &json!(a.id), &json!("Rents / 租金")));

    // The other park lacks it until it receives data under it.
    let published = publish(&a, &id, records, &[]).await.unwrap();
    assert_eq!(listed(&b, &id, "1.0.0").await, Value::Null);
    deliver(&a, &b, &published, records).await;
    assert_eq!(listed(&b, &id, "1.0.0").await["of"], "park");
    let shown = at(&b, "requester", &["schema", "show", &id]).await.unwrap();
    assert_eq!(shown["properties"]["rent"]["x-unit"], "CNY");
    let refused = publish(&b, &id, records, &[]).await.unwrap_err();
    assert!(refused.contains("only that park publishes under it"), "{refused}");

    // The alliance adopts it: the same digest, so that its datasets stay what they are.
    let proposal = folder.join("proposal.json");
    at(&a, "publisher", &["schema", "propose", &id, "--out", text(&proposal)]).await.unwrap();
    let adopted = operator(&alliance, &["add", text(&proposal)]).unwrap();
    assert_eq!((&adopted["added"], &adopted["digest"]), (&json!(true), &added["digest"]));
    assert_eq!(operator(&alliance, &["add", text(&proposal)]).unwrap()["added"], false);
    for park in [&a, &b] {
        at(park, "admin", &["members", "install", text(&alliance.path())]).await.unwrap();
        let here = listed(park, &id, "1.0.0").await;
        assert_eq!((&here["of"], &here["owner"]), (&json!("alliance"), &json!(a.id)));
    }
    let by_b = publish(&b, &id, records, &[]).await.unwrap();
    deliver(&b, &a, &by_b, records).await;

    // A minor version accepts more; what may refuse records needs a larger major version and the word.
    let propose = async |version: &str| {
        let (name, file) = (format!("{id}@{version}"), folder.join(format!("{version}.proposal")));
        at(&a, "publisher", &["schema", "propose", &name, "--out", text(&file)]).await.unwrap();
        file
    };
    let wider = write(folder, "wider.json", &rents(&id, "1.1.0", yuan(json!({"maximum": 200_000}))));
    let refused = operator(&alliance, &["add", text(&wider)]).unwrap_err();
    assert!(refused.contains("is in the namespace of"), "{refused}");
    at(&a, "publisher", &["schema", "add", text(&wider)]).await.unwrap();
    operator(&alliance, &["add", text(&propose("1.1.0").await)]).unwrap();
    let other = write(folder, "other.json", &rents(&id, "1.1.0", yuan(json!({"maximum": 300_000}))));
    let refused = at(&a, "publisher", &["schema", "add", text(&other)]).await.unwrap_err();
    assert!(refused.contains("1.1.0 exists with other content"), "{refused}");
    let narrow = |version: &str| write(folder, version, &rents(&id, version, yuan(json!({"maximum": 10_000}))));
    let refused = at(&a, "publisher", &["schema", "add", text(&narrow("1.2.0"))]).await.unwrap_err();
    assert!(refused.contains("this is version 2.0.0") && refused.contains("/properties/rent"), "{refused}");
    let refused = at(&a, "publisher", &["schema", "add", text(&narrow("2.0.0"))]).await.unwrap_err();
    assert!(refused.contains("--breaking"), "{refused}");
    at(&a, "publisher", &["schema", "add", text(&narrow("2.0.0")), "--breaking"]).await.unwrap();
    let file = propose("2.0.0").await;
    assert!(operator(&alliance, &["add", text(&file)]).unwrap_err().contains("--breaking"));
    operator(&alliance, &["add", text(&file), "--breaking"]).unwrap();

    // From a certain time on, no more data is published under the first version; until then publishers are told.
    operator(&alliance, &["deprecate", &id, "--version", "1.0.0", "--until", "2020-01-01"]).unwrap();
    operator(&alliance, &["deprecate", &id, "--version", "1.1.0", "--until", "2099-01-01"]).unwrap();
    for park in [&a, &b] {
        at(park, "admin", &["members", "install", text(&alliance.path())]).await.unwrap();
        assert_eq!(listed(park, &id, "2.0.0").await["title"], "Rents / 租金", "brought by the operator's folder");
    }
    let refused = publish(&a, &format!("{id}@1.0.0"), records, &[]).await.unwrap_err();
    assert!(refused.contains("is deprecated"), "{refused}");
    let told = publish(&a, &format!("{id}@1.1.0"), records, &[]).await.unwrap();
    assert!(told["remarks"][0].as_str().unwrap().contains("from 2099-01-01"), "{told}");
    assert_eq!(publish(&a, &id, records, &[]).await.unwrap()["remarks"], json!([]), "2.0.0 is the newest");
    deliver(&a, &b, &published, records).await;

    let kinds: Vec<Value> = b.entries().await.into_iter().map(|row| row["entry"]["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "schema.kept").count(), 3, "{kinds:?}");
    let refused = a.entries().await.into_iter().filter(|row| row["entry"]["kind"] == "schema.refused").count();
    assert_eq!(refused, 4, "what this park's publisher was refused");
    run_a.stop();
    run_b.stop();
}

/// A schema that the register lists comes from a peer, without anybody's act.
#[tokio::test(flavor = "multi_thread")]
async fn shared_schemas_come_by_themselves() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let folder = alliance.folder.path();
    let file = write(folder, "rents.json", &rents("urn:example:rents", "1.0.0", yuan(json!({}))));
    operator(&alliance, &["add", text(&file), "--owner", &a.id]).unwrap();
    at(&a, "admin", &["members", "install", text(&alliance.path())]).await.unwrap();
    // The other park gets only the register.
    let register = alliance.path().join("register.jws");
    at(&b, "admin", &["members", "install", text(&register)]).await.unwrap();
    for _ in 0..600 {
        if listed(&b, "urn:example:rents", "1.0.0").await["title"] == "Rents / 租金" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(listed(&b, "urn:example:rents", "1.0.0").await["title"], "Rents / 租金", "{}", b.log());
    // The text is the one that was added, in its order.
    let identity = b.identity();
    let digest = listed(&b, "urn:example:rents", "1.0.0").await["digest"].as_str().unwrap().to_owned();
    let got = a.client(&alliance, identity).get(format!("{}/schemas/{digest}", a.endpoint)).send().await.unwrap();
    assert_eq!(got.headers()["content-type"], "application/schema+json");
    assert_eq!(got.text().await.unwrap(), std::fs::read_to_string(&file).unwrap());
    // What the register does not list is not kept.
    let other = rents("urn:example:other", "1.0.0", yuan(json!({})));
    let (status, said) = a.call("POST", "/v1/schemas/shared", &a.admin_token(), Some(other)).await;
    assert_eq!((status, said["title"].as_str()), (400, Some("schema")), "{said}");
    run_a.stop();
    run_b.stop();
}

/// From a file alone: its schema is inferred, published with it, and another park receives both.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_schema_and_data() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let shared = Path::new("../shared/data/economy-gdp.csv");
    let mut files = vec![(
        "flats",
        "房号,月租（元）,面积（平方米）,Move-in date,入住\nA-101,4200.5,56,2026-01-05,true\nA-102,3900,48.5,,false\n"
            .to_owned(),
        json!(["room"]),
    )];
    match std::fs::read_to_string(shared) {
        Ok(text) => files.push(("gdp", text, json!(["country_name", "country_code", "year"]))),
        Err(_) => println!("skipped: no {}", shared.display()),
    }
    for (name, text_, key) in files {
        let (csv, proposed) = (a.folder.with_extension("csv"), a.folder.with_extension("schema.json"));
        std::fs::write(&csv, &text_).unwrap();
        let id = format!("{}/{name}", a.id);
        let inferred = crosspark(&["schema", "infer", text(&csv), "--id", &id, "--title", name]);
        let said = String::from_utf8_lossy(&inferred.stderr).into_owned();
        assert!(inferred.status.success() && said.contains("are valid under it"), "{said}");
        std::fs::write(&proposed, &inferred.stdout).unwrap();
        let schema: Value = serde_json::from_slice(&inferred.stdout).unwrap();
        assert_eq!(schema["x-key"], key, "{schema}");
        let refused = at(&a, "publisher", &["schema", "add", text(&proposed)]).await.unwrap_err();
        assert!(refused.contains("shortcomings"), "{refused}");
        at(&a, "publisher", &["schema", "add", text(&proposed), "--unfinished"]).await.unwrap();
        let terms = write(alliance.folder.path(), "terms", &research());
        let args = ["publish", text(&csv), "--schema", &id, "--policy", text(&terms), "--title", name];
        let published = at(&a, "publisher", &args).await.unwrap();
        let view = b.request(&a, dataset_of(&published), "research").await;
        assert_eq!((&view["stage"], &view["records"]), (&json!("verified"), &published["records"]), "{view}");
        let got = b.data(&view, "ndjson").await;
        assert_eq!(got.lines().count(), text_.trim_end().lines().count() - 1);
        let first: Value = serde_json::from_str(got.lines().next().unwrap()).unwrap();
        let first = match name {
            "flats" => (
                first
                    == json!({"room": "A-101", "rent": 4200.5, "area_m2": 56, "move_in_date": "2026-01-05", "field_5": true}),
                first,
            ),
            _ => (first["country_code"].is_string() && first["year"].is_i64() && first["value"].is_number(), first),
        };
        assert!(first.0, "{}", first.1);
    }
    run_a.stop();
    run_b.stop();
}

/// The valid records of a file are published without the others, which everyone who sees the dataset reads; the rejects
/// are mended and published, too. What the fields have is in manifest, catalog and search, and counted again.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_records_are_left_out_and_told() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let schema = "urn:crosspark:schema:economic-indicator";
    let line = |n: usize| {
        format!("GDP,A{n},20{:02},{}\n", n % 25, if n.is_multiple_of(10) { "n/a".into() } else { n.to_string() })
    };
    let csv = "指标,area,period,value\n".to_owned() + &(0..100).map(line).collect::<String>();
    let (file, terms) = (a.folder.with_extension("csv"), write(alliance.folder.path(), "terms", &research()));
    std::fs::write(&file, &csv).unwrap();
    let publish = |file: PathBuf| {
        let (terms, park) = (terms.clone(), &a);
        async move {
            let args = ["publish", text(&file), "--schema", schema, "--policy", text(&terms), "--title", "GDP"];
            let more = ["--skip-invalid", "--quality", "bounds"];
            at(park, "publisher", &[&args[..], &more].concat()).await.unwrap()
        }
    };
    let published = publish(file.clone()).await;
    assert_eq!(published["records"], 90);
    let rejects = a.folder.with_extension("rejects.csv");
    let left_out = std::fs::read_to_string(&rejects).unwrap();
    assert_eq!(left_out.lines().count(), 11, "{left_out}");
    assert!(left_out.lines().nth(1).unwrap().starts_with("GDP,A0,2000,n/a,\"/value: "), "{left_out}");
    let again = crosspark(&[
        "publish",
        text(&file),
        "--schema",
        schema,
        "--policy",
        text(&terms),
        "--title",
        "x",
        "--skip-invalid",
        "--node",
        &a.management,
        "--token",
        &a.token_of("publisher").await,
    ]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--rejects"), "rejects are never overwritten");

    // Its search index is read when it starts.
    let run_b = b.start().await;
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!((&view["stage"], &view["records"]), (&json!("verified"), &json!(90)), "{view}");
    let catalog = b.get("requester", &format!("/v1/catalog?peer={}", a.id)).await;
    let quality = &catalog["datasets"][0]["quality"];
    assert_eq!(quality["skipped"], 10, "{catalog}");
    let field =
        |name: &str| quality["fields"].as_array().unwrap().iter().find(|one| one["field"] == name).cloned().unwrap();
    assert_eq!(field("indicator"), json!({"field": "indicator", "present": 90, "distinct": 1}));
    assert_eq!(field("value"), json!({"field": "value", "present": 90, "distinct": 90, "min": 1, "max": 99}));
    assert_eq!(field("note")["present"], 0);
    for _ in 0..200 {
        if b.get("requester", "/v1/search?q=gdp").await.to_string().contains("\"skipped\":10") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = crosspark(&["search", "gdp", "--node", &b.management, "--token", &b.token_of("requester").await]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("10 records left out as invalid") && said.contains("% filled"), "{said}");

    let mended = a.folder.with_extension("mended.csv");
    std::fs::write(&mended, left_out.replace(",n/a,", ",5,")).unwrap();
    let published = publish(mended).await;
    assert_eq!(published["records"], 10);
    assert!(!a.folder.with_extension("mended.rejects.csv").exists());
    run_a.stop();
    run_b.stop();
}

/// Exported contracts are what the tools of data teams read.
#[test]
fn contracts_are_of_the_standard() {
    let folder = tempfile::tempdir().unwrap();
    let has_tool =
        std::process::Command::new("datacontract").arg("--version").output().is_ok_and(|o| o.status.success());
    if !has_tool {
        println!("skipped: datacontract is not installed (pip install datacontract-cli)");
    }
    for name in ["enterprise", "economic-indicator", "training", "supply-component"] {
        let contract = good(&["schema", "export", name, "--odcs"]);
        let schema = good(&["schema", "show", name]);
        let properties = contract["schema"][0]["properties"].as_array().unwrap();
        assert_eq!(properties.len(), schema["properties"].as_object().unwrap().len());
        let keys = properties.iter().filter(|property| property["primaryKey"] == true).count();
        assert_eq!(keys, schema["x-key"].as_array().unwrap().len(), "{name}");
        if has_tool {
            let file = write(folder.path(), &format!("{name}.odcs.yaml"), &contract);
            let checked = std::process::Command::new("datacontract").args(["lint", text(&file)]).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert!(checked.status.success() && said.contains("valid against ODCS v3.1.0"), "{name}: {said}");
        }
    }
}

/// A manifest that names a schema but has the digest of another one is refused before the key is requested.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_named_in_three_ways_alike() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    run_a.stop();
    let database = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
    let body: String = database.query_row("SELECT body FROM version", [], |row| row.get(0)).unwrap();
    let mut row: Value = serde_json::from_str(&body).unwrap();
    let mut manifest = document::claimed::<Manifest>(row["manifest"].as_str().unwrap()).unwrap();
    manifest.schema.id = "urn:crosspark:schema:enterprise".into();
    let signed = document::sign(manifest, &a.document_key());
    (row["manifest"], row["manifest_digest"]) = (json!(signed.jws()), json!(signed.digest()));
    let sql = "UPDATE version SET manifest = ?1, body = ?2";
    database.execute(sql, [signed.digest().to_string(), row.to_string()]).unwrap();
    drop(database);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let view = b.request(&a, dataset_of(&published), "research").await;
    assert!(view["reason"].as_str().unwrap_or_default().contains("its digest is another schema's"), "{view}");
    let kinds: Vec<Value> = b.entries().await.into_iter().map(|row| row["entry"]["kind"].clone()).collect();
    assert!(!kinds.contains(&json!("key.requested")), "{kinds:?}");
    run_a.stop();
    run_b.stop();
}

/// A park's schema stays its own when the key that signed its statement has ended.
#[tokio::test(flavor = "multi_thread")]
async fn statements_outlive_their_keys() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let id = format!("{}/rents", a.id);
    let file = write(alliance.folder.path(), "rents.json", &rents(&id, "1.0.0", yuan(json!({}))));
    let records = "{\"flat\":\"A-101\",\"rent\":1}\n";
    let run_a = a.start().await;
    at(&a, "publisher", &["schema", "add", text(&file)]).await.unwrap();
    let published = publish(&a, &id, records, &[]).await.unwrap();
    run_a.stop();
    let (request, welcome, folder) =
        (a.folder.with_extension("rotation"), a.folder.with_extension("new"), alliance.path());
    good(&["node", "rotate", text(&a.folder), "--key", "document", "--out", text(&request)]);
    let rotate = ["alliance", "rotate", text(&folder), "--request", text(&request), "--welcome", text(&welcome)];
    good(&[&rotate[..], &["--overlap-days", "0"]].concat());
    good(&["node", "renew", text(&a.folder), "--welcome", text(&welcome)]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    for park in [&a, &b] {
        at(park, "admin", &["members", "install", text(&folder)]).await.unwrap();
    }
    deliver(&a, &b, &published, records).await;
    let proposal = alliance.folder.path().join("rents.proposal");
    at(&a, "publisher", &["schema", "propose", &id, "--out", text(&proposal)]).await.unwrap();
    assert_eq!(operator(&alliance, &["add", text(&proposal)]).unwrap()["added"], true);
    run_a.stop();
    run_b.stop();
}
