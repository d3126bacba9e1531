//! Faults in the system calls that make data durable: each call fails, or the process is killed at it. strace injects
//! the faults; if it is missing or may not trace, these tests print "skipped".

use crate::ends::everything_ended_well;
use crate::harness::*;
use serde_json::json;
use std::process::Command;
use std::time::Duration;

/// System call, injected fault, and number of occurrences per thread to test.
const INJECTIONS: &[(&str, &str, u32)] = &[
    ("fdatasync", "error=EIO", 12),
    ("fdatasync", "signal=KILL", 12),
    ("pwrite64", "error=ENOSPC", 40),
    ("pwrite64", "error=EIO", 30),
    ("pwrite64", "signal=KILL", 30),
    ("fsync", "error=EIO", 3),
    ("fsync", "signal=KILL", 3),
    ("rename", "error=ENOSPC", 1),
    ("rename", "signal=KILL", 1),
    ("unlink", "error=EIO", 1),
    ("ftruncate", "error=EIO", 2),
];

/// The traced program is the child itself (`-D`), so that killing it ends both.
fn strace(call: &str, what: &str, nth: u32) -> Vec<String> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={nth}"));
    ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned).to_vec()
}

fn can_trace() -> bool {
    let probe = strace("fsync", "error=EIO", 1);
    let ran = Command::new(&probe[0]).args(&probe[1..]).arg("true").status();
    let can = ran.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: strace is missing or may not trace");
    }
    can
}

#[tokio::test(flavor = "multi_thread")]
async fn each_durable_step_fails_or_is_the_last() {
    if !can_trace() {
        return;
    }
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let mut runs = [a.start().await, b.start().await];
    let (text, once) = (records(500), policy(&[("count", "lteq", json!("1"))]));
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &once).await;
    let dataset = dataset_of(&published).to_owned();
    let mut requests = Vec::new();
    for (call, what, most) in INJECTIONS {
        // Early occurrences one by one, later ones in larger steps.
        for nth in (1..=*most).filter(|nth| *nth <= 8 || nth % 4 == 0) {
            for (n, park) in [&a, &b].into_iter().enumerate() {
                let by = strace(call, what, nth);
                let by: Vec<&str> = by.iter().map(String::as_str).collect();
                runs[n] = {
                    let old = std::mem::replace(&mut runs[n], park.spawn(&["true"]));
                    old.kill();
                    park.spawn(&by)
                };
                let lives = runs[n].comes_up().await;
                let request = if lives || n == 0 { b.try_request(&a, &dataset, "research").await } else { None };
                for _ in 0..20 {
                    if runs[n].has_ended() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let again = park.spawn(&["true"]);
                std::mem::replace(&mut runs[n], again).kill();
                runs[n] = park.start().await;
                requests.extend(request);
            }
        }
    }
    assert!(requests.len() > 50, "only {} requests were taken", requests.len());
    // A request whose response was lost is delivered as well.
    let token = b.token_of("requester").await;
    let (_, all) = b.call("GET", "/v1/requests", &token, None).await;
    let all = all["requests"].as_array().unwrap().clone();
    assert!(requests.iter().all(|request| all.iter().any(|known| known["id"] == request["id"])), "a request was lost");
    let [run_a, run_b] = runs;
    everything_ended_well((&a, &b), (run_a, run_b), &all, &text).await;
}

/// Runs a command whose `nth` `call` fails or is killed; returns whether the command succeeded nevertheless.
fn interrupted(call: &str, what: &str, nth: u32, args: &[&str]) -> bool {
    let by = strace(call, what, nth);
    let output = Command::new(&by[0]).args(&by[1..]).arg(PROGRAM).args(args).output().unwrap();
    output.status.success() || is_done_already(&output)
}

fn is_done_already(output: &std::process::Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    said.contains("already") || said.contains("never overwritten")
}

