//! Loss of power at every sync: what was acknowledged is there, the node starts, and what was begun can be ended. The
//! folders are on a disk that keeps only what was synced, or any part of the rest; where no such file system can be
//! mounted, these tests print "skipped".

mod disk;
mod fuse;

use crate::ends::everything_ended_well;
use crate::harness::*;
use disk::{Disk, Loss, Step};
use fuse::{Recorded, Recording};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;

/// Losses tested in a run; `CROSSPARK_POWER=all` tests each.
const TESTED: usize = 60;

/// A moment at which the power fails, and what is lost.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Steps before.
    at: usize,
    loss: Loss,
}

impl Recorded {
    /// The power losses in every kind, at these moments and at the end, and before each sync of what is below this name:
    /// evenly some of the latter, unless all are asked for.
    fn cuts(&self, name: &str, moments: &[usize]) -> Vec<Cut> {
        let below = self.before.below(&self.steps, name);
        let syncs = self.steps.iter().enumerate();
        let syncs = syncs.filter(|(_, step)| matches!(step, Step::Sync(inode) if below.contains(inode)));
        let kinds = |at: usize| {
            let all = [Loss::All, Loss::Contents, Loss::Names, Loss::Sectors(at as u64), Loss::Some(at as u64)];
            all.map(|loss| Cut { at, loss })
        };
        let cuts: Vec<Cut> = syncs.map(|(at, _)| at).flat_map(kinds).collect();
        let all = std::env::var("CROSSPARK_POWER").is_ok_and(|which| which == "all");
        // Never a multiple of the number of kinds, so that each kind is among those tested.
        let each = if all { 1 } else { cuts.len().div_ceil(TESTED) };
        let each = each + usize::from(each.is_multiple_of(5));
        let told = moments.iter().copied().chain([self.steps.len()]).flat_map(kinds);
        let tested: Vec<Cut> = cuts.iter().copied().step_by(each).chain(told).collect();
        eprintln!("{name}: {} power losses, {} syncs", tested.len(), cuts.len() / 5);
        tested
    }

    /// The disk after a cut that hits only what is below this name: the other machine keeps its power.
    fn after(&self, cut: Cut, name: &str) -> Disk {
        let below = self.before.below(&self.steps[..cut.at], name);
        self.before.after(&self.steps[..cut.at], cut.loss, |inode| below.contains(&inode))
    }
}

/// What users were told, and after which step.
struct Told {
    tokens: usize,
    published: (usize, String),
    requested: (usize, Value),
    verified: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_survives_the_loss_of_power() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (text, once) = (records(500), policy(&[("count", "lteq", json!("1"))]));
    let Some(recording) = Recording::of(alliance.folder.path()) else { return };
    let (run_a, run_b) = (a.start().await, b.start().await);
    for role in ["publisher", "requester", "auditor"] {
        a.token_of(role).await;
        b.token_of(role).await;
    }
    let tokens = recording.steps();
    let (published, code) = a.publish("economic-indicator", &text, "ndjson", &once).await;
    assert_eq!(code, 0, "{published}");
    let dataset = dataset_of(&published).to_owned();
    let published = (recording.steps(), dataset.clone());
    let view = b.begin_request(&a, &dataset, "research").await;
    let requested = (recording.steps(), view.clone());
    assert_eq!(b.wait(&view, 60).await["stage"], "verified");
    let verified = recording.steps();
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
    let (told, recorded) = (Told { tokens, published, requested, verified }, recording.end());
    let kept = [a.tokens(), b.tokens()];

    for name in ["park-a", "park-b"] {
        let moments = [told.tokens, told.published.0, told.requested.0, told.verified];
        for cut in recorded.cuts(name, &moments) {
            recorded.after(cut, name).write(alliance.folder.path());
            let known = cut.at >= told.tokens;
            a.use_tokens(if known { &kept[0] } else { &[] });
            b.use_tokens(if known { &kept[1] } else { &[] });
            goes_on(&a, &b, &told, cut, &text, &once).await;
        }
    }
}

