use super::connection::connect;
use super::writer::Job;
use super::*;
use crate::audit::check::{Check, Held};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Draft, Facts, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId, Text, TokenId};
use crate::core::random::SystemRandomness;
use crate::core::time::NodeClock;
use crate::identity::key::SigningKey;
use crate::storage::{Change, Conflict, Guard, Maintenance, Store, StoreError, TokenRow, Write};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use zeroize::Zeroizing;

fn park() -> ParticipantId {
    ParticipantId::parse("did:web:a.example").unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed(park().key(3), &Zeroizing::new([7; 32]))
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, park().log_origin(0), Arc::new(key()), NodeClock::of_system()).unwrap()
}

fn draft() -> Draft {
    Draft::new(Kind::TokenCreated, Facts::default(), &SystemRandomness::new())
}

fn token(n: u8) -> TokenRow {
    let text = Text::parse("x").unwrap();
    let at = crate::core::time::Timestamp::from_ms(0);
    let (id, hash) = (TokenId::generate(&SystemRandomness::new()), Digest::of(&[n]));
    TokenRow {
        id,
        hash,
        role: "admin".into(),
        person: text,
        enterprise: None,
        created: at,
        expires: at,
        revoked: false,
    }
}

fn check(folder: &Path) -> crate::audit::check::Report {
    let log = log_rows(&folder.join(FILE)).unwrap();
    let verify = |note: &String| Checkpoint::verify(note, &park().log_origin(0), &[key().public()]).unwrap();
    let notes = log.checkpoints().unwrap();
    let held = notes.iter().map(|note| Held { checkpoint: verify(note), source: "own".into() });
    let mut check = Check::new(park().log_origin(0), held.collect());
    for row in log.rows(0, usize::MAX >> 1).unwrap() {
        for tile in check.row(&row) {
            check.tile(&tile, log.tile(tile.level, tile.index).as_deref());
        }
    }
    for tile in check.partial() {
        check.tile(&tile, log.tile(tile.level, tile.index).as_deref());
    }
    check.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_whole_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.commit(Change::new(draft()).write(Write::InsertToken(token(1)))).await.unwrap();
    let doomed = Change::new(draft()).write(Write::InsertToken(token(2))).write(Write::InsertToken(token(1)));
    assert_eq!(store.commit(doomed).await, Err(StoreError::Conflict(Conflict::Token)));
    let guarded = Change::new(draft()).write(Write::InsertToken(token(3))).guard(Guard::Register(7));
    assert_eq!(store.commit(guarded).await, Err(StoreError::Conflict(Conflict::Register)));
    let moved = Guard::Process(ProcessId::parse("urn:uuid:1").unwrap(), 1);
    assert_eq!(store.commit(Change::new(draft()).guard(moved)).await, Err(StoreError::Conflict(Conflict::Process)));
    assert_eq!(store.tokens().await.unwrap().len(), 1);
    assert_eq!(store.entries(0, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_survives_restarts_and_finds_every_alteration() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let store = Arc::new(open(folder.path()));
        let commits = (0..150).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let opening = FieldOpening::new("person", Text::parse("Li").unwrap(), &SystemRandomness::new());
                store.commit(Change::new(draft().with_field(opening)).entry(draft())).await.unwrap()
            })
        });
        for commit in commits.collect::<Vec<_>>() {
            assert_eq!(commit.await.unwrap().len(), 2);
        }
        store.maintain(vec![Maintenance::Checkpoint]).await.unwrap();
    }
    let report = check(folder.path());
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.entries, report.covered), (900, 900));
    let last = report.checkpoints;
    assert!(last >= 3);

    for (sql, index, artifact) in [
        ("UPDATE entry SET body = replace(body, 'token.created', 'token.revoked') WHERE n = 500", 500, "entry"),
        ("UPDATE entry SET salt = zeroblob(32) WHERE n = 17", 17, "entry"),
        ("UPDATE entry SET id = 'urn:uuid:other' WHERE n = 801", 801, "entry"),
        ("UPDATE entry SET leaf = zeroblob(32) WHERE n = 3", 3, "entry"),
        ("DELETE FROM entry WHERE n = 250", 250, "entry"),
        ("DELETE FROM entry WHERE n >= 890", 890, "checkpoint"),
        ("UPDATE field SET value = 'Wang' WHERE entry = (SELECT id FROM entry WHERE n = 40)", 40, "entry"),
        ("UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 1", 256, "tile"),
        ("UPDATE tile SET data = zeroblob(96) WHERE level = 1", 0, "tile"),
    ] {
        let copy = tempfile::tempdir().unwrap();
        let from = Connection::open(folder.path().join(FILE)).unwrap();
        from.execute("VACUUM INTO ?1", [copy.path().join(FILE).to_str().unwrap()]).unwrap();
        let to = Connection::open(copy.path().join(FILE)).unwrap();
        to.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        // Batches interleave, so that the entry with the altered field may be a neighbour.
        let index = if sql.contains("UPDATE field") {
            to.query_row("SELECT n FROM entry WHERE id IN (SELECT entry FROM field) AND n >= 40 LIMIT 1", [], |r| {
                r.get::<_, i64>(0)
            })
            .unwrap() as u64
        } else {
            index
        };
        to.execute(&sql.replace("n = 40", &format!("n = {index}")), []).unwrap();
        drop(to);
        let report = check(copy.path());
        let first = report.faults.first().unwrap_or_else(|| panic!("{sql}: not found"));
        assert_eq!((first.index, first.artifact), (index, artifact), "{sql}: {first:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_log_is_found_by_a_checkpoint_held_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for _ in 0..10 {
        store.commit(Change::new(draft())).await.unwrap();
    }
    store.maintain(vec![Maintenance::Checkpoint]).await.unwrap();
    let held = store.checkpoint().await.unwrap().unwrap();
    drop(store);
    // The park forges another, longer log, which is consistent and signed.
    let forged = tempfile::tempdir().unwrap();
    let store = open(forged.path());
    for _ in 0..12 {
        store.commit(Change::new(draft())).await.unwrap();
    }
    store.maintain(vec![Maintenance::Checkpoint]).await.unwrap();
    drop(store);
    assert!(check(forged.path()).is_good());
    let log = log_rows(&forged.path().join(FILE)).unwrap();
    let checkpoint = Checkpoint::verify(&held, &park().log_origin(0), &[key().public()]).unwrap();
    let mut check = Check::new(park().log_origin(0), vec![Held { checkpoint, source: "peer".into() }]);
    log.rows(0, 100).unwrap().iter().for_each(|row| drop(check.row(row)));
    let report = check.finish();
    assert_eq!(report.faults[0].artifact, "checkpoint");
    assert!(report.faults[0].reason.contains("entries 0 to 9"), "{:?}", report.faults[0]);
}

