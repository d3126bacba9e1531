//! Sources: files that arrive in a folder, resources of a server, rows of databases, again and again.

use crate::harness::*;
use crate::schemas::at;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FIRMS: &str = "id,name,sector\nf1,One,IT\nf2,Two,IT\n";

/// Adds connections to the configuration of a node, and writes the policy that the sources use.
pub fn configure(park: &Park, connections: &str) {
    let config = park.folder.join("crosspark.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}\n{connections}")).unwrap();
    std::fs::write(park.folder.with_extension("policy"), research().to_string()).unwrap();
}

/// Defines a source by the command line.
pub async fn add(park: &Park, name: &str, input: &[&str]) -> Result<Value, String> {
    let policy = park.folder.with_extension("policy");
    let args = ["source", "add", name, "--schema", "urn:crosspark:schema:enterprise", "--title", "Firms"];
    at(park, "publisher", &[&args[..], &["--policy", text(&policy)], input].concat()).await
}

/// Runs a source now: what became of it, or the problem.
pub async fn run(park: &Park, name: &str) -> Result<Value, String> {
    let path = format!("/v1/sources/{name}/runs");
    let (status, body) = park.call("POST", &path, &park.token_of("publisher").await, Some(json!({}))).await;
    if status < 300 { Ok(body) } else { Err(body.to_string()) }
}

pub async fn source(park: &Park, name: &str) -> Value {
    park.get("auditor", &format!("/v1/sources/{name}")).await
}

/// The last run of a source, once `is` holds for it.
pub async fn last(park: &Park, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        let found = source(park, name).await;
        if is(&found["last"]["outcome"]) && found["running"].is_null() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} {}", source(park, name).await, park.log());
}

