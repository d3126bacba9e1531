//! A data key is released only for a request with the correct bindings; requests with any other binding are refused and
//! logged.

use crate::harness::*;
use crosspark::core::digest::Digest;
use crosspark::core::id::Text;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::dataset::release::{HPKE, KeyAnswer, KeyRequest, OneTimeKey};
use crosspark::identity::document;
use crosspark::identity::key::Bytes;
use reqwest::Client;
use serde_json::{Value, json};

async fn post(client: &Client, url: &str, jws: &str) -> (u16, String) {
    let response = client.post(url).body(jws.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The newest entry of a kind.
fn last<'a>(entries: &'a [Value], kind: &str, state: &str) -> &'a Value {
    let found =
        entries.iter().rev().find(|row| row["entry"]["kind"] == kind && row["entry"]["detail"]["state"] == state);
    &found.unwrap_or_else(|| panic!("no {kind} {state}"))["entry"]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_binding_counts() {
    let alliance = Alliance::new();
    let [a, b, c] = alliance.parks(["park-a", "park-b", "park-c"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    // The consumer's node cannot store the data, so it does not send its own key request.
    let parts = b.folder.join("received/parts");
    std::fs::remove_dir(&parts).unwrap();
    std::fs::write(&parts, "in the way").unwrap();
    let thrice = policy(&[("count", "lteq", json!("2")), ("purpose", "eq", json!("research"))]);
    let (published, _) = a.publish("economic-indicator", &records(5), "ndjson", &thrice).await;
    let view = b.begin_request(&a, dataset_of(&published), "research").await;
    for _ in 0..500 {
        let entries = b.entries().await;
        if entries.iter().any(|row| row["entry"]["kind"] == "dataset.fetching") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let entries = a.entries().await;
    let transfer = last(&entries, "transfer.moved", "STARTED")["process"].as_str().unwrap().to_owned();
    let signed = last(&entries, "negotiation.moved", "FINALIZED")["detail"]["providerSignature"].as_str().unwrap();
    let key_a = a.document_key();
    let agreement =
        document::verify::<crosspark::agreement::Agreement>(signed, |kid| (kid == key_a.id()).then(|| key_a.public()))
            .unwrap();

    let random = crosspark::core::random::SystemRandomness::new();
    let one_time = OneTimeKey::generate(&random);
    let now = SystemClock.now();
    let good = KeyRequest {
        provider: a.id.parse().unwrap(),
        consumer: b.id.parse().unwrap(),
        transfer: transfer.parse().unwrap(),
        agreement: agreement.digest(),
        manifest: agreement.body().manifest.unwrap(),
        purpose: agreement.body().purpose.clone().unwrap(),
        enterprise: agreement.body().enterprise.clone().unwrap(),
        hpke: HPKE.into(),
        key: Bytes(one_time.public()),
        nonce: Bytes(vec![1; 32]),
        seen: None,
        issued: now,
        expires: now.plus_ms(60_000),
    };
    let (client, stranger) = (a.client(&alliance, b.identity()), a.client(&alliance, c.identity()));
    let url = format!("{}/data/{transfer}/key", a.endpoint);
    let sign = |request: KeyRequest, by: &Park| document::sign(request, &by.document_key()).jws().to_owned();
    let text = |text: &str| Text::parse(text).unwrap();
    let of = |change: &dyn Fn(&mut KeyRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let refused = async |what: &str, client: &Client, jws: String, status: u16, part: &str| {
        let before = a.entries().await.len();
        let (found, said) = post(client, &url, &jws).await;
        assert_eq!(found, status, "{what}: {said}");
        assert!(said.contains(part), "{what}: {said}");
        let entries = a.entries().await;
        assert_eq!((entries.len(), &entries[before]["entry"]["kind"]), (before + 1, &json!("key.refused")), "{what}");
    };
    let other = Digest::of(b"other");
    let cases: [(&str, KeyRequest); 12] = [
        ("provider", of(&|r| r.provider = c.id.parse().unwrap())),
        ("transfer", of(&|r| r.transfer = "urn:uuid:other".parse().unwrap())),
        ("agreement", of(&|r| r.agreement = other)),
        ("manifest", of(&|r| r.manifest = other)),
        ("purpose", of(&|r| r.purpose = text("advertising"))),
        ("enterprise", of(&|r| r.enterprise = text("Somebody else"))),
        ("hpke", of(&|r| r.hpke = "X25519".into())),
        ("nonce", of(&|r| r.nonce = Bytes(vec![1; 8]))),
        ("issued", of(&|r| (r.issued, r.expires) = (now.plus_ms(120_000), now.plus_ms(180_000)))),
        ("expires", of(&|r| r.expires = now.plus_ms(-1))),
        ("expires", of(&|r| r.expires = now.plus_ms(86_400_000))),
        ("X-Wing", of(&|r| r.key = Bytes(vec![0; 10]))),
    ];
    for (part, request) in cases {
        refused(part, &client, sign(request, &b), 400, part).await;
    }
    refused("another member's name", &client, sign(of(&|r| r.consumer = c.id.parse().unwrap()), &b), 400, "names")
        .await;
    refused(
        "another member's signature",
        &client,
        sign(of(&|r| r.consumer = c.id.parse().unwrap()), &c),
        400,
        "consumer",
    )
    .await;
    refused("another member's connection", &stranger, sign(good.clone(), &b), 404, "no transfer").await;
    refused("no document", &client, "x.y.z".into(), 400, "crosspark-key-request").await;

    // The correct request gets the key; repeated, it gets the same answer and is counted once; nonce and one-time key
    // cannot be reused.
    let jws = sign(good.clone(), &b);
    let (status, answer) = post(&client, &url, &jws).await;
    assert_eq!(status, 200, "{answer}");
    let read = document::verify::<KeyAnswer>(&answer, |kid| (kid == key_a.id()).then(|| key_a.public())).unwrap();
    let request = document::digest(&good);
    assert!(one_time.open(&request, &read.body().enc.0, &read.body().sealed.0).is_ok());
    assert!(one_time.open(&other, &read.body().enc.0, &read.body().sealed.0).is_err());
    assert_eq!(post(&client, &url, &jws).await, (200, answer));
    let fresh = Bytes(OneTimeKey::generate(&random).public());
    refused("the nonce again", &client, sign(of(&|r| r.key = fresh.clone()), &b), 403, "used before").await;
    refused("the key again", &client, sign(of(&|r| r.nonce = Bytes(vec![2; 32])), &b), 403, "used before").await;
    let second = of(&|r| (r.key, r.nonce) = (fresh.clone(), Bytes(vec![3; 32])));
    assert_eq!(post(&client, &url, &sign(second, &b)).await.0, 200);
    let third = of(&|r| (r.key, r.nonce) = (Bytes(OneTimeKey::generate(&random).public()), Bytes(vec![4; 32])));
    refused("a third time", &client, sign(third, &b), 403, "all 2 uses").await;
    let released = a.entries().await.iter().filter(|row| row["entry"]["kind"] == "key.released").count();
    assert_eq!(released, 2);

    // Requests without a token, with another transfer's token, and with an altered token.
    let data = format!("{}/data/{transfer}", a.endpoint);
    for token in ["", "x", "99999999999999.AAAA"] {
        let response = client.get(&data).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 403, "{token}");
    }
    assert_eq!(stranger.get(&data).bearer_auth("x").send().await.unwrap().status(), 404);
    let _ = view;
    run_b.kill();
    run_a.stop();
}

/// Refusals that the other tests do not cover: transfer requests, messages in the wrong state or about another process,
/// receipts. Each results in exactly one log entry with its rule.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_refusal_leaves_its_entry() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(5), "ndjson", &research()).await;
    assert_eq!(b.request(&a, dataset_of(&published), "research").await["stage"], "verified");
    run_a.settle().await;
    run_b.settle().await;
    let entries = a.entries().await;
    let process = |entry: &Value| {
        (entry["process"].as_str().unwrap().to_owned(), entry["detail"]["peerPid"].as_str().unwrap().to_owned())
    };
    let (negotiation, their_negotiation) = process(last(&entries, "negotiation.moved", "FINALIZED"));
    let completed = last(&entries, "transfer.moved", "COMPLETED");
    let (transfer, their_transfer) = process(completed);
    let agreement = completed["agreement"].as_str().unwrap().to_owned();
    let got = entries.iter().find(|row| row["entry"]["kind"] == "receipt.received").unwrap();
    let key = b.document_key();
    let receipt = got["entry"]["detail"]["receipt"].as_str().unwrap();
    let own = |kid: &crosspark::core::id::KeyId| (kid == key.id()).then(|| key.public());
    let receipt = document::verify::<crosspark::audit::receipt::Receipt>(receipt, own).unwrap();

    let client = a.client(&alliance, b.identity());
    let base = format!("{}/dsp/2025-1", a.endpoint);
    let callback = format!("{}/dsp/2025-1", b.endpoint);
    let message = |kind: &str, members: Value| {
        let mut all = members;
        all["@context"] = json!(["https://w3id.org/dspace/2025/1/context.jsonld"]);
        all["@type"] = kind.into();
        all
    };
    let request = |agreement: &str, format: &str, callback: &str| {
        let pid = "urn:uuid:22222222-2222-4222-8222-222222222222";
        message(
            "TransferRequestMessage",
            json!({"consumerPid": pid, "agreementId": agreement, "format": format, "callbackAddress": callback}),
        )
    };
    let n = json!({"consumerPid": their_negotiation, "providerPid": negotiation});
    let t = json!({"consumerPid": their_transfer, "providerPid": transfer});
    let with = |base: &Value, name: &str, value: Value| {
        let mut all = base.clone();
        all[name] = value;
        all
    };
    let address = json!({"endpoint": format!("{}/data/x", b.endpoint), "endpointProperties": [{"name": "authorization", "value": "x"}]});
    let mut known = request(&agreement, "crosspark-sealed", &callback);
    (known["consumerPid"], known["again"]) = (their_transfer.clone().into(), json!(1));
    let (npath, tpath) = (format!("/negotiations/{negotiation}"), format!("/transfers/{transfer}"));
    let other = json!("urn:uuid:other");
    let cases = [
        ("/transfers/request".to_owned(), request("urn:uuid:other", "crosspark-sealed", &callback), 404),
        ("/transfers/request".into(), request(&agreement, "HttpData-PULL", &callback), 400),
        ("/transfers/request".into(), request(&agreement, "crosspark-sealed", "https://elsewhere.example"), 400),
        ("/transfers/request".into(), known, 400),
        (format!("{npath}/termination"), message("ContractNegotiationTerminationMessage", n.clone()), 400),
        (
            format!("{npath}/termination"),
            message("ContractNegotiationTerminationMessage", with(&n, "providerPid", other.clone())),
            400,
        ),
        (
            format!("{npath}/events"),
            message("ContractNegotiationEventMessage", with(&n, "eventType", json!("FINALIZED"))),
            400,
        ),
        (
            format!("{npath}/events"),
            message("ContractNegotiationEventMessage", with(&n, "eventType", json!("ACCEPTED"))),
            400,
        ),
        (
            format!("{npath}/agreement"),
            message("ContractAgreementMessage", with(&n, "crosspark:agreement", json!("x"))),
            400,
        ),
        (format!("{npath}/agreement"), message("ContractAgreementMessage", n.clone()), 400),
        (
            format!("{npath}/agreement/verification"),
            message("ContractAgreementVerificationMessage", with(&n, "crosspark:agreement", json!("x"))),
            400,
        ),
        (format!("{npath}/request"), message("ContractRequestMessage", n.clone()), 400),
        (format!("{tpath}/start"), message("TransferStartMessage", with(&t, "dataAddress", address)), 400),
        (format!("{tpath}/start"), message("TransferStartMessage", t.clone()), 400),
        (format!("{tpath}/completion"), message("TransferCompletionMessage", with(&t, "again", json!(1))), 400),
        (format!("{tpath}/suspension"), message("TransferSuspensionMessage", t.clone()), 400),
        (format!("{tpath}/termination"), message("TransferTerminationMessage", t.clone()), 400),
        (format!("{tpath}/termination"), message("TransferTerminationMessage", with(&t, "consumerPid", other)), 400),
        ("/catalog/request".into(), message("CatalogRequestMessage", json!({"filter": [{"a": 1}]})), 400),
        ("/catalog/request".into(), message("Another", json!({})), 400),
    ];
    for (path, body, status) in cases {
        let before = a.entries().await.len();
        let response = client.post(format!("{base}{path}")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {body}");
        assert!(response.headers().contains_key("crosspark-promise"), "{path} {body}");
        let entries = a.entries().await;
        assert_eq!(entries.len(), before + 1, "{path} {body}");
        assert!(entries[before]["entry"]["rule"].is_string(), "{path} {body}");
    }
    type Change = fn(&mut crosspark::audit::receipt::Receipt);
    let changes: [(&str, Change); 7] = [
        ("bytes", |r| r.bytes += 1),
        ("records", |r| r.records += 1),
        ("provider", |r| r.provider = "did:web:other.example".parse().unwrap()),
        ("transfer", |r| r.transfer = "urn:uuid:other".parse().unwrap()),
        ("agreement", |r| r.agreement = Digest::of(b"x")),
        ("manifest", |r| r.manifest = Digest::of(b"x")),
        ("another receipt", |r| r.received = r.received.plus_ms(1)),
    ];
    let url = format!("{}/data/{transfer}/receipt", a.endpoint);
    for (part, change) in changes {
        let mut altered = receipt.body().clone();
        change(&mut altered);
        let before = a.entries().await.len();
        let (status, said) = post(&client, &url, document::sign(altered, &key).jws()).await;
        assert!(status == 400 && said.contains(part), "{part}: {status} {said}");
        let entries = a.entries().await;
        assert_eq!(
            (entries.len(), &entries[before]["entry"]["kind"]),
            (before + 1, &json!("receipt.refused")),
            "{part}"
        );
    }
    // A repeated receipt has no effect.
    let before = a.entries().await.len();
    assert_eq!(post(&client, &url, receipt.jws()).await.0, 200);
    assert_eq!(a.entries().await.len(), before);
    run_b.stop();
    run_a.stop();
}
