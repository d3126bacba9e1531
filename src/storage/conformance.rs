//! Conformance tests that every backend must pass.

use super::memory::{Disk, MemoryStore};
use super::sqlite::SqliteStore;
use super::{
    Change, Conflict, Guard, IdempotencyRow, Maintenance, Outgoing, SchemaRow, Store, StoreError, SubscriptionRow,
    TokenRow, VersionRow, Write,
};
use crate::audit::entry::{Draft, Facts, Kind};
use crate::catalog::About;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, KeyId, MessageId, OfferId, ParticipantId, ProcessId, SubscriptionId, Text, TokenId};
use crate::core::limits;
use crate::core::random::SystemRandomness;
use crate::core::time::{Clock, NodeClock, SystemClock, Timestamp};
use crate::dataset::manifest::SchemaRef;
use crate::identity::key::SigningKey;
use crate::negotiation::{Negotiation, Role, State, Subject};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

fn park() -> ParticipantId {
    ParticipantId::parse("did:web:a.example").unwrap()
}

fn change() -> Change {
    Change::new(Draft::new(Kind::TokenCreated, Facts::default(), &SystemRandomness::new()))
}

fn token(n: u8) -> TokenRow {
    let at = Timestamp::from_ms(0);
    TokenRow {
        id: TokenId::parse(&format!("urn:uuid:{n}")).unwrap(),
        hash: Digest::of(&[n]),
        role: "admin".into(),
        person: Text::parse("x").unwrap(),
        enterprise: None,
        created: at,
        expires: at,
        revoked: false,
    }
}

fn message(n: u8, process: &str) -> Outgoing {
    Outgoing {
        id: MessageId::parse(&format!("urn:uuid:message-{n}")).unwrap(),
        to: park(),
        process: ProcessId::parse(process).unwrap(),
        message: serde_json::json!({"n": n}),
        callback: None,
        trace: None,
        attempts: 0,
        conflicts: 0,
        failure: String::new(),
    }
}

fn source() -> crate::source::Source {
    let text = serde_json::json!({
        "name": "meters", "revision": 1, "dataset": "urn:uuid:d", "since": Timestamp::from_ms(0),
        "owner": {"token": "t", "person": "P"}, "progress": {},
        "definition": {
            "input": {"kind": "pushed"},
            "publication": {"title": "T", "schema": "urn:s", "policy": {}, "format": "ndjson"},
        },
    });
    serde_json::from_value(text).unwrap()
}

