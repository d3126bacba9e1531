//! The operator's changes of members, and how they reach the parks.

use crate::harness::*;
use serde_json::{Value, json};

fn alliance_command(alliance: &Alliance, args: &[&str]) -> Value {
    let folder = alliance.path();
    good(&[&["alliance", args[0], text(&folder)], &args[1..]].concat())
}

/// Installs registers at a park from a file or folder; returns the number of its register.
fn install(park: &Park, from: &std::path::Path) -> u64 {
    let admin = park.admin_token();
    let said = good(&["members", "install", text(from), "--node", &park.management, "--token", &admin]);
    said["sequence"].as_u64().unwrap()
}

fn member<'a>(shown: &'a Value, id: &str) -> &'a Value {
    shown["members"].as_array().unwrap().iter().find(|member| member["id"] == id).unwrap_or(&Value::Null)
}

/// Groups, endpoint, names and callbacks of a member change, a suspension has a reason, a member is removed; a park that
/// missed several registers takes them from the operator's folder or from one file.
#[tokio::test(flavor = "multi_thread")]
async fn members_change() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run = a.start().await;
    let first = alliance_command(&alliance, &["show"])["sequence"].as_u64().unwrap();

    let args = ["change", &b.id, "--group", "energy", "--group", "pilot", "--name", "en=B", "--name", "zh=乙园区"];
    let shown = alliance_command(&alliance, &args);
    assert_eq!(member(&shown, &b.id)["groups"], json!(["energy", "pilot"]));
    assert_eq!(member(&shown, &b.id)["names"], json!({"en": "B", "zh": "乙园区"}));
    // The same once more makes no register.
    assert_eq!(alliance_command(&alliance, &args)["sequence"], shown["sequence"]);
    let before = member(&shown, &b.id)["callbacks"].clone();
    let shown = alliance_command(&alliance, &["change", &b.id, "--endpoint", "https://b.example:9443", "--no-groups"]);
    assert_eq!(member(&shown, &b.id)["endpoint"], "https://b.example:9443");
    assert_eq!(member(&shown, &b.id)["groups"], json!([]));
    assert_eq!(member(&shown, &b.id)["names"]["en"], "B");
    assert_eq!(member(&shown, &b.id)["callbacks"].as_array().unwrap().len(), before.as_array().unwrap().len());
    let shown = alliance_command(&alliance, &["change", &b.id, "--callback", "https://c.example/x"]);
    assert!(member(&shown, &b.id)["callbacks"].to_string().contains("https://c.example/x"));
    let shown = alliance_command(&alliance, &["suspend", &b.id, "--reason", "no contract"]);
    assert_eq!(member(&shown, &b.id)["reason"], "no contract");
    assert_eq!(shown["sequence"].as_u64().unwrap(), first + 4);

    // All four registers at once.
    assert_eq!(install(&a, &alliance.path()), first + 4);
    assert_eq!(install(&a, &alliance.path()), first + 4, "repeated");
    alliance_command(&alliance, &["reinstate", &b.id]);
    alliance_command(&alliance, &["remove", &b.id]);
    let shown = alliance_command(&alliance, &["show"]);
    assert_eq!(member(&shown, &b.id), &Value::Null);
    let path = |n: u64| alliance.path().join(format!("registers/{n}.jws"));
    let chain = [path(first + 5), path(first + 6)].map(|path| std::fs::read_to_string(path).unwrap());
    let file = alliance.folder.path().join("chain");
    std::fs::write(&file, chain.join("\n")).unwrap();
    assert_eq!(install(&a, &file), first + 6);
    // Old registers in a file or in a copy of the folder are left out.
    let all: Vec<String> = (1..=first + 6).map(|n| std::fs::read_to_string(path(n)).unwrap()).collect();
    std::fs::write(&file, all.join("\n")).unwrap();
    assert_eq!(install(&a, &file), first + 6);
    assert_eq!(install(&a, &alliance.path().join("registers")), first + 6);
    let listed = a.get("admin", "/v1/members").await;
    assert_eq!(listed["members"].as_array().unwrap().len(), 1, "{listed}");
    // A removed park can be admitted again.
    b.admit(&alliance);
    assert_eq!(install(&a, &alliance.path()), first + 7);
    run.stop();
}

