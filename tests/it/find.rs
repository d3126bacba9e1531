//! Search across the alliance, and withdrawal.

use crate::harness::*;
use crosspark::assembly::Overrides;
use crosspark::audit::entry::{Draft, Facts, Kind};
use crosspark::catalog::About;
use crosspark::core::digest::Digest;
use crosspark::core::id::Text;
use crosspark::core::random::SystemRandomness;
use crosspark::core::time::{Clock as _, SystemClock};
use crosspark::dataset::manifest::SchemaRef;
use crosspark::policy::Policy;
use crosspark::services::Services;
use crosspark::storage::{Change, VersionRow, Write};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Inserts dataset versions without records directly into the store.
pub async fn fill(node: &Services, rows: usize) {
    let text = |text: String| Text::parse(&text).unwrap();
    let policy = Policy::from_value(&json!({"permission": [{"action": "use"}]})).unwrap();
    for n in 0..rows {
        let digest = Digest::of(n.to_string().as_bytes());
        let theme = text(["energy", "biology", "computing"][n % 3].to_owned());
        let row = VersionRow {
            dataset: format!("urn:x:{n:06}").parse().unwrap(),
            version: 1,
            title: text(format!("Dataset {n}")),
            description: String::new(),
            offer: format!("urn:o:{n}").parse().unwrap(),
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            manifest: n.to_string(),
            manifest_digest: digest,
            schema: SchemaRef { id: "urn:crosspark:schema:enterprise".into(), version: "1.0.0".into(), digest },
            records: 1,
            bytes: 1,
            blob: digest,
            wrapped_key: String::new(),
            published: node.node.now(),
            about: About { theme: Some(theme), ..About::default() },
            quality: Default::default(),
            audience: policy.audience(),
            withdrawn: None,
        };
        let entry = Draft::new(Kind::DatasetPublished, Facts::default(), &SystemRandomness::new());
        node.node.store().commit(Change::new(entry).write(Write::InsertVersion(Box::new(row)))).await.unwrap();
    }
}

/// Publishes by the command line with further options.
async fn publish(park: &Park, title: &str, more: &[&str], policy: &Value) -> Value {
    let (file, policy_file) = (park.folder.with_extension("ndjson"), park.folder.with_extension("policy"));
    std::fs::write(&file, records(1)).unwrap();
    std::fs::write(&policy_file, policy.to_string()).unwrap();
    let token = park.token_of("publisher").await;
    let mut args =
        vec!["publish", text(&file), "--schema", "urn:crosspark:schema:economic-indicator", "--title", title];
    args.extend(["--policy", text(&policy_file), "--node", &park.management, "--token", &token]);
    args.extend(more);
    good(&args)
}

async fn search(park: &Park, query: &str) -> Value {
    park.get("requester", &format!("/v1/search?{query}")).await
}

fn titles(found: &Value) -> Vec<&str> {
    found["datasets"].as_array().unwrap().iter().map(|hit| hit["offered"]["title"].as_str().unwrap()).collect()
}