async fn conforms(store: &dyn Store) {
    let conflict = |what| Err(StoreError::Conflict(what));
    // A change is atomic and includes its log entry.
    store.commit(change().write(Write::InsertToken(token(1)))).await.unwrap();
    let doomed = change().write(Write::InsertToken(token(2))).write(Write::InsertToken(token(1)));
    assert_eq!(store.commit(doomed).await.map(drop), conflict(Conflict::Token));
    assert_eq!(store.commit(change().guard(Guard::Register(7))).await.map(drop), conflict(Conflict::Register));
    assert_eq!((store.tokens().await.unwrap().len(), store.stats().await.unwrap().entries), (1, 1));
    let id = token(1).id;
    store.commit(change().write(Write::RevokeToken(id.clone()))).await.unwrap();
    assert_eq!(store.commit(change().write(Write::RevokeToken(id.clone()))).await.map(drop), conflict(Conflict::Token));
    assert!(store.token(&Digest::of(&[1])).await.unwrap().unwrap().revoked);

    // A schema is kept once; a statement that was missing is added, and never replaced.
    let kept = |statement: Option<&str>| {
        let (digest, id) = (Digest::of(b"schema"), "urn:test:x".to_owned());
        let row = SchemaRow {
            digest,
            id,
            version: "1.0.0".into(),
            title: "X".into(),
            statement: statement.map(str::to_owned),
        };
        change().write(Write::PutSchema(Box::new(row), "{}".into()))
    };
    assert_eq!(store.schema(&Digest::of(b"schema")).await.unwrap(), None);
    store.commit(kept(None)).await.unwrap();
    assert_eq!(store.commit(kept(None)).await.map(drop), conflict(Conflict::Schema));
    store.commit(kept(Some("a"))).await.unwrap();
    assert_eq!(store.commit(kept(Some("b"))).await.map(drop), conflict(Conflict::Schema));
    let (row, text) = store.schema(&Digest::of(b"schema")).await.unwrap().unwrap();
    assert_eq!((row.statement.as_deref(), text.as_str()), (Some("a"), "{}"));
    assert_eq!((store.schemas(9).await.unwrap(), store.schemas(0).await.unwrap()), (vec![row], vec![]));

    // A source is replaced only by its successor; the start of a run is no revision.
    let source = |revision| crate::source::Source { revision, ..source() };
    let put = |revision| change().write(Write::PutSource(Box::new(source(revision))));
    store.commit(put(1)).await.unwrap();
    store.commit(put(2)).await.unwrap();
    for revision in [1, 2, 4] {
        assert_eq!(store.commit(put(revision)).await.map(drop), conflict(Conflict::Source), "{revision}");
    }
    let (name, at) = (source(1).name, Timestamp::from_ms(7));
    store.maintain(vec![Maintenance::SourceRunning { name: name.clone(), at }]).await.unwrap();
    let found = store.source(&name).await.unwrap().unwrap();
    assert_eq!((found.revision, found.progress.running), (2, Some(at)));
    assert_eq!(store.sources().await.unwrap(), [found]);
    let remove = || change().write(Write::RemoveSource(name.clone()));
    store.commit(remove()).await.unwrap();
    assert_eq!(store.commit(remove()).await.map(drop), conflict(Conflict::Source));
    assert_eq!(store.source(&name).await.unwrap(), None);

    // So is a subscription.
    let row = |revision| SubscriptionRow {
        id: SubscriptionId::parse("s").unwrap(),
        revision,
        provider: park(),
        dataset: DatasetId::parse("urn:uuid:d").unwrap(),
        purpose: Text::parse("planning").unwrap(),
        enterprise: Text::parse("E").unwrap(),
        person: Text::parse("P").unwrap(),
        token: TokenId::parse("t").unwrap(),
        since: at,
        version: revision,
        request: None,
    };
    let put = |revision| change().write(Write::PutSubscription(Box::new(row(revision))));
    store.commit(put(1)).await.unwrap();
    store.commit(put(2)).await.unwrap();
    for revision in [1, 2, 4] {
        let put = store.commit(put(revision)).await.map(drop);
        assert_eq!(put, conflict(Conflict::Subscription), "{revision}");
    }
    assert_eq!(store.subscriptions().await.unwrap(), [row(2)]);
    let remove = || change().write(Write::RemoveSubscription(row(1).id));
    store.commit(remove()).await.unwrap();
    assert_eq!(store.commit(remove()).await.map(drop), conflict(Conflict::Subscription));

    // Registers are consecutive; each is found by its exact sequence.
    let register = |sequence| Write::InstallRegister { sequence, digest: Digest::of(b"r"), jws: sequence.to_string() };
    store.commit(change().write(register(4))).await.unwrap();
    assert_eq!(store.commit(change().write(register(6))).await.map(drop), conflict(Conflict::Register));
    store.commit(change().write(register(5)).guard(Guard::Register(4))).await.unwrap();
    let found = [store.register(3).await, store.register(4).await, store.register(6).await].map(Result::unwrap);
    assert_eq!((found, store.register_sequence().await.unwrap()), ([None, Some("4".into()), None], 5));
    let root = || Write::InstallRoot { version: 2, json: "{}".into() };
    store.commit(change().write(root())).await.unwrap();
    assert_eq!(store.commit(change().write(root())).await.map(drop), conflict(Conflict::RootDocument));
    assert_eq!(store.roots().await.unwrap(), ["{}"]);

    // A confirmed key that is put into quarantine again must be confirmed again.
    let key = (KeyId::parse("did:web:a.example#key-5").unwrap(), Digest::of(b"key"));
    for _ in 0..2 {
        store.commit(change().write(Write::Quarantine(key.clone()))).await.unwrap();
        assert_eq!(store.quarantined().await.unwrap(), std::slice::from_ref(&key));
        store.commit(change().write(Write::ConfirmKey(key.clone()))).await.unwrap();
        assert!(store.quarantined().await.unwrap().is_empty());
    }
    assert_eq!(store.commit(change().write(Write::ConfirmKey(key))).await.map(drop), conflict(Conflict::Quarantine));

    // A token's idempotency key has exactly one response.
    let now = SystemClock.now();
    let row =
        IdempotencyRow { token: id.clone(), key: "k".into(), request: Digest::of(b"q"), answer: "1".into(), at: now };
    store.commit(change().write(Write::IdempotencyKey(row.clone()))).await.unwrap();
    assert_eq!(
        store.commit(change().write(Write::IdempotencyKey(row.clone()))).await.map(drop),
        conflict(Conflict::IdempotencyKey)
    );
    assert_eq!(store.idempotent_request(&id, "k").await.unwrap(), Some(row));
    assert_eq!(store.idempotent_request(&token(2).id, "k").await.unwrap(), None);

    // Messages of one process are sent in order, independently of other processes; a retry delays only its own process.
    let mut sends = change();
    for (n, process) in [(1, "urn:uuid:p"), (2, "urn:uuid:p"), (3, "urn:uuid:q")] {
        sends = sends.send(message(n, process));
    }
    store.commit(sends).await.unwrap();
    let due = async || -> Vec<u64> {
        let rows = store.outbox_due(SystemClock.now().plus_ms(1_000), 10).await.unwrap();
        let mut found = Vec::new();
        for row in rows {
            assert_eq!(row.to, park());
            found.push(store.outgoing(&row.id).await.unwrap().unwrap().message["n"].as_u64().unwrap());
        }
        found
    };
    assert_eq!(due().await, [1, 3]);
    let attempts = async |process: &str| {
        let first = store.first_outgoing(&ProcessId::parse(process).unwrap()).await.unwrap();
        first.map(|first| (first.attempts, first.conflicts, first.failure))
    };
    assert_eq!((attempts("urn:uuid:p").await, attempts("urn:uuid:x").await), (Some((0, 0, String::new())), None));
    let later = SystemClock.now().plus_ms(60_000);
    store
        .maintain(vec![Maintenance::Retry {
            id: message(1, "urn:uuid:p").id,
            at: later,
            failure: "busy".into(),
            conflict: true,
        }])
        .await
        .unwrap();
    assert_eq!((due().await, attempts("urn:uuid:p").await), (vec![3], Some((1, 1, "busy".into()))));
    assert_eq!(store.outbox_next(SystemClock.now().plus_ms(1_000)).await.unwrap(), (Some(later), 3));
    store.maintain(vec![Maintenance::Sent(message(1, "urn:uuid:p").id)]).await.unwrap();
    assert_eq!(due().await, [2, 3]);
    let gone = Write::DropMessage(message(1, "urn:uuid:p").id);
    assert_eq!(store.commit(change().write(gone)).await.map(drop), conflict(Conflict::Outbox));

    // A checkpoint is found by its size, and the log indices are dense.
    store.maintain(vec![Maintenance::Checkpoint]).await.unwrap();
    let size = store.stats().await.unwrap().entries;
    let note = store.checkpoint().await.unwrap().unwrap();
    assert_eq!(store.checkpoint_at(size).await.unwrap(), Some(note));
    assert_eq!(store.checkpoint_at(size + 1).await.unwrap(), None);
    let entries = store.entries(0, 1_000).await.unwrap();
    assert!(entries.iter().enumerate().all(|(n, row)| row.index == n as u64) && entries.len() as u64 == size);
    assert_eq!(store.leaves(size - 1, 10).await.unwrap().len(), 1);
}

