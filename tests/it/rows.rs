//! Rows of real databases become versions; servers and nodes that stop in the middle of a run.

use crate::databases::{Mariadb, Postgres};
use crate::harness::*;
use crate::sources::{add, configure, last, logged, run, source};
use serde_json::{Value, json};
use std::time::Duration;

/// What a database must be able to do for the test.
struct Database<'a> {
    name: &'a str,
    connection: String,
    /// A query whose rows come one by one, over many seconds.
    slow: &'a str,
    /// A query that fails while it runs, and a part of what the database says.
    failing: (&'a str, &'a str),
    execute: &'a dyn Fn(&str),
    stop: &'a dyn Fn(),
    start: &'a dyn Fn(),
}

/// Rows are published as of one moment; a database that stops in the middle of a run, and a node that does, leave nothing
/// half published, and the run is repeated.
async fn rows_become_versions(database: Database<'_>) {
    let Database { name, connection, slow, failing, execute, stop, start } = database;
    let alliance = Alliance::new();
    let [a] = alliance.parks([name]);
    configure(&a, &format!("{connection}\n"));
    let mut run_a = a.start().await;
    execute(
        "CREATE TABLE firms (id VARCHAR(20) PRIMARY KEY, name VARCHAR(100), sector VARCHAR(40), revenue DECIMAL(30,2), hired INTEGER, high_tech BOOLEAN, joined DATE)",
    );
    execute(
        "INSERT INTO firms VALUES ('f1', '企业 \"一\"', 'IT', 12345678901.50, 7, TRUE, '2001-02-03'), ('f2', 'O''Neil\\\\', 'IT', NULL, NULL, FALSE, NULL)",
    );
    let query = "SELECT id, name, sector, revenue AS revenue_cny, hired AS employees, high_tech, joined AS joined_park FROM firms";
    add(&a, "firms", &["--database", "db", "--query", query]).await.unwrap();
    let ran = run(&a, "firms").await.unwrap_or_else(|said| panic!("{name}: {said}"));
    assert_eq!(ran["outcome"], json!({"kind": "published", "version": 1, "records": 2}), "{name}");
    assert_eq!(run(&a, "firms").await.unwrap()["outcome"], json!({"kind": "unchanged", "version": 1}), "{name}");
    // Who asked for a run is in the log.
    let (status, made) = a
        .call("POST", "/v1/tokens", &a.admin_token(), Some(json!({"role": "publisher", "person": "Eve", "days": 9})))
        .await;
    assert_eq!(status, 201);
    let eve = made["secret"].as_str().unwrap();
    a.call("POST", "/v1/sources/firms/runs", eve, Some(json!({}))).await;
    let all = a.entries().await;
    let ran = all.iter().rfind(|row| row["entry"]["kind"] == "source.ran").unwrap();
    assert_eq!((&ran["entry"]["detail"]["token"], &ran["fields"][0]["value"]), (&made["token"]["id"], &json!("Eve")));
    // A user who may do more than read tables is refused.
    add(&a, "all", &["--database", "all", "--query", query]).await.unwrap();
    let said = run(&a, "all").await.unwrap_err();
    assert!(said.contains("may read files of the database server"), "{name}: {said}");
    execute("UPDATE firms SET hired = 8 WHERE id = 'f1'");
    execute("DELETE FROM firms WHERE id = 'f2'");
    let ran = run(&a, "firms").await.unwrap();
    assert_eq!(ran["published"]["changes"], json!({"since": 1, "added": 0, "removed": 1, "changed": 1}), "{name}");

    // The doctor tries the connections.
    let found = crosspark(&["doctor", text(&a.folder), "--json"]);
    let found: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
    let verdict = |check: &str| found.iter().find(|one| one["check"] == check).unwrap()["verdict"].clone();
    assert_eq!((verdict("connection db"), verdict("connection all")), (json!("good"), json!("bad")), "{found:?}");

    // It reads, and nothing else.
    for (query, part) in [
        ("DELETE FROM firms", "query"),
        ("SELECT 1; DELETE FROM firms", "query"),
        ("SELECT nothing FROM firms", "nothing"),
        ("SELECT id, name AS id FROM firms", "two columns of the query are called `id`"),
        ("SELECT id, name FROM firms", "/sector"),
    ] {
        add(&a, "bad", &["--replace", "--database", "db", "--query", query]).await.unwrap();
        let said = run(&a, "bad").await.unwrap_err();
        assert!(said.contains(part), "{name}: {query}: {said}");
    }
    assert_eq!(run(&a, "firms").await.unwrap()["outcome"]["kind"], "unchanged", "{name}");
    // What the database says of a value is for the person who asks, and is not kept.
    add(&a, "bad", &["--replace", "--database", "db", "--query", failing.0]).await.unwrap();
    let said = run(&a, "bad").await.unwrap_err();
    assert!(said.contains(failing.1), "{name}: {said}");
    let kept = source(&a, "bad").await["last"]["outcome"]["reason"].as_str().unwrap().to_owned();
    assert!(kept.starts_with("the database ended the query: ") && !a.log().contains(failing.1), "{name}: {kept}");

    // The database stops in the middle of a run.
    add(&a, "slow", &["--database", "db", "--query", slow, "--schedule", "0 0 1 1 *"]).await.unwrap();
    let (stopped, ()) = tokio::join!(run(&a, "slow"), async {
        begins(&a, "slow").await;
        stop();
    });
    assert!(stopped.is_err(), "{name}: {stopped:?}");
    let failed = last(&a, "slow", |outcome| outcome["kind"] == "failed").await;
    assert_eq!((&failed["dataset"], &failed["failures"]), (&Value::Null, &json!(1)), "{failed}");
    assert!(run(&a, "slow").await.is_err());
    start();
    // The node is killed in the middle of a run, and repeats it after the start by itself.
    let begun = tokio::time::timeout(Duration::from_secs(3), run(&a, "slow")).await;
    assert!(begun.is_err(), "{name}: the run was over at once: {begun:?}");
    run_a.kill();
    execute("UPDATE firms SET hired = 9 WHERE id = 'f1'");
    run_a = a.start().await;
    let interrupted = last(&a, "slow", |outcome| outcome["code"] == "interrupted").await;
    assert_eq!((&interrupted["dataset"], &interrupted["failures"]), (&Value::Null, &json!(3)), "{interrupted}");
    assert!(interrupted["next"].is_string() && interrupted["warning"].as_str().unwrap().contains("3 times in a row"));
    let ran = run(&a, "slow").await.unwrap();
    assert_eq!(ran["outcome"], json!({"kind": "published", "version": 1, "records": 400}), "{name}");
    assert_eq!(logged(&a, "slow").await, ["failed", "failed", "failed", "published"], "{name}");
    run_a.stop();
    assert_eq!(a.verify(&[]).0, 0, "{name}");
}

