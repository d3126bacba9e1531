//! Backups of running nodes, and the restoration of old ones.

use crate::harness::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn backup(park: &Park, name: &str) -> PathBuf {
    let archive = park.folder.with_extension(name);
    good(&["backup", text(&park.folder), "--out", text(&archive)]);
    archive
}

/// Replaces the park's folder with a backup, and returns where the original was moved.
fn put_back(park: &Park, archive: &Path) -> PathBuf {
    let aside = archive.with_extension("aside");
    std::fs::rename(&park.folder, &aside).unwrap();
    good(&["restore", text(archive), "--into", text(&park.folder)]);
    aside
}

async fn ready(park: &Park) -> (u16, Value) {
    park.call("GET", "/readyz", "", None).await
}

async fn until_up(park: &Park) {
    for _ in 0..400 {
        let client = crosspark::net::own_node_client().unwrap();
        if client.get(format!("{}/healthz", park.management)).send().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} does not come up: {}", park.id, park.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_node_restores_all_of_it() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text_of = records(2_000);
    let (published, _) = a.publish("economic-indicator", &text_of, "ndjson", &research()).await;
    let dataset = dataset_of(&published).to_owned();
    let first = b.request(&a, &dataset, "research").await;
    // Both nodes are busy while they are backed up.
    let busy = futures_util::future::join_all((0..5).map(|_| b.request(&a, &dataset, "research")));
    let (_, archives) = tokio::join!(busy, async { [backup(&a, "tar"), backup(&b, "tar")] });
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();

    // A node that is started from a restored folder beside the original cannot listen. The folder stays unsettled,
    // because the peers' present checkpoints say nothing about a later start.
    let (run_a, run_b) = (a.start().await, b.start().await);
    let beside = a.folder.with_extension("beside");
    good(&["restore", text(&archives[0]), "--into", text(&beside)]);
    let output = crosspark(&["serve", text(&beside)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("cannot listen on"), "{said}");
    assert!(beside.join("restored").exists());
    let doctor = crosspark(&["doctor", text(&beside)]).stdout;
    assert!(String::from_utf8(doctor).unwrap().contains("! restored folder: the node is read-only until"));
    run_a.stop();
    run_b.stop();

    // A restored consumer still has its data; its peer holds no newer checkpoint of its log.
    put_back(&b, &archives[1]);
    let (run_a, run_b) = (a.start().await, b.spawn(&[]));
    until_up(&b).await;
    for _ in 0..200 {
        if ready(&b).await.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ready(&b).await.0, 200, "{}", b.log());
    assert_eq!(b.data(&first, "ndjson").await, text_of);
    assert!(b.entries().await.iter().any(|row| row["entry"]["kind"] == "log.resumed"));
    assert_eq!(b.request(&a, &dataset, "research").await["stage"], "verified");
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
    assert_eq!(b.verify(&[]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_what_others_saw_stays_read_only() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(10), "ndjson", &research()).await;
    let dataset = dataset_of(&published).to_owned();
    let archive = backup(&a, "tar");
    // Releases after the backup, covered by a checkpoint that park B receives.
    assert_eq!(b.request(&a, &dataset, "research").await["stage"], "verified");
    run_a.stop();
    let run_a = a.start().await;
    assert_eq!(b.request(&a, &dataset, "research").await["stage"], "verified");
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();

    let newest = put_back(&a, &archive);
    let run_a = a.spawn(&[]);
    until_up(&a).await;
    let (status, said) = ready(&a).await;
    assert!(status == 503 && said["detail"].as_str().unwrap().contains("did:web:park-b.example holds"), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("Restore a newer backup"), "{said}");
    // The node is read-only: no publication, no agreement, no key release.
    let (said, code) = a.publish("economic-indicator", &records(1), "ndjson", &research()).await;
    assert!(code == 1 && said.to_string().contains("read-only"), "{said}");
    let pending = b.begin_request(&a, &dataset, "research").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waiting = b.wait(&pending, 0).await;
    assert_eq!(waiting["stage"], "requested");
    let why = waiting["waitsFor"].as_str().unwrap();
    assert!(why.contains("The provider refused (503): this node is read-only"), "the requester learns why: {why}");
    run_a.kill();
    // The node stays read-only when the peer with the newer checkpoint is unreachable.
    run_b.kill();
    let run_a = a.spawn(&[]);
    until_up(&a).await;
    assert!(ready(&a).await.1["detail"].as_str().unwrap().contains("Restore a newer backup"));
    run_a.kill();
    let run_b = b.start().await;

    // With the original folder, everything continues.
    std::fs::remove_dir_all(&a.folder).unwrap();
    std::fs::rename(&newest, &a.folder).unwrap();
    let run_a = a.start().await;
    assert_eq!(b.wait(&pending, 60).await["stage"], "verified", "{}", b.log());
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[&b]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_waits_for_every_active_peer() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run_a = a.start().await;
    let archive = backup(&a, "tar");
    run_a.stop();
    put_back(&a, &archive);
    let run_a = a.spawn(&[]);
    until_up(&a).await;
    let (status, said) = ready(&a).await;
    assert!(status == 503 && said["detail"].as_str().unwrap().contains("did:web:park-b.example must first"), "{said}");
    let run_b = b.start().await;
    for _ in 0..200 {
        if ready(&a).await.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ready(&a).await.0, 200, "{}", a.log());
    run_a.stop();
    run_b.stop();
}

/// The restored folder does not know the log key that signed the peers' checkpoints: it gets the newest register before
/// it signs anything.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_folder_learns_of_newer_keys_before_it_signs() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(10), "ndjson", &research()).await;
    let archive = backup(&a, "tar");
    let (request, welcome) = (a.folder.with_extension("rotation"), a.folder.with_extension("welcome"));
    good(&["node", "rotate", text(&a.folder), "--key", "log", "--out", text(&request)]);
    let folder = alliance.path();
    let rotate = ["alliance", "rotate", text(&folder), "--request", text(&request), "--welcome", text(&welcome)];
    good(&[&rotate[..], &["--overlap-days", "0"]].concat());
    for park in [&a, &b] {
        let client = crosspark::net::own_node_client().unwrap();
        let request = client.post(format!("{}/v1/register", park.management)).bearer_auth(park.admin_token());
        assert!(request.body(alliance.register()).send().await.unwrap().status().is_success());
    }
    run_a.stop();
    let run_a = a.start().await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    assert_eq!(end["stage"], "verified", "{end}");
    run_b.settle().await;
    run_a.stop();
    put_back(&a, &archive);
    let run_a = a.spawn(&[]);
    until_up(&a).await;
    let (status, said) = ready(&a).await;
    assert!(status == 503 && said["detail"].as_str().unwrap().contains("park-b.example holds"), "{said}");
    let signed = || {
        let state = rusqlite::Connection::open(a.folder.join("state.db")).unwrap();
        let sql = "SELECT (SELECT COUNT(*) FROM entry), (SELECT COUNT(*) FROM checkpoint)";
        state.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap()
    };
    let before = signed();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(signed(), before, "entries or checkpoints were added");
    assert_eq!(a.get("admin", "/v1/status").await["register"]["sequence"], 4, "the newer register is installed");
    run_a.kill();
    run_b.stop();
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let archive = backup(&a, "tar");
    let bytes = std::fs::read(&archive).unwrap();
    let evil = |name: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let mut altered = bytes.clone();
    let at = bytes.windows(11).position(|window| window == b"participant").unwrap();
    altered[at] ^= 1;
    for (what, bytes) in [
        ("cut", bytes[..bytes.len() / 2].to_vec()),
        ("without its list", bytes[..bytes.len() - 4_096].to_vec()),
        ("altered", altered),
        ("outside the folder", evil("../escaped")),
        ("absolute", evil("/tmp/crosspark-escaped")),
        ("nothing", b"not an archive".to_vec()),
    ] {
        let path = alliance.folder.path().join("bad.tar");
        std::fs::write(&path, bytes).unwrap();
        let into = alliance.folder.path().join("into");
        let output = crosspark(&["restore", text(&path), "--into", text(&into)]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("bad.tar"), "{what}: {said}");
        let left: Vec<_> = std::fs::read_dir(alliance.folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with("into") || name == "escaped"), "{left:?}");
    }
    let again = crosspark(&["backup", text(&a.folder), "--out", text(&archive)]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("never overwritten"));
    let taken = crosspark(&["restore", text(&archive), "--into", text(&a.folder)]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("a new folder"));
}