fn version(n: u64, of_dataset: u64, audience: &[&str]) -> VersionRow {
    let some = Digest::of(&[n.to_be_bytes(), of_dataset.to_be_bytes()].concat());
    VersionRow {
        dataset: dataset(n),
        version: of_dataset,
        title: Text::parse("x").unwrap(),
        description: String::new(),
        offer: OfferId::parse(&format!("urn:uuid:offer-{n}-{of_dataset}")).unwrap(),
        policy: serde_json::Value::Null,
        policy_digest: some,
        manifest: String::new(),
        manifest_digest: some,
        schema: SchemaRef { id: "x".into(), version: "1.0.0".into(), digest: some },
        records: 1,
        bytes: 1,
        blob: some,
        wrapped_key: String::new(),
        published: Timestamp::from_ms(0),
        about: About::default(),
        quality: Default::default(),
        audience: audience.iter().map(|key| (*key).to_owned()).collect(),
        withdrawn: None,
    }
}

fn dataset(n: u64) -> DatasetId {
    DatasetId::parse(&format!("urn:uuid:dataset-{n:04}")).unwrap()
}

/// For a caller with several keys, changes read in parts equal those read at once.
async fn tells_every_change(store: &dyn Store) {
    let put = async |row| store.commit(change().write(Write::InsertVersion(Box::new(row)))).await.map(drop).unwrap();
    for n in 0..150 {
        put(version(n, 1, if n % 2 == 0 { &["*"] } else { &["g:labs", "p:did:web:a.example"] })).await;
    }
    // Some versions change the audience to another key, some become invisible, and some are withdrawn.
    for n in 0..60 {
        put(version(n, 2, [&["g:labs"][..], &["*"], &["p:did:web:other.example"]][n as usize % 3])).await;
    }
    for n in [3, 70, 71] {
        let at = Timestamp::from_ms(1);
        store.commit(change().write(Write::Withdraw { dataset: dataset(n), at })).await.unwrap();
    }
    let keys = ["*", "g:labs", "p:did:web:a.example"].map(str::to_owned);
    let whole = store.changes(&keys, 0, 1_000).await.unwrap();
    let mut read = BTreeMap::new();
    let mut last = 0;
    for seen in &whole {
        assert!(seen.change > last, "change numbers increase");
        last = seen.change;
        assert!(read.insert(seen.dataset.clone(), seen.version.as_ref().map(|row| row.version)).is_none());
    }
    let expected = (0..150).map(|n| {
        let hidden = [3, 70, 71].contains(&n) || (n < 60 && n % 3 == 2);
        (dataset(n), (!hidden).then_some(if n < 60 { 2 } else { 1 }))
    });
    assert_eq!(read, expected.collect());
    for limit in [1, 7, 100] {
        let (mut parts, mut since) = (Vec::new(), 0);
        loop {
            let part = store.changes(&keys, since, limit).await.unwrap();
            let Some(newest) = part.last() else { break };
            since = newest.change;
            parts.extend(part);
        }
        assert_eq!(parts, whole, "in parts of {limit}");
    }
    // The pages of the catalog contain exactly the datasets that are not gone.
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.visible(&keys, after.as_ref(), 40).await.unwrap();
        let Some(end) = page.last() else { break };
        after = Some(end.dataset.clone());
        pages.extend(page.into_iter().map(|row| row.dataset));
    }
    let seen = read.into_iter().filter_map(|(id, version)| version.map(|_| id));
    assert_eq!(pages, seen.collect::<Vec<_>>());
}