/// Repeats a search until its result is as wanted, because the index is updated in the background.
async fn searched(park: &Park, query: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        let found = search(park, query).await;
        if wanted(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{query}: {} {}", search(park, query).await, park.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_place_to_search_what_all_parks_offer() {
    let alliance = Alliance::new();
    let [a, b, c] = alliance.parks(["park-a", "park-b", "park-c"]);
    let (run_a, run_c) = (a.start().await, c.start().await);
    let open = json!({"permission": [{"action": "use"}]});
    let only_c = policy(&[("recipient", "eq", json!(c.id))]);
    let samples = a.folder.with_extension("samples");
    std::fs::write(&samples, records(2)).unwrap();
    let said =
        ["--theme", "energy", "--licence", "CC-BY-4.0", "--contact", "data@park-a.example", "--frequency", "monthly"];
    let said = [&said[..], &["--samples", text(&samples), "--description", "科技园区企业用电量, by industry"]].concat();
    publish(&a, "Energy use of enterprises 企业能耗", &said, &open).await;
    publish(&a, "Secret of A", &[], &only_c).await;
    publish(&a, "Listed of A", &["--listed"], &only_c).await;
    publish(&c, "Compute capacities 算力资源", &["--theme", "computing"], &open).await;
    // A node reads its peers' catalogs when it starts.
    let run_b = b.start().await;
    let all = searched(&b, "q=", |found| found["total"] == 3).await;
    assert!(!titles(&all).contains(&"Secret of A"), "{all}");
    let facets = &all["facets"];
    let facet = |value: &str, count: u64| json!({"value": value, "count": count});
    assert_eq!(facets["park"], json!([facet(&a.id, 2), facet(&c.id, 1)]));
    assert_eq!(facets["theme"], json!([facet("computing", 1), facet("energy", 1)]));
    assert_eq!(facets["freshness"], json!([facet("day", 3)]));
    let energy = "Energy use of enterprises 企业能耗";
    for (query, expected) in [
        ("q=能耗", vec![energy]),
        ("q=园区", vec![energy]),
        ("q=区企", vec![energy]),
        ("q=能", vec![energy]),
        ("q=园企", vec![]),
        ("q=enterprise", vec![energy]),
        ("q=Industries 企业", vec![energy]),
        ("q=算力 capacity", vec!["Compute capacities 算力资源"]),
        ("q=energy capacity", vec![]),
        ("theme=energy", vec![energy]),
        ("q=&park=did:web:park-c.example", vec!["Compute capacities 算力资源"]),
        ("q=capacity&park=did:web:park-c.example", vec!["Compute capacities 算力资源"]),
        ("q=capacity&park=did:web:park-a.example", vec![]),
        ("q=energy&theme=energy&schema=urn:crosspark:schema:economic-indicator", vec![energy]),
        ("sort=title", vec!["Compute capacities 算力资源", energy, "Listed of A"]),
        ("maxAge=day&q=listed", vec!["Listed of A"]),
        ("q=\"; DROP TABLE found; --", vec![]),
        ("q=*", vec![]),
    ] {
        assert_eq!(titles(&search(&b, query).await), expected, "{query}");
    }
    let hit = search(&b, "q=能耗").await["datasets"][0]["offered"].clone();
    let about =
        json!({"theme": "energy", "licence": "CC-BY-4.0", "contact": "data@park-a.example", "frequency": "monthly"});
    for (name, value) in about.as_object().unwrap() {
        assert_eq!(&hit["about"][name], value, "{hit}");
    }
    assert_eq!(hit["about"]["samples"].as_array().unwrap().len(), 2);
    let listed = search(&b, "q=listed").await["datasets"][0]["offered"].clone();
    assert!(listed["refused"].as_str().unwrap().contains("not among the recipients"), "{listed}");
    // A dataset that is listed for all members is still subject to its policy.
    let refused = b.request(&a, listed["dataset"].as_str().unwrap(), "research").await;
    assert_eq!(refused["stage"], "refused", "{refused}");
    // The text output.
    let token = b.token_of("requester").await;
    let output = crosspark(&["search", "能耗", "--node", &b.management, "--token", &token]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains(energy) && shown.contains("1 found"), "{shown}");
    run_a.stop();
    run_b.stop();
    run_c.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_follows_what_changes() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let here = b.start_here(Default::default()).await;
    let open = json!({"permission": [{"action": "use"}]});
    let first = publish(&a, "First", &[], &open).await;
    publish(&a, "Second", &[], &open).await;
    here.services.discovery.refresh_index().await;
    assert_eq!(search(&b, "").await["total"], 2);
    // A new version that this park may no longer see disappears from its index.
    let only_a = policy(&[("recipient", "eq", json!("did:web:nobody.example"))]);
    publish(&a, "First", &["--dataset", dataset_of(&first)], &only_a).await;
    publish(&a, "Third", &[], &open).await;
    here.services.discovery.refresh_index().await;
    assert_eq!(titles(&search(&b, "sort=title").await), ["Second", "Third"]);
    // Only changes are read, and there are none.
    here.services.discovery.refresh_index().await;
    assert_eq!(titles(&search(&b, "sort=title").await), ["Second", "Third"]);
    // The datasets of an unreachable park are still listed, as stale.
    run_a.stop();
    here.services.discovery.refresh_index().await;
    let found = search(&b, "sort=title").await;
    assert!(found["datasets"].as_array().unwrap().iter().all(|hit| hit["staleSince"].is_string()), "{found}");
    let run_a = a.start().await;
    here.services.discovery.refresh_index().await;
    let found = search(&b, "sort=title").await;
    assert!(found["datasets"].as_array().unwrap().iter().all(|hit| hit["staleSince"].is_null()), "{found}");
    // The datasets of a suspended member are not listed.
    alliance.command("suspend", &a);
    here.services.membership.install_register(alliance.register().trim(), "test").await.unwrap();
    here.services.discovery.refresh_index().await;
    assert_eq!(search(&b, "").await["total"], 0);
    here.stop().await;
    run_a.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_ends() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let here = b.start_here(Default::default()).await;
    let published = publish(&a, "Sample", &[], &json!({"permission": [{"action": "use"}]})).await;
    let dataset = dataset_of(&published);
    here.services.discovery.refresh_index().await;
    assert_eq!(search(&b, "q=sample").await["total"], 1);
    let view = b.request(&a, dataset, "research").await;
    assert_eq!((&view["stage"], &view["withdrawn"]), (&json!("verified"), &Value::Null), "{view}");
    let token = a.token_of("publisher").await;
    let args = ["withdraw", dataset, "--reason", "it had errors", "--node", &a.management, "--token", &token];
    assert_eq!(good(&args)["notified"], 1);
    assert!(!crosspark(&args).status.success(), "a second withdrawal must fail");
    // A park without an agreement is notified only of what it sees.
    let unseen = publish(&a, "Sample", &[], &policy(&[("recipient", "eq", json!("did:web:other.example"))])).await;
    let seen = publish(&a, "Example", &[], &json!({"permission": [{"action": "use"}]})).await;
    here.services.discovery.refresh_index().await;
    assert_eq!(search(&b, "q=example").await["total"], 1);
    for (published, notified) in [(unseen, 0), (seen, 1)] {
        let args = ["withdraw", dataset_of(&published), "--reason", "x", "--node", &a.management, "--token", &token];
        assert_eq!(good(&args)["notified"], notified, "{published}");
    }
    run_a.settle().await;
    assert_eq!(search(&b, "q=example").await["total"], 0);
    assert_eq!(a.get("publisher", "/v1/datasets").await["datasets"], json!([]));
    // A consumer of the dataset is notified: it no longer finds the dataset, and keeps its copy.
    run_a.settle().await;
    assert_eq!(search(&b, "q=sample").await["total"], 0);
    let view = b.wait(&view, 0).await;
    assert_eq!((&view["stage"], &view["withdrawn"]), (&json!("verified"), &json!("it had errors")), "{view}");
    assert!(b.entries().await.iter().any(|row| row["entry"]["kind"] == "dataset.recalled"));
    let (id, token) = (view["id"].as_str().unwrap(), b.token_of("requester").await);
    let out = b.folder.with_extension("fetched.ndjson");
    for args in [vec!["request", "show", id], vec!["request", "list"], vec!["fetch", id, "--out", text(&out)]] {
        let said = crosspark(&[&args[..], &["--node", &b.management, "--token", &token]].concat());
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains("it had errors"), "{said}");
    }
    // The dataset can no longer be requested.
    assert!(b.try_request(&a, dataset, "research").await.is_none());
    here.stop().await;
    run_a.stop();
}

/// A dataset that its policy hides from a certain time on is no change in the catalog; the daily complete read finds
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn what_time_hides_is_gone_within_a_day() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let overrides = || Overrides { clock: Some(clock.clone()), ..Overrides::default() };
    let (here_a, here_b) = (a.start_here(overrides()).await, b.start_here(overrides()).await);
    let soon = SystemClock.now().plus_ms(3_600_000).to_string();
    publish(&a, "For an hour", &[], &policy(&[("dateTime", "lt", json!(soon))])).await;
    publish(&a, "For good", &[], &json!({"permission": [{"action": "use"}]})).await;
    here_b.services.discovery.refresh_index().await;
    assert_eq!(search(&b, "").await["total"], 2);
    clock.0.store(25 * 3_600_000, Ordering::SeqCst);
    here_b.services.discovery.refresh_index().await;
    assert_eq!(titles(&search(&b, "").await), ["For good"]);
    here_a.stop().await;
    here_b.stop().await;
}
