//! Each fact that a decision depends on is changed between the decision and its commit: the commit is a conflict, and
//! the decision is made again with the new facts. The store is real; an interceptor changes the fact at the right
//! moment.

use crate::harness::*;
use async_trait::async_trait;
use crosspark::assembly::Overrides;
use crosspark::audit::entry::{Draft, Facts, Kind};
use crosspark::core::digest::Digest;
use crosspark::core::id::OfferId;
use crosspark::core::random::SystemRandomness;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::negotiation::Role;
use crosspark::policy::Policy;
use crosspark::storage::interceptor::{Intercepted, Interceptor};
use crosspark::storage::{Change, Conflict, Logged, Store, StoreError, VersionRow, Write};
use crosspark::transfer::{Event, State};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// An action that runs once between a decision and its commit, with the store and the waiting change.
type Meanwhile = Box<dyn FnOnce(Arc<dyn Store>, Change) -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// Runs `meanwhile` before the first decided commit of `kind`, and records every conflict.
struct Before {
    kind: Kind,
    meanwhile: Mutex<Option<Meanwhile>>,
    conflicts: Arc<Mutex<Vec<Conflict>>>,
}

#[async_trait]
impl Interceptor for Before {
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        let decided = change.entries().iter().any(|e| e.kind == self.kind && e.facts.decision.is_some());
        let meanwhile = if decided { self.meanwhile.lock().unwrap().take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile(inner.clone(), change.clone()).await;
        }
        let result = inner.commit(change).await;
        if let Err(StoreError::Conflict(what)) = &result {
            self.conflicts.lock().unwrap().push(*what);
        }
        result
    }
}

fn entry(kind: Kind) -> Draft {
    Draft::new(kind, Facts::default(), &SystemRandomness::new())
}

/// Runs a request against a provider whose store runs `meanwhile` before the first decided commit of `kind`. Returns
/// the final state of the request, the provider's conflicts and its log.
async fn request_with(
    a: &Park,
    b: &Park,
    policy: &Value,
    kind: Kind,
    meanwhile: Meanwhile,
) -> (Value, Vec<Conflict>, Vec<Value>) {
    let conflicts = Arc::new(Mutex::new(Vec::new()));
    let seen = conflicts.clone();
    let wrap = move |inner| -> Arc<dyn Store> {
        Arc::new(Intercepted::new(inner, Before { kind, meanwhile: Mutex::new(Some(meanwhile)), conflicts: seen }))
    };
    let overrides = Overrides { store: Some(Box::new(wrap)), ..Overrides::default() };
    let here = a.start_here(overrides).await;
    let run_b = b.start().await;
    let (published, code) = a.publish("economic-indicator", &records(3), "ndjson", policy).await;
    assert_eq!(code, 0, "{published}");
    let end = b.request(a, dataset_of(&published), "research").await;
    let entries = a.entries().await;
    run_b.settle().await;
    here.stop().await;
    assert_eq!(a.verify(&[]).0, 0);
    let met = conflicts.lock().unwrap().clone();
    (end, met, entries)
}

fn rules(entries: &[Value]) -> Vec<String> {
    let refused = entries.iter().filter(|row| row["entry"]["decision"] == "refused");
    refused.map(|row| row["entry"]["rule"].as_str().unwrap_or_default().to_owned()).collect()
}

fn released(entries: &[Value]) -> usize {
    entries.iter().filter(|row| row["entry"]["kind"] == "key.released").count()
}

/// Status and register: the consumer is suspended between the decision and the release.
#[tokio::test(flavor = "multi_thread")]
async fn suspended_meanwhile() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    // The register is signed but not yet installed.
    alliance.command("suspend", &b);
    let jws = alliance.register();
    let slot: Arc<Mutex<Option<crosspark::services::Services>>> = Arc::default();
    let node = slot.clone();
    let meanwhile: Meanwhile = Box::new(move |_, _| {
        Box::pin(async move {
            let node = node.lock().unwrap().clone().unwrap();
            assert!(node.membership.install_register(&jws, "file").await.unwrap());
        })
    });
    let conflicts = Arc::new(Mutex::new(Vec::new()));
    let seen = conflicts.clone();
    let wrap = move |inner| -> Arc<dyn Store> {
        let kind = Kind::KeyReleased;
        Arc::new(Intercepted::new(inner, Before { kind, meanwhile: Mutex::new(Some(meanwhile)), conflicts: seen }))
    };
    let here = a.start_here(Overrides { store: Some(Box::new(wrap)), ..Overrides::default() }).await;
    *slot.lock().unwrap() = Some(here.services.clone());
    let run_b = b.start().await;
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(end["stage"], "refused", "{end}");
    let entries = a.entries().await;
    assert_eq!(*conflicts.lock().unwrap(), [Conflict::Register]);
    assert_eq!((released(&entries), rules(&entries)), (0, vec!["membership".to_owned()]));
    run_b.kill();
    slot.lock().unwrap().take();
    here.stop().await;
    assert_eq!(a.verify(&[]).0, 0);
}