/// Both nodes start, have what users were told, and end what was begun.
async fn goes_on(a: &Park, b: &Park, told: &Told, cut: Cut, text: &str, once: &Value) {
    let (run_a, run_b) = (a.start().await, b.start().await);
    let found = a.get("publisher", "/v1/datasets").await["datasets"].as_array().unwrap().clone();
    let dataset = match found.first() {
        Some(found) => found["dataset"].as_str().unwrap().to_owned(),
        None => {
            assert!(cut.at < told.published.0, "{cut:?}: the published dataset is lost");
            dataset_of(&a.publish("economic-indicator", text, "ndjson", once).await.0).to_owned()
        }
    };
    let mut requests = b.get("requester", "/v1/requests").await["requests"].as_array().unwrap().clone();
    if requests.is_empty() {
        assert!(cut.at < told.requested.0, "{cut:?}: the request is lost");
        requests.push(b.begin_request(a, &dataset, "research").await);
    }
    if cut.at >= told.verified {
        assert_eq!(b.wait(&told.requested.1, 0).await["stage"], "verified", "{cut:?}");
    }
    everything_ended_well((a, b), (run_a, run_b), &requests, text).await;
}

/// A command of a sequence; its arguments may depend on what the earlier ones wrote.
type Command = fn(&Path) -> Vec<String>;

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

fn path(base: &Path, name: &str) -> String {
    text(&base.join(name)).to_owned()
}

fn root_fingerprint(base: &Path) -> String {
    good(&["alliance", "show", &path(base, "alliance")])["fingerprint"].as_str().unwrap().to_owned()
}

/// From nothing to a member whose keys were all replaced.
const SETUP: &[Command] = &[
    |base| words(&["alliance", "init", &path(base, "alliance"), "--id", "did:web:alliance.example"]),
    |base| {
        let init = ["node", "init", &path(base, "park"), "--id", "did:web:park.example", "--name", "en=Park"];
        let more = ["--jurisdiction", "CN", "--endpoint", "https://127.0.0.1:9", "--listen", "127.0.0.1:9"];
        words(&[&init[..], &more].concat())
    },
    |base| {
        let request = path(base, "park/join-request.json");
        let fingerprint = request_fingerprint(Path::new(&request));
        let admit = ["alliance", "admit", &path(base, "alliance"), "--request", &request, "--fingerprint"];
        words(&[&admit[..], &[&fingerprint, "--welcome", &path(base, "welcome.json")]].concat())
    },
    |base| {
        let join = ["node", "join", &path(base, "park"), "--welcome", &path(base, "welcome.json")];
        words(&[&join[..], &["--root-fingerprint", &root_fingerprint(base)]].concat())
    },
    |base| words(&["node", "rotate-kek", &path(base, "park")]),
    |base| {
        let rotate = ["node", "rotate", &path(base, "park"), "--key", "document", "--key", "tls", "--key", "log"];
        words(&[&rotate[..], &["--out", &path(base, "rotation.json")]].concat())
    },
    |base| {
        let rotate = ["alliance", "rotate", &path(base, "alliance"), "--request", &path(base, "rotation.json")];
        words(&[&rotate[..], &["--welcome", &path(base, "renewal.json")]].concat())
    },
    |base| words(&["node", "renew", &path(base, "park"), "--welcome", &path(base, "renewal.json")]),
    |base| words(&["backup", &path(base, "park"), "--out", &path(base, "park.tar")]),
    |base| words(&["restore", &path(base, "park.tar"), "--into", &path(base, "restored")]),
];

fn is_done_already(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    said.contains("already") || said.contains("never overwritten")
}

/// After each loss, the commands that had not ended can be given again, and the result is whole.
#[tokio::test]
async fn commands_survive_the_loss_of_power() {
    let folder = tempfile::tempdir().unwrap();
    // The names below one name of the root are those that lose power.
    let base = folder.path().join("all");
    std::fs::create_dir(&base).unwrap();
    let Some(recording) = Recording::of(folder.path()) else { return };
    let mut ended = Vec::new();
    for command in SETUP {
        let args = command(&base);
        good(&args.iter().map(String::as_str).collect::<Vec<_>>());
        ended.push(recording.steps());
    }
    let recorded = recording.end();
    for cut in recorded.cuts("all", &ended) {
        recorded.after(cut, "all").write(folder.path());
        for (command, _) in SETUP.iter().zip(&ended).filter(|(_, ended)| **ended > cut.at) {
            let args = command(&base);
            let given = crosspark(&args.iter().map(String::as_str).collect::<Vec<_>>());
            let said = String::from_utf8_lossy(&given.stderr);
            assert!(given.status.success() || is_done_already(&given), "{cut:?} {args:?}: {said}");
        }
        for name in ["park", "restored"] {
            let verify = ["audit", "verify", &path(&base, name), "--participant", "did:web:park.example"];
            let verified = crosspark(&[&verify[..], &["--root-fingerprint", &root_fingerprint(&base)]].concat());
            let report = String::from_utf8_lossy(&verified.stdout);
            assert!(verified.status.success(), "{cut:?} {name}: {report}");
        }
    }
}
