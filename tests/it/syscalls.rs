//! The system calls by which a node makes things durable, each failing or being the last before the process dies. strace
//! puts the faults in; where it is absent or may not trace, these tests say "skipped".

use crate::ends::everything_ended_well;
use crate::harness::*;
use serde_json::json;
use std::process::Command;
use std::time::Duration;

/// What to do to which call, and up to which of its occurrences in one thread.
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
        eprintln!("skipped: strace is not here, or may not trace");
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
    // What a node took without being able to say so is delivered all the same.
    let token = b.token_of("requester").await;
    let (_, all) = b.call("GET", "/v1/requests", &token, None).await;
    let all = all["requests"].as_array().unwrap().clone();
    assert!(requests.iter().all(|request| all.iter().any(|known| known["id"] == request["id"])), "one was forgotten");
    let [run_a, run_b] = runs;
    everything_ended_well((&a, &b), (run_a, run_b), &all, &text).await;
}
