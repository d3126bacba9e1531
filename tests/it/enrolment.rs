//! Creation of alliances and nodes, joining, configuration: invalid documents are refused.

use crate::harness::*;
use serde_json::Value;

fn bad(args: &[&str], code: i32, part: &str) {
    let output = crosspark(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(part), "{args:?}: {said}");
}

#[test]
fn fingerprints_are_compared_and_nothing_is_overwritten() {
    let alliance = Alliance::new();
    let park = Park::make(&alliance, "park-a");
    let (folder, path) = (text(&park.folder).to_owned(), alliance.path());
    let request = park.folder.join("join-request.json");
    let welcome = park.folder.with_extension("welcome");
    let wrong = "00".repeat(32);
    let admit = ["alliance", "admit", text(&path), "--request", text(&request), "--welcome", text(&welcome)];
    bad(&[&admit[..], &["--fingerprint", &wrong]].concat(), 1, "has the fingerprint");
    bad(&["alliance", "init", text(&path), "--id", "did:web:alliance.example"], 1, "never overwritten");
    let init = ["node", "init", &folder, "--id", "did:web:x.example", "--name", "en=X", "--jurisdiction", "CN"];
    bad(&[&init[..], &["--endpoint", "https://x.example"]].concat(), 1, "never overwritten");
    bad(&["serve", &folder], 1, "has not joined");

    // A join request in which one character was altered.
    let original = std::fs::read(&request).unwrap();
    let mut value: Value = serde_json::from_slice(&original).unwrap();
    let payload = value["payload"].as_str().unwrap();
    let altered = payload.replacen('a', "b", 1);
    value["payload"] = altered.into();
    std::fs::write(&request, value.to_string()).unwrap();
    bad(&[&admit[..], &["--fingerprint", &wrong]].concat(), 1, "join");
    std::fs::write(&request, original).unwrap();

    park.admit(&alliance);
    let join = ["node", "join", &folder, "--welcome", text(&welcome), "--root-fingerprint"];
    bad(&[&join[..], &[&wrong]].concat(), 1, "fingerprint");
    park.join(&alliance);
    let again = crosspark(&[&admit[..], &["--fingerprint", &wrong]].concat());
    assert!(!again.status.success());

    // A welcome that was made for another node.
    let other = Park::make(&alliance, "park-b");
    let join = ["node", "join", text(&other.folder), "--welcome", text(&welcome), "--root-fingerprint"];
    bad(&[&join[..], &[&alliance.fingerprint]].concat(), 1, "it is the welcome of did:web:park-a.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_one_node_and_no_secret_in_clear() {
    let alliance = Alliance::new();
    let [park] = alliance.parks(["park-a"]);
    let node = park.start().await;
    bad(&["serve", text(&park.folder)], 1, "in use by another process");
    park.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    park.get("auditor", "/v1/audit/entries").await;
    node.stop();
    // No file in the folder may contain the raw bytes of a key, a token or the text of the records.
    let kek = park.kek();
    let mut secrets: Vec<Vec<u8>> = vec![b"crosspark_".to_vec(), b"\"area\":".to_vec()];
    for usage in ["tls", "document", "log", "witness"] {
        let path = park.folder.join(format!("keys/{usage}.key"));
        secrets.push(crosspark::keys::KeyFile::load(&path, usage, &kek).unwrap().1.to_vec());
    }
    let mut files = vec![park.folder.clone()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
    assert!(!park.log().contains("crosspark_"));
}

#[test]
fn configuration_errors_name_the_key() {
    let alliance = Alliance::new();
    let [park] = alliance.parks(["park-a"]);
    let path = park.folder.join("crosspark.toml");
    let original = std::fs::read_to_string(&path).unwrap();
    for (from, to, part) in [
        ("[peer]", "listne = 1\n[peer]", "listne"),
        ("allow_private_addresses = true", "allow_private_addresses = \"yes\"", "peer.allow_private_addresses"),
        ("kek_file = \"", "kek_file = \"/nowhere", "/nowhere"),
        ("did:web:park-a.example", "did:web:park-b.example", "the keys in the folder belong to did:web:park-a.example"),
        ("endpoint = \"https://127.0.0.1", "endpoint = \"https://localhost", "the register lists"),
        ("level = \"info\"", "level = \"loud\"", "log.level"),
    ] {
        std::fs::write(&path, original.replacen(from, to, 1)).unwrap();
        bad(&["serve", text(&park.folder)], 1, part);
    }
    bad(&["serve", "/nowhere/crosspark.toml"], 1, "/nowhere/crosspark.toml");
}