/// Outcomes of the logged runs of a source.
pub async fn logged(park: &Park, name: &str) -> Vec<String> {
    let all = park.entries().await;
    let runs = all.iter().map(|row| &row["entry"]).filter(|entry| entry["kind"] == "source.ran");
    let own = runs.filter(|entry| entry["detail"]["source"] == name);
    own.map(|entry| entry["detail"]["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_arrive_become_versions() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let exports = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = exports.path().join(name);
        std::fs::write(path.with_extension("part"), content).unwrap();
        std::fs::rename(path.with_extension("part"), path).unwrap();
    };
    configure(&a, &format!("[connections.exports]\nkind = \"folder\"\npath = \"{}\"\n", text(exports.path())));
    let (run_a, run_b) = (a.start().await, b.start().await);
    write("firms-0.csv", "id,name,sector\nf0,Old,IT\n");
    tokio::time::sleep(Duration::from_millis(20)).await;
    write("firms-1.csv", FIRMS);
    let made =
        add(&a, "firms", &["--folder", "exports", "--files", "firms-*.csv", "--expect-hours", "24"]).await.unwrap();
    assert_eq!((&made["dataset"], &made["warning"]), (&Value::Null, &Value::Null), "{made}");
    // Only the newest of the files that were there.
    let first = last(&a, "firms", |outcome| outcome["version"] == 1).await;
    assert_eq!(first["last"]["outcome"], json!({"kind": "published", "version": 1, "records": 2}));
    let dataset = first["dataset"].as_str().unwrap().to_owned();

    // Another file is the next version; one that is refused is told, and keeps none waiting.
    write("firms-2.csv", &format!("{FIRMS}f3,Three,IT\n"));
    last(&a, "firms", |outcome| outcome["version"] == 2).await;
    write("firms-3.csv", "id,name,sector\nf1,,IT\n");
    let refused = last(&a, "firms", |outcome| outcome["kind"] == "failed").await;
    let warning = refused["warning"].as_str().unwrap();
    assert!(warning.contains("1 of 1 records are invalid, the first in line 2 (required)"), "{warning}");
    let status = a.get("admin", "/v1/status").await;
    assert_eq!(status["health"]["warnings"], json!([warning]));
    let (_, metrics) = a.call("GET", "/metrics", "", None).await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("crosspark_source_attention{source=\"firms\"} 1"), "{metrics}");
    // A person sees what is wrong.
    let said = run(&a, "firms").await.unwrap_err();
    assert!(said.contains("/name"), "{said}");
    // A file that is still being written is not read, whatever else the node does meanwhile.
    let growing = exports.path().join("firms-3a.csv");
    for rows in 0..4 {
        let known: String = (0..rows).map(|n| format!("g{n},G,IT\n")).collect();
        std::fs::write(&growing, format!("id,name,sector\n{known}")).unwrap();
        for pause in ["pause", "resume"] {
            at(&a, "publisher", &["source", pause, "firms"]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(source(&a, "firms").await["last"]["outcome"]["kind"], "failed");
    }
    std::fs::remove_file(&growing).unwrap();
    // A link leads to no other file.
    std::os::unix::fs::symlink(a.folder.join("crosspark.toml"), exports.path().join("firms-z.csv")).unwrap();
    write("firms-4.csv", &format!("{FIRMS}f4,Four,IT\n"));
    let good = last(&a, "firms", |outcome| outcome["version"] == 3).await;
    // The refused file is told until it is gone, is another one, or can be read.
    assert!(good["warning"].as_str().unwrap().contains("has refused a file: firms-3.csv: 1 of 1 records"));
    std::fs::remove_file(exports.path().join("firms-3.csv")).unwrap();
    assert_eq!(run(&a, "firms").await.unwrap()["outcome"]["kind"], "nothing");

    assert_eq!(source(&a, "firms").await["warning"], Value::Null);

    // A run that a person asks for reads all refused files again.
    for (name, row) in [("firms-5a.csv", "a,,IT"), ("firms-5b.csv", "b,,IT")] {
        write(name, &format!("id,name,sector\n{row}\n"));
        last(&a, "firms", |outcome| outcome["reason"].as_str().is_some_and(|why| why.starts_with(name))).await;
    }
    let warning = source(&a, "firms").await["warning"].as_str().unwrap().to_owned();
    assert!(warning.contains("has refused 2 files, one of them: firms-5"), "{warning}");
    let before = logged(&a, "firms").await.len();
    assert!(run(&a, "firms").await.is_err());
    last(&a, "firms", |outcome| outcome["reason"].as_str().is_some_and(|why| why.starts_with("firms-5b"))).await;
    assert_eq!(logged(&a, "firms").await[before..], ["failed", "failed"]);
    for name in ["firms-5a.csv", "firms-5b.csv"] {
        std::fs::remove_file(exports.path().join(name)).unwrap();
    }
    assert_eq!(run(&a, "firms").await.unwrap()["outcome"]["kind"], "nothing");
    assert_eq!(source(&a, "firms").await["warning"], Value::Null);

    // With a schedule, all that has arrived is read at its time, one version each.
    let scheduled = ["--folder", "exports", "--files", "s*.csv", "--schedule", "0 0 1 1 *"];
    add(&a, "yearly", &scheduled).await.unwrap();
    for (name, rows) in [("s1.csv", FIRMS), ("s2.csv", "id,name,sector\nf9,Nine,IT\n"), ("s3.csv", FIRMS)] {
        write(name, rows);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(run(&a, "yearly").await.unwrap()["outcome"]["version"], 1);
    last(&a, "yearly", |outcome| outcome["version"] == 3).await;

    // Each version is one that peers obtain; the log names the source and nothing of the records.
    let view = b.request(&a, &dataset, "research").await;
    assert_eq!(b.data(&view, "csv").await.lines().count(), 4);
    let outcomes = logged(&a, "firms").await;
    assert_eq!(outcomes[..6], ["published", "published", "failed", "failed", "published", "nothing"]);
    let all = a.entries().await;
    let published = all.iter().filter(|row| row["entry"]["kind"] == "dataset.published");
    assert!(published.clone().all(|row| row["entry"]["detail"]["source"].is_string()) && published.count() == 6);

    // A folder that is gone is looked at again after a pause, and all is well once it is back.
    let away = exports.path().with_extension("away");
    std::fs::rename(exports.path(), &away).unwrap();
    let gone = last(&a, "firms", |outcome| outcome["kind"] == "failed").await;
    assert!(gone["warning"].as_str().unwrap().contains("cannot be read"), "{gone}");
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(source(&a, "firms").await["failures"], 1);
    std::fs::rename(&away, exports.path()).unwrap();
    let back = last(&a, "firms", |outcome| outcome["kind"] == "nothing").await;
    assert_eq!(back["warning"], Value::Null);

    // Paused, it reads nothing; resumed, it goes on. Removed, its dataset stays.
    at(&a, "publisher", &["source", "pause", "firms"]).await.unwrap();
    write("firms-5.csv", &format!("{FIRMS}f5,Five,IT\n"));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(source(&a, "firms").await["last"]["outcome"]["kind"], "nothing");
    at(&a, "publisher", &["source", "resume", "firms"]).await.unwrap();
    last(&a, "firms", |outcome| outcome["version"] == 4).await;
    let (removed, _) = a.call("DELETE", "/v1/sources/firms", &a.token_of("publisher").await, None).await;
    assert_eq!(removed, 204);
    assert_eq!(a.get("auditor", "/v1/sources").await["sources"].as_array().unwrap().len(), 1);
    assert_eq!(b.request(&a, &dataset, "research").await["version"], 4);
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[]).0, 0);
}

/// What a server of the park would answer; the log of its requests.
#[derive(Clone, Default)]
struct Erp(Arc<Mutex<Vec<(String, HeaderMap)>>>);

async fn answer(
    State(erp): State<Erp>,
    uri: axum::http::Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    erp.0.lock().unwrap().push((uri.path().to_owned(), headers.clone()));
    if headers.get(header::AUTHORIZATION).is_none_or(|token| token != "Bearer t0k3n") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let rows: Vec<Value> =
        (0..250).map(|n| json!({"id": format!("f{n}"), "name": "N", "sector": "IT", "revenue_cny": 0.1})).collect();
    let number = |name: &str| query.get(name).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let page = |from: usize| rows[from.min(250)..(from + 100).min(250)].to_vec();
    let moved = |to: &str| (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response();
    match uri.path() {
        "/api/firms.csv" if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == "\"v1\"") => {
            StatusCode::NOT_MODIFIED.into_response()
        }
        "/api/firms.csv" => ([(header::ETAG, "\"v1\"")], FIRMS).into_response(),
        "/api/slow" => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            ([(header::ETAG, "\"v1\"")], FIRMS).into_response()
        }
        "/api/other" if headers.contains_key(header::IF_NONE_MATCH) => StatusCode::NOT_MODIFIED.into_response(),
        "/api/other" => ([(header::ETAG, "\"v1\"")], "id,name,sector\nf7,Seven,IT\n").into_response(),
        "/api/never" => StatusCode::NOT_MODIFIED.into_response(),
        "/api/moved" => moved("/api/firms.csv"),
        "/api/numbered" => axum::Json(json!({"items": page((number("page") - 1) * 100)})).into_response(),
        "/api/offset" => axum::Json(json!({"items": page(number("skip"))})).into_response(),
        "/api/next" => {
            let from = number("from");
            let next = (from + 100 < 250).then(|| format!("/api/next?from={}", from + 100));
            axum::Json(json!({"data": {"items": page(from)}, "next": next})).into_response()
        }
        "/api/link" => {
            let from = number("from");
            let link = format!("<?from={}>; rel=\"next\"", from + 100);
            let link = (from + 100 < 250).then_some([(header::LINK, link)]);
            (
                link.map_or(HeaderMap::new(), |[(name, value)]| HeaderMap::from_iter([(name, value.parse().unwrap())])),
                axum::Json(page(from)),
            )
                .into_response()
        }
        "/api/endless" => axum::Json(json!({"items": page(0)})).into_response(),
        "/api/elsewhere" => axum::Json(json!({"items": page(0), "next": "https://other.example/x"})).into_response(),
        "/api/private" => moved("https://10.0.0.1/firms.csv"),
        "/api/local" => moved("https://localhost/firms.csv"),
        "/api/metadata" => moved("http://169.254.169.254/latest"),
        "/api/circle" => moved("/api/circle"),
        "/api/file" => moved("file:///etc/passwd"),
        "/api/login" => "<html>Please log in</html>".into_response(),
        "/api/zipped" => ([(header::CONTENT_ENCODING, "gzip")], FIRMS).into_response(),
        "/api/broken" => {
            let pieces = [Ok(FIRMS), Err(std::io::Error::other("broken"))];
            axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_of_a_server_become_versions() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let erp = Erp::default();
    let router = axum::Router::new().fallback(answer).with_state(erp.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let token = a.folder.with_extension("erp");
    std::fs::write(&token, "Bearer t0k3n\n").unwrap();
    let secret = format!("secret_headers = {{ Authorization = \"{}\" }}", text(&token));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (other, port) = ("kind = \"http\"\nurl = \"http://127.0.0.1", silent.local_addr().unwrap().port());
    drop(silent);
    configure(
        &a,
        &format!(
            "[connections.erp]\nkind = \"http\"\nurl = \"{url}\"\n{secret}\n[connections.off]\n{other}:{port}/\"\n"
        ),
    );
    let run_a = a.start().await;

    add(&a, "firms", &["--http", "erp", "--path", "firms.csv"]).await.unwrap();
    for outcome in ["published", "unchanged"] {
        assert_eq!(run(&a, "firms").await.unwrap()["outcome"]["kind"], outcome);
    }
    let asked = erp.0.lock().unwrap().last().unwrap().1.clone();
    assert_eq!(asked[header::IF_NONE_MATCH], "\"v1\"");
    for (name, args) in [
        ("moved", &["--path", "moved", "--format", "csv"][..]),
        ("numbered", &["--path", "numbered", "--page-number", "page", "--at", "/items"]),
        ("offset", &["--path", "offset", "--page-offset", "skip", "--at", "/items"]),
        ("next", &["--path", "next", "--next-at", "/next", "--at", "/data/items"]),
        ("link", &["--path", "link", "--next-link"]),
    ] {
        add(&a, name, &[&["--http", "erp"], args].concat()).await.unwrap();
        let ran = run(&a, name).await.unwrap_or_else(|said| panic!("{name}: {said}"));
        let records = if name == "moved" { 2 } else { 250 };
        assert_eq!(ran["outcome"], json!({"kind": "published", "version": 1, "records": records}), "{name}");
    }

    for (path, more, part) in [
        ("endless", &["--page-number", "page", "--at", "/items"][..], "page 2: it is the same as an earlier one"),
        (
            "elsewhere",
            &["--next-at", "/next", "--at", "/items"],
            "page 1: the next page is not below the connection's URL",
        ),
        ("private", &["--format", "csv"], "10.0.0.1 is a private address"),
        ("local", &["--format", "csv"], "127.0.0.1 is a private address"),
        ("metadata", &["--format", "csv"], "169.254.169.254 is a private address"),
        ("circle", &["--format", "csv"], "redirects more than 5 times"),
        ("file", &["--format", "csv"], "redirects to what is not a URL"),
        ("login", &["--format", "csv"], "HTML"),
        ("login", &["--next-link"], "page 1: it is not JSON"),
        ("zipped", &["--format", "csv"], "compressed"),
        ("broken", &["--format", "csv"], "it closed the connection"),
        ("none", &["--format", "csv"], "404"),
        ("never", &["--format", "csv"], "304"),
    ] {
        add(&a, "bad", &[&["--replace", "--http", "erp", "--path", path], more].concat()).await.unwrap();
        let said = run(&a, "bad").await.unwrap_err();
        assert!(said.contains(part), "{path}: {said} lacks {part}");
    }
    assert_eq!(source(&a, "bad").await["dataset"], Value::Null);

    // What is defined while a run is under way is not taken for what that run has read.
    let slow = ["--http", "erp", "--path", "slow", "--format", "csv"];
    let other = ["--replace", "--http", "erp", "--path", "other", "--format", "csv"];
    add(&a, "changing", &slow).await.unwrap();
    let changed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        add(&a, "changing", &other).await.unwrap();
    };
    assert_eq!(tokio::join!(run(&a, "changing"), changed).0.unwrap()["outcome"]["kind"], "published");
    let ran = run(&a, "changing").await.unwrap();
    assert_eq!(ran["outcome"], json!({"kind": "published", "version": 2, "records": 1}));
    assert_eq!(run(&a, "changing").await.unwrap()["outcome"], json!({"kind": "unchanged", "version": 2}));
    // Another source of the same name has another dataset.
    add(&a, "again", &slow).await.unwrap();
    let (again, publisher) = ("/v1/sources/again", a.token_of("publisher").await);
    let removed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(a.call("DELETE", again, &publisher, None).await.0, 204);
        add(&a, "again", &other[1..]).await.unwrap();
    };
    let first = tokio::join!(run(&a, "again"), removed).0.unwrap();
    let second = run(&a, "again").await.unwrap();
    assert_eq!((&second["outcome"]["version"], &second["outcome"]["kind"]), (&json!(1), &json!("published")));
    assert_ne!(first["published"]["dataset"], second["published"]["dataset"]);
    // A version of another origin: what the server said is not true of it.
    let dataset = second["published"]["dataset"].as_str().unwrap();
    let (records, terms) = (a.folder.with_extension("csv"), a.folder.with_extension("policy"));
    std::fs::write(&records, FIRMS).unwrap();
    let by_hand = ["publish", text(&records), "--schema", "urn:crosspark:schema:enterprise", "--title", "Firms"];
    let by_hand = [&by_hand[..], &["--policy", text(&terms), "--dataset", dataset]].concat();
    assert_eq!(at(&a, "publisher", &by_hand).await.unwrap()["version"], 2);
    assert_eq!(run(&a, "again").await.unwrap()["outcome"]["version"], 3);
    // A dataset that was withdrawn gets no more versions; the source may begin another one.
    let withdraw = ["withdraw", dataset, "--reason", "it was a test"];
    at(&a, "publisher", &withdraw).await.unwrap();
    let said = run(&a, "again").await.unwrap_err();
    assert!(said.contains("was withdrawn"), "{said}");
    add(&a, "again", &other).await.unwrap();
    assert_eq!(run(&a, "again").await.unwrap()["outcome"]["version"], 1);
    // Another schema than that of its dataset.
    let wrong = ["source", "add", "again", "--replace", "--schema", "urn:crosspark:schema:patent", "--title", "T"];
    let wrong = [&wrong[..], &["--policy", text(&terms)], &other[1..]].concat();
    let said = at(&a, "publisher", &wrong).await.unwrap_err();
    assert!(said.contains("has the schema"), "{said}");
    // A secret that is gone, a server that is off.
    std::fs::remove_file(&token).unwrap();
    assert!(run(&a, "moved").await.unwrap_err().contains("the secret"));
    add(&a, "off", &["--http", "off", "--path", "x.csv"]).await.unwrap();
    assert!(run(&a, "off").await.unwrap_err().contains("nothing listens at its address"));

    // Definitions that cannot be carried out.
    for (args, part) in [
        (&["--http", "erp", "--path", "../x.csv"][..], "leads out of"),
        (&["--http", "erp", "--path", "https://other.example/x.csv"], "must be a path below"),
        (&["--http", "erp", "--path", "..%2fx.csv"], "must be a path below"),
        (&["--http", "none", "--path", "x.csv"], "no connection none: it has erp, off"),
        (&["--folder", "erp", "--files", "*.csv"], "cannot use a http connection"),
        (&["--database", "erp", "--query", "SELECT 1"], "cannot use a http connection"),
        (&["--pushed", "--format", "csv", "--files", "*"], "--files is for --folder"),
        (&["--pushed", "--format", "csv", "--schedule", "0 2 * * *"], "no schedule"),
        (&["--http", "erp", "--path", "x.csv", "--schedule", "0 25 * * *"], "is not a schedule"),
        (&["--http", "erp", "--path", "x"], "give --format"),
    ] {
        let said = add(&a, "wrong", args).await.unwrap_err();
        assert!(said.contains(part), "{args:?}: {said} lacks {part}");
    }
    let refusals = a.entries().await;
    let refused = refusals.iter().map(|row| &row["entry"]).filter(|entry| entry["kind"] == "dataset.refused");
    assert!(refused.clone().any(|entry| entry["detail"]["source"] == "wrong" && entry["rule"] == "path"));
    let twice = add(&a, "firms", &["--http", "erp", "--path", "firms.csv"]).await.unwrap_err();
    assert!(twice.contains("there is a source firms"), "{twice}");
    let logged: String = a.entries().await.iter().map(Value::to_string).collect();
    assert!(!logged.contains("t0k3n") && !a.log().contains("t0k3n"));

    // Records that a program sends.
    add(&a, "sent", &["--pushed", "--format", "csv"]).await.unwrap();
    let file = a.folder.with_extension("sent");
    for (content, kind) in [(FIRMS, "published"), (FIRMS, "unchanged"), ("id,name,sector\nf1,Uno,IT\n", "published")] {
        std::fs::write(&file, content).unwrap();
        let sent = at(&a, "publisher", &["source", "run", "sent", "--file", text(&file)]).await.unwrap();
        assert_eq!(sent["outcome"]["kind"], kind);
    }
    assert!(run(&a, "sent").await.unwrap_err().contains("--file"));
    run_a.stop();
    assert_eq!(a.verify(&[]).0, 0);
}