/// The disk becomes full in the middle of a batch, where SQLite may roll back everything. Nothing of the batch may
/// remain then, and no lost change may have been acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_a_whole_log() {
    for pages in [60u32, 75, 90, 120, 150] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        drop(open(folder.path()));
        let connection = connect(&path, true).unwrap();
        // A small cache makes the batch spill before its commit, as a large batch would on a full disk.
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages}; PRAGMA cache_size = 5")).unwrap();
        let (count, _) = watch::channel(0);
        let (origin, key) = (park().log_origin(0), Arc::new(key()));
        let writer =
            writer::Writer::open(connection, origin, key, NodeClock::of_system(), count, Arc::default()).unwrap();
        let (jobs, queue) = std::sync::mpsc::sync_channel(100);
        let mut answers = Vec::new();
        for n in 0..40u8 {
            let mut draft = draft();
            draft.facts.detail.insert("filler".into(), "x".repeat(if n % 3 == 0 { 30_000 } else { 300 }).into());
            let (reply, answer) = oneshot::channel();
            let change = Change::new(draft).write(Write::InsertToken(token(n)));
            jobs.send(Job::Commit(Box::new(change), reply)).unwrap();
            answers.push(answer);
        }
        drop(jobs);
        std::thread::spawn(move || writer.run(&queue)).join().unwrap();
        let mut taken = 0;
        for answer in answers {
            taken += u64::from(answer.await.is_ok_and(|answer| answer.is_ok()));
        }
        assert!(taken < 40, "{pages} pages sufficed for all changes");
        let store = open(folder.path());
        assert_eq!(store.tokens().await.unwrap().len() as u64, taken, "{pages}");
        store.commit(Change::new(draft())).await.unwrap();
        drop(store);
        // The last handle was dropped; the writer thread still signs the remaining entries.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let report = check(folder.path());
        assert!(report.is_good(), "{pages}: {report:?}");
        assert_eq!(report.entries, taken + 1, "{pages}");
    }
}
