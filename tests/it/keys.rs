//! New keys for members, new root documents, certification authorities and key-encryption keys during exchanges, and an
//! expired register.

use crate::harness::*;
use crosspark::assembly::Overrides;
use crosspark::core::time::{Clock, Timestamp};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

fn rotation(park: &Park) -> PathBuf {
    park.folder.with_extension("rotation")
}

/// Runs `node rotate` and returns its output.
fn ask_for(park: &Park, what: &[&str]) -> Value {
    let out = rotation(park);
    // A request is not overwritten.
    let _ = std::fs::remove_file(&out);
    good(&[&["node", "rotate", text(&park.folder), "--out", text(&out)], what].concat())
}

/// Runs `alliance rotate` and returns its exit code and error output.
fn grant(alliance: &Alliance, park: &Park, more: &[&str]) -> (i32, String) {
    let (folder, request, welcome) = (alliance.path(), rotation(park), park.folder.with_extension("welcome"));
    let args = ["alliance", "rotate", text(&folder), "--request", text(&request), "--welcome", text(&welcome)];
    let output = crosspark(&[&args, more].concat());
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn renew(park: &Park) {
    let welcome = park.folder.with_extension("welcome");
    good(&["node", "renew", text(&park.folder), "--welcome", text(&welcome)]);
}

async fn install(park: &Park, document: String) -> (u16, Value) {
    let path = if document.starts_with('{') { "/v1/root" } else { "/v1/register" };
    let url = format!("{}{path}", park.management);
    let request = crosspark::net::own_node_client().unwrap().post(url).bearer_auth(park.admin_token()).body(document);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn exchange(a: &Park, b: &Park, dataset: &str) -> Value {
    let end = b.request(a, dataset, "research").await;
    assert_eq!(end["stage"], "verified", "{end} {} {}", b.log(), a.log());
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gets_new_keys_while_data_flows() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text = records(150_000);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    for (rotating, other) in [(&b, &a), (&a, &b)] {
        ask_for(rotating, &["--key", "tls", "--key", "document", "--key", "log", "--key", "witness"]);
        let (code, said) = grant(&alliance, rotating, &[]);
        assert_eq!(code, 0, "{said}");
        renew(rotating);
        // Transfers are in progress while each node gets the new keys.
        let mut views = Vec::new();
        for _ in 0..3 {
            views.push(b.begin_request(&a, dataset, "research").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(install(other, alliance.register()).await.0, 200);
        assert_eq!(install(rotating, alliance.register()).await.0, 200);
        for view in views {
            let end = b.wait(&view, 60).await;
            assert_eq!(end["stage"], "verified", "{end} {} {}", b.log(), a.log());
        }
        // The nodes now sign and connect with the new keys.
        exchange(&a, &b, dataset).await;
        let member = rotating.member(&alliance);
        assert_eq!(member.keys.len(), 8);
        let entries = a.entries().await;
        let claim = entries.iter().rev().find_map(|row| row["entry"]["detail"]["claim"].as_str()).unwrap();
        let signer = crosspark::identity::document::claimed_signer(claim).unwrap();
        assert_eq!(signer.number(), 6, "the claim is signed with the new document key");
        assert!(other.get("admin", "/v1/members").await["quarantine"].as_array().unwrap().is_empty());
    }
    // A new certificate for the same key, loaded by a running node on a signal.
    ask_for(&a, &["--certificate"]);
    assert_eq!(grant(&alliance, &a, &[]).0, 0);
    renew(&a);
    run_a.signal("-HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(a.log().contains("certificates reloaded"), "{}", a.log());
    exchange(&a, &b, dataset).await;
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[&b]).0, 0);
    // The same after a restart.
    let (run_a, run_b) = (a.start().await, b.start().await);
    exchange(&a, &b, dataset).await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_old_key_signed_wait_for_a_persons_word() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    let told = ask_for(&b, &["--key", "document", "--document-key-lost"]);
    let fingerprint = told["fingerprint"].as_str().unwrap();
    let (of_b, _) = b.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let (code, said) = grant(&alliance, &b, &[]);
    assert!(code == 1 && said.contains("by telephone"), "{said}");
    let (code, said) = grant(&alliance, &b, &["--fingerprint", &alliance.fingerprint]);
    assert!(code == 1 && said.contains("this rotation has the fingerprint"), "{said}");
    // The old key expires at once.
    let (code, said) = grant(&alliance, &b, &["--fingerprint", fingerprint, "--overlap-days", "0"]);
    assert_eq!(code, 0, "{said}");
    for park in [&a, &b] {
        assert_eq!(install(park, alliance.register()).await.0, 200);
    }
    let members = a.get("admin", "/v1/members").await;
    let waiting = &members["quarantine"][0];
    assert_eq!(waiting["key"], "did:web:park-b.example#key-5", "{members}");
    // Only documents signed with the new key are refused; the keys of others are not affected.
    let refused = b.request(&a, dataset, "research").await;
    assert_eq!(refused["stage"], "refused", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("is in quarantine here"), "{refused}");
    // A request to the park with the new key is refused, too, instead of waiting: its agreement was not accepted.
    let refused = a.request(&b, dataset_of(&of_b), "research").await;
    assert_eq!(refused["stage"], "refused", "{refused} {}", b.log());
    assert!(refused["reason"].as_str().unwrap().contains("not a valid key"), "{refused}");

    let confirm = async |fingerprint: &str| {
        let body = json!({"key": "did:web:park-b.example#key-5", "fingerprint": fingerprint});
        a.call("POST", "/v1/quarantine/confirm", &a.admin_token(), Some(body)).await
    };
    let (status, said) = confirm(&alliance.fingerprint).await;
    assert!(status == 400 && said.to_string().contains("do not confirm"), "{said}");
    // The quarantine outlasts a restart.
    run_a.stop();
    let run_a = a.start().await;
    assert_eq!(b.request(&a, dataset, "research").await["stage"], "refused");
    // Park B gives the key's fingerprint by telephone.
    assert_eq!(told["keys"][0]["key"], waiting["key"]);
    assert_eq!(confirm(told["keys"][0]["fingerprint"].as_str().unwrap()).await.0, 204);
    assert_eq!(b.get("admin", "/v1/members").await["quarantine"], json!([]), "the park's own node trusts its key");
    // Documents signed with the expired key are signed again with the present one and keep their digest.
    exchange(&b, &a, dataset_of(&of_b)).await;
    exchange(&a, &b, dataset).await;
    let kinds: Vec<Value> = a.entries().await.iter().map(|row| row["entry"]["kind"].clone()).collect();
    assert!(kinds.contains(&json!("key.confirmed")));
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_document_under_old_and_new_thresholds() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    let base = alliance.folder.path().to_owned();
    let signers = [11, 12, 13].map(|n| {
        let (folder, public) = (base.join(format!("signer-{n}")), base.join(format!("signer-{n}.json")));
        let id = format!("did:web:alliance.example#key-{n}");
        good(&["alliance", "root", "signer", text(&folder), "--id", &id, "--out", text(&public)]);
        (folder, public)
    });
    let (folder, proposal) = (alliance.path(), base.join("root-2.json"));
    let add: Vec<&str> = signers.iter().flat_map(|(_, public)| ["--add", text(public)]).collect();
    let change = ["--drop", "did:web:alliance.example#key-1", "--threshold", "2", "--new-register-key", "--new-ca"];
    let args = ["alliance", "root", "propose", text(&folder), "--out", text(&proposal)];
    good(&[&args[..], &add, &change].concat());
    let sign = |keys: &std::path::Path, kek: &std::path::Path| {
        good(&["alliance", "root", "sign", text(&proposal), "--keys", text(keys), "--kek-file", text(kek)]);
    };
    let kek = |folder: &std::path::Path| folder.with_extension("kek");
    let put = || crosspark(&["alliance", "root", "install", text(&folder), text(&proposal)]);
    let refused = |part: &str| {
        let output = put();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{said}");
    };
    refused("0 of 1 required");
    sign(&signers[0].0, &kek(&signers[0].0));
    refused("0 of 1 required");
    sign(&folder.join("keys"), &kek(&folder));
    refused("1 of 2 required");
    sign(&signers[1].0, &kek(&signers[1].0));
    assert!(put().status.success());

    // A register under an unknown root document is refused, and accepted once the root document is installed.
    let (status, said) = install(&a, alliance.register()).await;
    assert_eq!(status, 400, "{said}");
    let root = std::fs::read_to_string(folder.join("roots/2.json")).unwrap();
    let (status, said) = install(&a, root.replace("\"signature\":\"", "\"signature\":\"A")).await;
    assert_eq!(status, 400, "{said}");
    assert_eq!(install(&a, root).await.1["version"], 2);
    assert_eq!(install(&a, alliance.register()).await.0, 200);
    // The other park learns of the new register on contact, and fetches both.
    exchange(&a, &b, dataset).await;
    let sequence = a.get("admin", "/v1/status").await["register"]["sequence"].clone();
    assert_eq!(b.get("admin", "/v1/status").await["register"]["sequence"], sequence);

    // Every member gets a certificate from the new authority; then the old authority is dropped.
    for park in [&a, &b] {
        ask_for(park, &["--certificate"]);
        assert_eq!(grant(&alliance, park, &[]).0, 0);
        renew(park);
    }
    run_a.signal("-HUP");
    run_b.signal("-HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let proposal = base.join("root-3.json");
    good(&["alliance", "root", "propose", text(&folder), "--out", text(&proposal), "--drop-old-ca"]);
    for (keys, _) in &signers[1..] {
        good(&["alliance", "root", "sign", text(&proposal), "--keys", text(keys)]);
    }
    good(&["alliance", "root", "install", text(&folder), text(&proposal)]);
    let root = std::fs::read_to_string(folder.join("roots/3.json")).unwrap();
    assert_eq!(install(&b, root).await.0, 200);
    assert_eq!(install(&b, alliance.register()).await.0, 200);
    let old = alliance.certificate(&b, -1, 10);
    exchange(&a, &b, dataset).await;
    assert_eq!(a.get("admin", "/v1/status").await["register"]["sequence"], 5);
    // A certificate from the old authority is no longer accepted.
    let client = a.client(&alliance, old);
    let said = client.get(format!("{}/manifests/x", a.endpoint)).send().await.unwrap();
    assert_eq!(said.status(), 403);
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
    let (run_a, run_b) = (a.start().await, b.start().await);
    exchange(&a, &b, dataset).await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_register_decides_nothing_and_recovers() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let overrides = || Overrides { clock: Some(clock.clone()), ..Overrides::default() };
    let (here_a, here_b) = (a.start_here(overrides()).await, b.start_here(overrides()).await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let dataset = dataset_of(&published).to_owned();
    exchange(&a, &b, &dataset).await;
    // The register expires.
    clock.0.store(15 * 86_400_000, Ordering::SeqCst);
    let (status, said) = b
        .call(
            "POST",
            "/v1/requests",
            &b.token_of("requester").await,
            Some(json!({"provider": a.id, "dataset": dataset, "purpose": "research"})),
        )
        .await;
    assert!(status == 503 && said.to_string().contains("expired"), "{said}");
    let client = crosspark::net::own_node_client().unwrap();
    let ready = client.get(format!("{}/readyz", a.management)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    // Local work continues: publishing, reading the log, access to requests.
    let (again, code) = a.publish("economic-indicator", &records(4), "ndjson", &research()).await;
    assert_eq!(code, 0, "{again}");
    assert!(!a.entries().await.is_empty());
    assert_eq!(b.get("requester", "/v1/requests").await["requests"].as_array().unwrap().len(), 1);
    // One node gets the renewed register as a file, the other from its peer.
    let faketime = Timestamp::from_ms(clock.now().ms());
    let mut operator = crosspark::alliance::Alliance::open(
        &alliance.path(),
        crosspark::keys::Kek::load(&alliance.path().with_extension("kek")).unwrap(),
    )
    .unwrap();
    operator.renew(faketime).unwrap();
    drop(operator);
    assert_eq!(install(&a, alliance.register()).await.0, 200);
    let b_node = here_b.services.clone();
    b_node.membership.refresh_from_peers().await;
    exchange(&a, &b, &dataset).await;
    here_a.stop().await;
    here_b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_encryption_key_opens_everything_and_the_old_one_nothing() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text_of = records(20);
    let (published, _) = a.publish("economic-indicator", &text_of, "ndjson", &research()).await;
    let end = exchange(&a, &b, dataset_of(&published)).await;
    run_a.settle().await;
    run_b.settle().await;
    let running = crosspark(&["node", "rotate-kek", text(&a.folder)]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("in use"), "the command must fail while the node runs");
    run_a.stop();
    run_b.stop();
    for park in [&a, &b] {
        let kek = park.folder.with_extension("kek");
        let old = std::fs::read(&kek).unwrap();
        let made = good(&["node", "rotate-kek", text(&park.folder)]);
        assert!(made["rewrapped"].as_u64().unwrap() >= 5, "{made}");
        assert_eq!(std::fs::read(made["previousKekFile"].as_str().unwrap()).unwrap(), old, "backups need it");
        let new = std::fs::read(&kek).unwrap();
        assert!(new != old && new.len() == old.len());
        std::fs::write(&kek, &old).unwrap();
        let output = Command::new(PROGRAM).args(["serve", text(&park.folder)]).output().unwrap();
        assert!(!output.status.success(), "the node must not start with the old key");
        std::fs::write(&kek, &new).unwrap();
    }
    let (run_a, run_b) = (a.start().await, b.start().await);
    assert_eq!(b.data(&end, "ndjson").await, text_of);
    exchange(&a, &b, dataset_of(&published)).await;
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
}

/// A suspended member is refused from the next register on, also on open connections; once reinstated, it is served
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn suspended_and_reinstated() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let dataset = dataset_of(&published);
    exchange(&a, &b, dataset).await;
    let client = a.client(&alliance, b.identity());
    let catalog = async || {
        let message =
            json!({"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], "@type": "CatalogRequestMessage"});
        let request = client.post(format!("{}/dsp/2025-1/catalog/request", a.endpoint)).json(&message);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(catalog().await, 200);
    alliance.command("suspend", &b);
    assert_eq!(install(&a, alliance.register()).await.0, 200);
    // The client reuses the connection that was open before.
    assert_eq!(catalog().await, 403);
    assert!(b.try_request(&a, dataset, "research").await.is_none());
    assert_eq!(install(&b, alliance.register()).await.0, 200);
    let suspended =
        async || b.get("admin", "/v1/status").await["health"]["warnings"].to_string().contains("suspended this park");
    assert!(suspended().await);
    alliance.command("reinstate", &b);
    for park in [&a, &b] {
        assert_eq!(install(park, alliance.register()).await.0, 200);
    }
    assert!(!suspended().await);
    assert_eq!(catalog().await, 200);
    exchange(&a, &b, dataset).await;
    run_b.settle().await;
    run_a.settle().await;
    run_a.stop();
    run_b.stop();
}