/// Every command that changes an alliance's or node's folder is interrupted at each durable step and repeated: it
/// succeeds, nothing is signed twice, and the result works.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_were_interrupted_can_be_given_again() {
    if !can_trace() {
        return;
    }
    let mut points = 0;
    for (call, what) in [
        ("fsync", "signal=KILL"),
        ("fsync", "error=EIO"),
        ("rename", "signal=KILL"),
        ("rename", "error=ENOSPC"),
        ("link", "signal=KILL"),
        ("pwrite64", "signal=KILL"),
        ("mkdir", "error=ENOSPC"),
        ("unlink", "signal=KILL"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        let path = |name: &str| base.join(name).to_str().unwrap().to_owned();
        // Interrupts the command at the first, second, ... occurrence of the call and repeats it each time in the same
        // folder, until the call no longer occurs.
        let mut give = |args: &[&str], fresh: &[&str]| {
            for nth in (1..20).chain((20..1_000).step_by(15)) {
                fresh.iter().for_each(|name| drop(std::fs::remove_dir_all(base.join(name))));
                fresh.iter().for_each(|name| drop(std::fs::remove_file(base.join(format!("{name}.kek")))));
                let ended = interrupted(call, what, nth, args);
                points += 1;
                if ended {
                    return;
                }
                let again = crosspark(&[args, &["--json"]].concat());
                let said = String::from_utf8_lossy(&again.stderr);
                assert!(
                    again.status.success() || is_done_already(&again),
                    "{args:?} after {call} {nth} {what}: {said}"
                );
            }
            panic!("{args:?}: too many occurrences of {call}");
        };
        let (alliance, node) = (path("alliance"), path("park"));
        give(&["alliance", "init", &alliance, "--id", "did:web:alliance.example"], &["alliance"]);
        let shown = good(&["alliance", "show", &alliance]);
        let root = shown["fingerprint"].as_str().unwrap().to_owned();
        let init = ["node", "init", &node, "--id", "did:web:park.example", "--name", "en=Park", "--jurisdiction", "CN"];
        let init = [&init[..], &["--endpoint", "https://127.0.0.1:9", "--listen", "127.0.0.1:9"]].concat();
        give(&init, &["park"]);
        let request = path("park/join-request.json");
        let fingerprint = request_fingerprint(std::path::Path::new(&request));
        let welcome = path("welcome.json");
        let admit = ["alliance", "admit", &alliance, "--request", &request, "--fingerprint", &fingerprint];
        give(&[&admit[..], &["--welcome", &welcome]].concat(), &[]);
        give(&["node", "join", &node, "--welcome", &welcome, "--root-fingerprint", &root], &[]);
        give(&["alliance", "suspend", &alliance, "did:web:park.example", "--reason", "a test"], &[]);
        give(&["node", "rotate-kek", &node], &[]);
        let rotation = path("rotation.json");
        give(&["node", "rotate", &node, "--key", "document", "--key", "tls", "--out", &rotation], &[]);
        give(&["alliance", "rotate", &alliance, "--request", &rotation, "--welcome", &welcome], &[]);
        give(&["node", "renew", &node, "--welcome", &welcome], &[]);
        // The chain of registers has neither a gap nor a fork.
        let registers = std::fs::read_dir(base.join("alliance/registers")).unwrap().count();
        let shown = good(&["alliance", "show", &alliance]);
        assert_eq!(shown["sequence"], registers, "{call} {what}");
        let newest = std::fs::read(base.join("alliance/register.jws")).unwrap();
        assert_eq!(newest, std::fs::read(base.join(format!("alliance/registers/{registers}.jws"))).unwrap());
        let verify = ["audit", "verify", &node, "--participant", "did:web:park.example", "--root-fingerprint", &root];
        good(&verify);
    }
    assert!(points > 100, "only {points} points");
}

/// The node's disk is filled by a publication and by the log: writes that do not fit are refused without remains,
/// stored data is still served, and the node continues when there is space again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let aside = a.folder.with_extension("aside");
    std::fs::rename(&a.folder, &aside).unwrap();
    std::fs::create_dir(&a.folder).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs", text(&a.folder)]).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no small file system can be mounted here");
        return;
    }
    let _mounted = Mounted(a.folder.clone());
    let copied = Command::new("cp").args(["-a", &format!("{}/.", text(&aside)), text(&a.folder)]).status();
    assert!(copied.unwrap().success());
    let (run_a, run_b) = (a.start().await, b.start().await);
    let small = records(500);
    let (published, code) = a.publish("economic-indicator", &small, "ndjson", &research()).await;
    assert_eq!(code, 0, "{published}");
    let (withdrawn, _) = a.publish("economic-indicator", &records(50), "ndjson", &research()).await;
    let blobs = || std::fs::read_dir(a.folder.join("blobs")).unwrap().count();
    // The records are incompressible and larger than the disk.
    let noise: String = (0..400_000u64)
        .map(|n| format!("{{\"area\":\"{:x}\",\"period\":\"2024\",\"value\":{n}}}\n", noise_of(n)))
        .collect();
    let (said, code) = a.publish("economic-indicator", &noise, "ndjson", &research()).await;
    assert!(code == 1 && said.to_string().contains("less than the reserve"), "{code} {said}");
    assert_eq!(blobs(), 3, "the refused publication left files");
    // Now the disk has no space for the log.
    let filler = a.folder.join("filler");
    let _ = std::fs::write(&filler, vec![1; 4 << 20]);
    let mut refused = 0;
    for _ in 0..300 {
        let body = json!({"role": "auditor", "person": "x", "enterprise": null, "days": 1});
        let (status, said) = a.call("POST", "/v1/tokens", &a.admin_token(), Some(body)).await;
        assert!(status == 201 || (status == 503 && said.to_string().contains("full")), "{status} {said}");
        refused += u32::from(status == 503);
        if refused > 3 {
            break;
        }
    }
    assert!(refused > 3, "the disk was never full");
    // What ends something is still written.
    let path = format!("/v1/datasets/{}/withdrawal", dataset_of(&withdrawn));
    let body = Some(json!({"reason": "no longer needed"}));
    let (status, said) = a.call("POST", &path, &a.token_of("publisher").await, body).await;
    assert_eq!(status, 200, "{said}");
    let pending = b.try_request(&a, dataset_of(&published), "research").await;
    assert!(!a.get("publisher", "/v1/datasets").await["datasets"].as_array().unwrap().is_empty(), "reading works");
    std::fs::remove_file(&filler).unwrap();
    let end = match pending {
        Some(view) => b.wait(&view, 60).await,
        None => b.request(&a, dataset_of(&published), "research").await,
    };
    assert_eq!(end["stage"], "verified", "{end} {}", a.log());
    assert_eq!(b.data(&end, "ndjson").await, small);
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
}

fn noise_of(n: u64) -> u128 {
    let digest = crosspark::core::digest::Digest::of(&n.to_le_bytes());
    u128::from_le_bytes(digest.as_bytes()[..16].try_into().unwrap())
}

/// A mount point that is unmounted at the end of the test, also after a failure.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}