/// `audit verify` reads a backup archive; a checkpoint of another log and an older copy are faults of the report.
#[tokio::test(flavor = "multi_thread")]
async fn auditors_read_archives() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    // A node that stops signs a last checkpoint.
    run_a.stop();
    let (archive, folder) = (alliance.folder.path().join("a.tar"), alliance.folder.path());
    good(&["backup", text(&a.folder), "--out", text(&archive)]);
    let run_a = a.start().await;
    a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    run_a.stop();
    let run_a = a.start().await;
    let note = async |park: &Park| {
        let client = park.client(&alliance, park.identity());
        client.get(format!("{}/log/checkpoint", park.endpoint)).send().await.unwrap().text().await.unwrap()
    };
    let (newer, foreign) = (folder.join("newer"), folder.join("foreign"));
    std::fs::write(&newer, note(&a).await).unwrap();
    std::fs::write(&foreign, note(&b).await).unwrap();
    let verify = |more: &[&str]| {
        let args =
            ["audit", "verify", text(&archive), "--participant", &a.id, "--root-fingerprint", &alliance.fingerprint];
        let output = crosspark(&[&args[..], more].concat());
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, report) = verify(&[]);
    assert!(code == 0 && report.contains("\nverified"), "{report}");
    // Without its checkpoints, a log proves nothing.
    let stripped = folder.join("stripped");
    assert!(std::process::Command::new("cp").arg("-r").args([&a.folder, &stripped]).status().unwrap().success());
    let database = rusqlite::Connection::open(stripped.join("state.db")).unwrap();
    database.execute_batch("DELETE FROM checkpoint").unwrap();
    drop(database);
    let args =
        ["audit", "verify", text(&stripped), "--participant", &a.id, "--root-fingerprint", &alliance.fingerprint];
    let output = crosspark(&args);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(4) && report.contains("NOT VERIFIED"), "{report}");
    for (file, told) in [(&newer, "this copy is older"), (&foreign, "WRONG        checkpoint")] {
        let (code, report) = verify(&["--checkpoint", text(file)]);
        assert!(code == 4 && report.contains(told) && report.contains(text(file)), "{report}");
    }
    run_a.stop();
    run_b.stop();
}