fn negotiation(n: u64, state: State, revision: u64) -> Negotiation {
    Negotiation {
        id: ProcessId::parse(&format!("urn:uuid:00000000-0000-4000-8000-{n:012}")).unwrap(),
        role: Role::Provider,
        peer: park(),
        peer_pid: None,
        state,
        revision,
        subject: Subject {
            dataset: dataset(n),
            offer: OfferId::parse("urn:uuid:offer").unwrap(),
            policy: json!({}),
            asked: None,
            written: None,
            claim: None,
            purpose: None,
            enterprise: None,
        },
        callback: None,
        approval: None,
        agreement: None,
        reason: None,
        cancelled: false,
        seen: Vec::new(),
        trace: None,
        started: SystemClock.now(),
        updated: SystemClock.now(),
    }
}

/// The guards that limit what one holder has, and keep the last administrator.
async fn guards_limits(store: &dyn Store) {
    let put = |n: u64, state: State, revision: u64| Write::PutNegotiation(Box::new(negotiation(n, state, revision)));
    let limited = || change().guard(Guard::OpenProcesses(park(), 2));
    store.commit(limited().write(put(1, State::Requested, 1))).await.unwrap();
    store.commit(limited().write(put(2, State::Requested, 1))).await.unwrap();
    let third = store.commit(limited().write(put(3, State::Requested, 1))).await;
    assert_eq!(third.unwrap_err(), StoreError::Conflict(Conflict::OpenProcesses));
    store.commit(change().write(put(1, State::Terminated, 2))).await.unwrap();
    store.commit(limited().write(put(3, State::Requested, 1))).await.unwrap();

    let admin = |n: u8, expires: Timestamp| TokenRow { role: "admin".into(), expires, ..token(n) };
    let (now, later) = (SystemClock.now(), SystemClock.now().plus_ms(60_000));
    for (n, expires) in [(101, later), (102, later), (103, now.plus_ms(-1))] {
        store.commit(change().write(Write::InsertToken(admin(n, expires)))).await.unwrap();
    }
    let revoke = |n: u8| {
        let id = token(n).id;
        store.commit(change().guard(Guard::OtherAdmin(id.clone(), now)).write(Write::RevokeToken(id)))
    };
    revoke(101).await.unwrap();
    // The third one has expired.
    assert_eq!(revoke(102).await.unwrap_err(), StoreError::Conflict(Conflict::Token));

    // A decision that waited too long is made again: its entry would contradict it.
    let decided = |ago: i64| store.commit(change().guard(Guard::DecidedAt(SystemClock.now().plus_ms(-ago))));
    decided(limits::DECISION_AGE_MS_MAX / 2).await.unwrap();
    let old = decided(limits::DECISION_AGE_MS_MAX + 1_000).await;
    assert_eq!(old.unwrap_err(), StoreError::Conflict(Conflict::DecisionAge));
}

/// After the last checkpoint the log does not grow.
async fn closes(store: &dyn Store) {
    let racing = (0..20).map(|_| store.commit(change())).collect::<Vec<_>>();
    let closing = store.close();
    let (_, closed) = tokio::join!(futures_util::future::join_all(racing), closing);
    closed.unwrap();
    assert_eq!(store.commit(change()).await.unwrap_err(), StoreError::Closed);
    let size = store.stats().await.unwrap().entries;
    assert!(store.checkpoint_at(size).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backend() {
    let key = || Arc::new(SigningKey::from_seed(park().key(3), &Zeroizing::new([7; 32])));
    let (origin, clock) = (park().log_origin(0), NodeClock::of_system());
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path(), origin.clone(), key(), clock.clone()).unwrap();
    let memory = MemoryStore::open(&Disk::default(), origin, key(), clock);
    for store in [&sqlite as &dyn Store, &memory] {
        conforms(store).await;
        tells_every_change(store).await;
        guards_limits(store).await;
        closes(store).await;
    }
}