/// Waits until a run of the source is under way, and some rows have come.
async fn begins(park: &Park, name: &str) {
    while source(park, name).await["running"].is_null() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_postgresql() {
    let Some(server) = Postgres::start() else { return println!("skipped: no PostgreSQL here") };
    rows_become_versions(Database {
        name: "postgres",
        connection: server.connection(),
        slow: "SELECT 'f' || n AS id, 'N' AS name, 'IT' || pg_sleep(0.02)::text AS sector FROM generate_series(1, 400) n",
        failing: ("SELECT id, CAST(name AS INTEGER) AS employees, name, sector FROM firms", "企业"),
        execute: &|sql| server.execute(sql),
        stop: &|| server.stop(),
        start: &|| server.run(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_mariadb() {
    let Some(server) = Mariadb::start() else { return println!("skipped: no MariaDB here") };
    rows_become_versions(Database {
        name: "mariadb",
        connection: server.connection(),
        slow: "SELECT CONCAT('f', seq) AS id, 'N' AS name, CONCAT('IT', SLEEP(0.02)) AS sector FROM seq_1_to_400",
        failing: (
            "SELECT id, name, sector, (SELECT n FROM (SELECT 1 AS n UNION SELECT 2) AS many) AS note FROM firms",
            "Subquery returns more than 1 row",
        ),
        execute: &|sql| server.execute(sql),
        stop: &|| server.stop(),
        start: &|| server.run(),
    })
    .await;
}
