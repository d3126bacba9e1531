//! Where a node's schemas come from, and what is refused there.

use crate::harness::*;
use crate::schemas::{at, listed, operator, publish, rents, write, yuan};
use crosspark::identity::document;
use crosspark::identity::key::SigningKey;
use crosspark::identity::register::VerifiedRegister;
use crosspark::keys::{Kek, KeyFile};
use serde_json::{Value, json};
use std::time::Duration;

/// What a provider serves is its schema, with its statement, or nothing is fetched and the refusal is logged.
#[tokio::test(flavor = "multi_thread")]
async fn other_schemas_than_the_one_named_are_refused() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let id = format!("{}/rents", a.id);
    let file = write(alliance.folder.path(), "rents.json", &rents(&id, "1.0.0", yuan(json!({}))));
    let mut run_a = a.start().await;
    at(&a, "publisher", &["schema", "add", text(&file)]).await.unwrap();
    let published = publish(&a, &id, "{\"flat\":\"A-101\",\"rent\":1}\n", &[]).await.unwrap();
    let run_b = b.start().await;
    let wider = rents(&id, "1.0.0", yuan(json!({"maximum": 200_000}))).to_string();
    let dear = format!(
        r#"{{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"{id}","x-version":"1.0.0","allOf":[{}{{}}]}}"#,
        "{},".repeat(20_000)
    );
    let statement = |jws: &str| format!("UPDATE schema SET statement = '{jws}'");
    let serve = |text: &str| format!("UPDATE schema SET text = '{text}'");
    for (lie, said) in [
        (serve("{"), "not valid JSON"),
        (serve(&wider), "its digest is"),
        (serve(&dear), "checks of one value"),
        (
            format!("{}, text = '{}'", statement("e30.e30.AAAA"), std::fs::read_to_string(&file).unwrap()),
            "not a valid crosspark-schema+jws",
        ),
        ("UPDATE schema SET statement = NULL".into(), "nobody vouches for"),
    ] {
        run_a.stop();
        let database = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
        assert_eq!(database.execute(&lie, []).unwrap(), 1);
        drop(database);
        run_a = a.start().await;
        let view = b.request(&a, dataset_of(&published), "research").await;
        assert_eq!(view["stage"], "refused", "{view}");
        assert!(view["reason"].as_str().unwrap_or_default().contains(said), "{said}: {view}");
        assert_eq!(listed(&b, &id, "1.0.0").await["of"], Value::Null);
    }
    let kinds: Vec<Value> = b.entries().await.into_iter().map(|row| row["entry"]["kind"].clone()).collect();
    assert!(!kinds.contains(&json!("schema.kept")) && !kinds.contains(&json!("key.requested")), "{kinds:?}");
    let refused: Vec<Value> =
        b.entries().await.into_iter().filter(|row| row["entry"]["kind"] == "schema.refused").collect();
    // The same lie about the same digest is logged once.
    assert_eq!(refused.len(), 1, "{refused:?}");
    run_a.stop();
    run_b.stop();
}

/// The alliance's URL is any web server with the operator's folder; registers and schemas come from it.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_come_from_the_alliances_url() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let file = write(alliance.folder.path(), "rents.json", &rents("urn:example:rents", "1.0.0", yuan(json!({}))));
    operator(&alliance, &["add", text(&file)]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = alliance.path();
    let files = axum::Router::new().fallback(move |uri: axum::http::Uri| {
        let found = std::fs::read(folder.join(uri.path().trim_start_matches('/')));
        async move { found.map_err(|_| axum::http::StatusCode::NOT_FOUND) }
    });
    tokio::spawn(async move { axum::serve(listener, files).await.unwrap() });
    let config = a.folder.join("crosspark.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}\n[alliance]\nurl = \"{url}\"\n")).unwrap();
    let run = a.start().await;
    for _ in 0..600 {
        if listed(&a, "urn:example:rents", "1.0.0").await["title"] == "Rents / 租金" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(listed(&a, "urn:example:rents", "1.0.0").await["title"], "Rents / 租金", "{}", a.log());
    run.stop();
}

/// An operator's register that calls a schema by another version than the schema's own brings nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_register_that_names_a_schema_wrongly_brings_nothing() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let file = write(alliance.folder.path(), "rents.json", &rents("urn:example:rents", "1.0.0", yuan(json!({}))));
    operator(&alliance, &["add", text(&file)]).unwrap();
    let run = a.start().await;
    let before = VerifiedRegister::verify_in(&alliance.register(), &alliance.roots()).unwrap();
    let mut body = before.stated().clone();
    body.sequence += 1;
    body.previous = Some(before.digest());
    body.schemas.iter_mut().find(|entry| entry.id == "urn:example:rents").unwrap().version = "2.0.0".into();
    let kek = Kek::load(&alliance.path().with_extension("kek")).unwrap();
    let (id, seed) = KeyFile::all(&alliance.path().join("keys"), "register", &kek).unwrap().remove(0);
    let seed = zeroize::Zeroizing::new(<[u8; 32]>::try_from(seed.as_slice()).unwrap());
    let forged = document::sign(body, &SigningKey::from_seed(id, &seed));
    let numbered = format!("registers/{}.jws", before.body().sequence + 1);
    for name in ["register.jws", &numbered] {
        std::fs::write(alliance.path().join(name), forged.jws()).unwrap();
    }
    let said = at(&a, "admin", &["members", "install", text(&alliance.path())]).await;
    let refused = |rows: &[Value]| rows.iter().any(|row| row["entry"]["kind"] == "schema.refused");
    assert!(refused(&a.entries().await), "{said:?} {}", a.log());
    for version in ["1.0.0", "2.0.0"] {
        let digest = listed(&a, "urn:example:rents", version).await;
        assert_ne!(digest["title"], "Rents / 租金", "{version}");
        let name = format!("urn:example:rents@{version}");
        let published = publish(&a, &name, "{\"flat\":\"A-101\",\"rent\":1}\n", &[]).await;
        assert!(published.is_err(), "{published:?}");
    }
    run.stop();
}