/// Count: another release under the same agreement happens between the decision and the release.
#[tokio::test(flavor = "multi_thread")]
async fn counted_meanwhile() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let once = policy(&[("count", "lteq", json!("1")), ("purpose", "eq", json!("research"))]);
    let meanwhile: Meanwhile = Box::new(|store, change| {
        Box::pin(async move {
            let used = change.writes.into_iter().find(|write| matches!(write, Write::CountUse { .. })).unwrap();
            store.commit(Change::new(entry(Kind::KeyReleased)).write(used)).await.unwrap();
        })
    });
    let (end, conflicts, entries) = request_with(&a, &b, &once, Kind::KeyReleased, meanwhile).await;
    assert_eq!(end["stage"], "refused", "{end}");
    assert_eq!(conflicts, [Conflict::UseCount]);
    assert_eq!((released(&entries), rules(&entries)), (1, vec!["/permission/0/constraint/0".to_owned()]));
}

/// State: the transfer ends between the decision and the release.
#[tokio::test(flavor = "multi_thread")]
async fn ended_meanwhile() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let meanwhile: Meanwhile = Box::new(|store, change| {
        Box::pin(async move {
            let id = change.entries()[0].facts.process.clone().unwrap();
            let transfer = store.transfer(&id).await.unwrap().unwrap();
            assert_eq!(transfer.state, State::Started);
            let ended = transfer.apply(Role::Provider, Event::Terminate, SystemClock.now()).unwrap();
            let write = Write::PutTransfer(Box::new(ended));
            store.commit(Change::new(entry(Kind::TransferTransition)).write(write)).await.unwrap();
        })
    });
    let (end, conflicts, entries) = request_with(&a, &b, &research(), Kind::KeyReleased, meanwhile).await;
    assert_eq!(end["stage"], "refused", "{end}");
    assert_eq!(conflicts, [Conflict::Process]);
    assert_eq!((released(&entries), rules(&entries).first().map(String::as_str)), (0, Some("state")));
}

/// Policy: the offer is replaced by one with another policy between the decision and the agreement.
#[tokio::test(flavor = "multi_thread")]
async fn another_policy_meanwhile() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let meanwhile: Meanwhile = Box::new(|store, change| {
        Box::pin(async move {
            let dataset = change.entries()[0].facts.dataset.clone().unwrap();
            let old = store.dataset(&dataset).await.unwrap().unwrap();
            let stricter = policy(&[("purpose", "eq", json!("planning"))]);
            let stricter = Policy::from_value(&stricter).unwrap();
            let new = VersionRow {
                version: 2,
                offer: OfferId::generate(&SystemRandomness::new()),
                policy: stricter.to_value(),
                policy_digest: stricter.digest(),
                manifest_digest: Digest::of(b"another manifest"),
                ..old
            };
            let write = Write::InsertVersion(Box::new(new));
            store.commit(Change::new(entry(Kind::DatasetPublished)).write(write)).await.unwrap();
        })
    });
    let (end, conflicts, entries) = request_with(&a, &b, &research(), Kind::NegotiationTransition, meanwhile).await;
    assert_eq!(end["stage"], "refused", "{end}");
    assert_eq!(conflicts, [Conflict::Offer]);
    assert_eq!((released(&entries), rules(&entries)), (0, vec!["offer".to_owned()]));
}

/// A conflict alone does not lead to a refusal: the repeated decision still permits.
#[tokio::test(flavor = "multi_thread")]
async fn decided_again_and_granted() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let once = policy(&[("count", "lteq", json!("2")), ("purpose", "eq", json!("research"))]);
    let meanwhile: Meanwhile = Box::new(|store, change| {
        Box::pin(async move {
            let used = change.writes.into_iter().find(|write| matches!(write, Write::CountUse { .. })).unwrap();
            store.commit(Change::new(entry(Kind::KeyReleased)).write(used)).await.unwrap();
        })
    });
    let (end, conflicts, entries) = request_with(&a, &b, &once, Kind::KeyReleased, meanwhile).await;
    assert_eq!(end["stage"], "verified", "{end}");
    assert_eq!((conflicts, released(&entries)), (vec![Conflict::UseCount], 2));
}