/// What a repeated admission does not do is said.
#[test]
fn an_admission_with_other_groups_is_told() {
    let alliance = Alliance::new();
    let park = Park::make(&alliance, "park-a");
    park.admit(&alliance);
    let (folder, request) = (alliance.path(), park.folder.join("join-request.json"));
    let (fingerprint, welcome) = (request_fingerprint(&request), park.folder.with_extension("welcome"));
    let args = ["alliance", "admit", text(&folder), "--request", text(&request), "--fingerprint", &fingerprint];
    for (group, told) in [("pilot", "Admitted."), ("energy", "its groups stay as they are")] {
        let output = crosspark(&[&args[..], &["--group", group, "--welcome", text(&welcome)]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(told), "{said}");
    }
}

/// A file that belongs to another command or another park is named, with the command that takes it.
#[test]
fn wrong_files_are_named() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (folder, request) = (alliance.path(), a.folder.join("join-request.json"));
    let [rotation, register, proposal] = ["a.rotation", "register.jws", "p"].map(|name| folder.join(name));
    good(&["node", "rotate", text(&a.folder), "--certificate", "--out", text(&rotation)]);
    let (of_b, of_a) = (b.folder.with_extension("welcome"), a.folder.with_extension("welcome"));
    let (fingerprint, root) = (request_fingerprint(&request), &a.alliance_fingerprint);
    let admit = ["alliance", "admit", text(&folder), "--welcome", "w", "--fingerprint", &fingerprint, "--request"];
    let rotate = ["alliance", "rotate", text(&folder), "--welcome", "w", "--request"];
    let fresh = Park::make(&alliance, "park-c").folder;
    let join = ["node", "join", text(&fresh), "--root-fingerprint", root, "--welcome"];
    let renew = ["node", "renew", text(&a.folder), "--welcome"];
    let propose = ["alliance", "root", "propose", text(&folder), "--out", text(&proposal)];
    let change = ["alliance", "change", text(&folder), &b.id, "--endpoint", &a.endpoint];
    let install = ["alliance", "root", "install", text(&folder)];
    for (args, file, expected) in [
        (&admit[..], Some(&rotation), "is a rotation request, for `crosspark alliance rotate`"),
        (&rotate, Some(&request), "is a join request, for `crosspark alliance admit`"),
        (&join, Some(&request), "expected a welcome"),
        (&join, Some(&register), "is a register, for `crosspark members install`"),
        (&join, Some(&of_b), "it is the welcome of did:web:park-b.example, and this node is did:web:park-c.example"),
        (&renew, Some(&of_b), "it may be the answer to another park"),
        (&install, Some(&of_a), "is a welcome, for `crosspark node join`"),
        (&propose, None, "the proposal changes nothing"),
        (&[&propose[..], &["--threshold", "0"]].concat(), None, "the threshold must be between 1"),
        (&[&propose[..], &["--threshold", "2"]].concat(), None, "the threshold must be between 1"),
        (&[&propose[..4], &["--new-ca", "--out", text(&rotation)]].concat(), None, "exists already"),
        (&change, None, "did:web:park-a.example has the endpoint"),
        (&["alliance", "show", text(&a.folder)], None, "is the folder of a node, not of an alliance"),
        (&["restore", text(&rotation), "--into", text(&proposal)], None, "it is not an archive"),
    ] {
        let output = crosspark(&[args, &file.iter().map(|path| text(path)).collect::<Vec<_>>()].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(expected), "{expected}: {said}");
    }
    let wrong = ["audit", "verify", text(&a.folder), "--participant", &b.id, "--root-fingerprint", root];
    let said = String::from_utf8(crosspark(&wrong).stderr).unwrap();
    assert!(said.contains("holds the log park-a.example/log/1, not that of did:web:park-b.example"), "{said}");
    // A key-encryption key of another node: the error says it once.
    std::fs::copy(b.folder.with_extension("kek"), a.folder.with_extension("kek")).unwrap();
    let said = String::from_utf8(crosspark(&["serve", text(&a.folder)]).stderr).unwrap();
    assert_eq!(said.matches("belongs to another node").count(), 1, "{said}");
}

/// No certificate names the host of another member.
#[test]
fn a_host_belongs_to_one_member() {
    let alliance = Alliance::new();
    Park::make(&alliance, "park-a").admit(&alliance);
    let (evil, folder) = (alliance.folder.path().join("evil"), alliance.path());
    let [peers, users] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let args = ["node", "init", text(&evil), "--id", "did:web:evil.example", "--name", "en=E", "--jurisdiction", "CN"];
    let more = ["--endpoint", "https://park-a.example:9443", "--listen", &peers, "--management", &users];
    good(&[&args[..], &more].concat());
    let (request, welcome) = (evil.join("join-request.json"), evil.with_extension("welcome"));
    let fingerprint = request_fingerprint(&request);
    let args = ["alliance", "admit", text(&folder), "--request", text(&request), "--fingerprint", &fingerprint];
    let output = crosspark(&[&args[..], &["--welcome", text(&welcome)]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("each member needs its own"), "{said}");
}