/// A peer whose log became shorter: the alarm is in the log of the node that holds a newer checkpoint, and in its status.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_stands_in_the_status() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    a.start().await.stop();
    let old = alliance.folder.path().join("old");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    };
    copy(&a.folder, &old);
    let (run_a, here) = (a.start().await, b.start_here(Default::default()).await);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    assert_eq!(b.request(&a, dataset_of(&published), "research").await["stage"], "verified");
    run_a.settle().await;
    // A node that stops signs a checkpoint, which the other one reads.
    run_a.stop();
    let run_a = a.start().await;
    here.services.membership.observe_checkpoints().await;
    here.stop().await;
    run_a.stop();
    // The old folder is started while nobody can tell that it is old.
    copy(&old, &a.folder);
    let run_a = a.start().await;
    let here = b.start_here(Default::default()).await;
    let warned = async || {
        let status = b.get("admin", "/v1/status").await;
        status["health"]["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("became shorter"))
    };
    assert!(!warned().await);
    here.services.membership.observe_checkpoints().await;
    assert!(warned().await, "{}", b.get("admin", "/v1/status").await);
    here.stop().await;
    run_a.kill();
    // After a restart, too.
    let here = b.start_here(Default::default()).await;
    assert!(warned().await);
    here.stop().await;
}
