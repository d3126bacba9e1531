//! Requests and offers that wait for a person's decision.

use super::*;
use crosspark::assembly::Overrides;
use crosspark::core::time::{Clock as _, SystemClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Between parks: the provider makes an offer, and a person of the other park answers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_offer_is_answered_by_a_person() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let text = records(3);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &research()).await;
    let publisher = a.token_of("publisher").await;
    let offer = json!({"consumer": b.id, "dataset": dataset_of(&published)});
    let admin = b.token_of("admin").await;
    let pending = async || {
        for _ in 0..500 {
            let found = b.get("admin", "/v1/approvals").await["approvals"].as_array().unwrap().clone();
            if let Some(first) = found.first() {
                return first.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no offer was received: {}", b.log());
    };
    let (status, said) =
        a.call("POST", "/v1/offers", &publisher, Some(json!({"consumer": a.id, "dataset": offer["dataset"]}))).await;
    assert!(status == 400 && said.to_string().contains("another member"), "{said}");
    // The provider receives the reason of a rejection.
    let (status, made) = a.call("POST", "/v1/offers", &publisher, Some(offer.clone())).await;
    assert_eq!(status, 202, "{made}");
    let waiting = pending().await;
    assert_eq!(
        (&waiting["role"], &waiting["peer"], &waiting["purpose"]),
        (&json!("consumer"), &json!(a.id), &Value::Null)
    );
    let path = format!("/v1/approvals/{}", waiting["id"].as_str().unwrap());
    assert_eq!(b.get("admin", &path).await, waiting);
    let no = json!({"approve": false, "comment": "no use for it"});
    assert_eq!(b.call("POST", &path, &admin, Some(no.clone())).await.0, 200);
    let (status, said) = b.call("POST", &path, &admin, Some(no)).await;
    assert!(status == 404 && said.to_string().contains("was already rejected"), "decided twice: {said}");
    // An offer that is approved with a purpose and an enterprise is delivered.
    a.call("POST", "/v1/offers", &publisher, Some(offer)).await;
    let waiting = pending().await;
    let path = format!("/v1/approvals/{}", waiting["id"].as_str().unwrap());
    let word =
        |purpose: Value, enterprise: Value| json!({"approve": true, "purpose": purpose, "enterprise": enterprise});
    assert_eq!(b.call("POST", &path, &admin, Some(word(Value::Null, ENTERPRISE.into()))).await.0, 400);
    assert_eq!(b.call("POST", &path, &admin, Some(word("research".into(), Value::Null))).await.0, 400);
    // An unknown enterprise or a purpose that is not permitted is refused; the offer stays pending.
    b.token_of("requester").await;
    for (purpose, enterprise, told) in [
        ("research", "Nobody's", "`Nobody's` has no token here"),
        ("selling", ENTERPRISE, "`selling` is not permitted"),
    ] {
        let (status, said) = b.call("POST", &path, &admin, Some(word(purpose.into(), enterprise.into()))).await;
        assert!(status == 400 && said.to_string().contains(told), "{status} {said}");
        assert_eq!(b.get("admin", &path).await, waiting);
    }
    let (status, said) = b.call("POST", &path, &admin, Some(word("research".into(), ENTERPRISE.into()))).await;
    assert_eq!(status, 200, "{said}");
    let view = b.wait(&json!({"id": waiting["id"]}), 30).await;
    assert_eq!(view["stage"], "verified", "{view} {} {}", a.log(), b.log());
    assert_eq!(b.data(&view, "ndjson").await, text);
    run_a.settle().await;
    run_b.settle().await;
    let ended = a.entries().await.into_iter().find(|row| row["entry"]["detail"]["state"] == "TERMINATED").unwrap();
    assert!(ended["entry"]["detail"]["reason"].as_str().unwrap().contains("no use for it"), "{ended}");
    let ruled = kinds(&b.entries().await).iter().filter(|kind| *kind == "negotiation.ruled").count();
    assert_eq!(ruled, 2);
    run_a.stop();
    run_b.stop();
}

/// A policy that requires consent: the request waits for a person's decision.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_where_the_policy_says_so() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &consent()).await;
    let ask = async || b.begin_request(&a, dataset_of(&published), "research").await;
    let (first, second) = (ask().await, ask().await);
    let mut pending = Vec::new();
    for _ in 0..500 {
        pending = a.get("publisher", "/v1/approvals").await["approvals"].as_array().unwrap().clone();
        if pending.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pending.len(), 2, "{}", a.log());
    assert!(pending.iter().all(|one| one["purpose"] == "research" && one["enterprise"] == ENTERPRISE), "{pending:?}");
    assert_eq!(b.wait(&first, 0).await["stage"], "requested");
    // By the command line.
    let token = a.token_of("publisher").await;
    let say = |args: &[&str]| {
        let node = ["--node", &a.management, "--token", &token];
        good(&[&["approvals"], args, &node].concat())
    };
    let ids: Vec<&str> = pending.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(say(&["list"])["approvals"].as_array().unwrap().len(), 2);
    assert_eq!(say(&["show", ids[0]])["peer"], b.id);
    say(&["approve", ids[0], "--comment", "as agreed by telephone"]);
    say(&["reject", ids[1], "--comment", "not this year"]);
    let ends = [b.wait(&first, 30).await, b.wait(&second, 30).await];
    let stages: Vec<&str> = ends.iter().map(|end| end["stage"].as_str().unwrap()).collect();
    assert!(stages.contains(&"verified") && stages.contains(&"refused"), "{ends:?}");
    let refused = ends.iter().find(|end| end["stage"] == "refused").unwrap();
    assert!(refused["reason"].as_str().unwrap().contains("not this year"), "{refused}");
    assert_eq!(a.get("publisher", "/v1/approvals").await["approvals"], json!([]));
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

/// A pending request ends when its dataset is withdrawn.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_ends_with_the_dataset() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &consent()).await;
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    for _ in 0..500 {
        if a.get("publisher", "/v1/approvals").await["approvals"].as_array().unwrap().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let token = a.token_of("publisher").await;
    good(&[
        "withdraw",
        dataset_of(&published),
        "--reason",
        "it had errors",
        "--node",
        &a.management,
        "--token",
        &token,
    ]);
    let end = b.wait(&asked, 30).await;
    assert_eq!(end["stage"], "refused", "{end} {}", a.log());
    assert_eq!(a.get("publisher", "/v1/approvals").await["approvals"], json!([]));
    run_a.stop();
    run_b.stop();
}

/// A pending request ends at the next check after its policy has expired.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_ends_with_its_time() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
    let overrides = || Overrides { clock: Some(clock.clone()), ..Overrides::default() };
    let (here_a, here_b) = (a.start_here(overrides()).await, b.start_here(overrides()).await);
    let soon = SystemClock.now().plus_ms(3_600_000).to_string();
    let mut terms = policy(&[("dateTime", "lt", json!(soon))]);
    terms["permission"][0]["duty"] = consent()["permission"][0]["duty"].clone();
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &terms).await;
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    here_a.services.operations.outbox.advance_all().await.unwrap();
    assert_eq!(b.wait(&asked, 1).await["stage"], "requested");
    clock.0.store(2 * 3_600_000, Ordering::SeqCst);
    assert_eq!(a.get("publisher", "/v1/approvals").await["approvals"], json!([]));
    here_a.services.operations.outbox.advance_all().await.unwrap();
    let end = b.wait(&asked, 30).await;
    assert_eq!(end["stage"], "refused", "{end} {}", a.log());
    here_a.stop().await;
    here_b.stop().await;
}

/// An agreement that was made without a person's approval does not cover uses that require consent.
#[tokio::test(flavor = "multi_thread")]
async fn no_word_is_taken_for_granted() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let channel = json!({"leftOperand": "deliveryChannel", "operator": "eq", "rightOperand": "HttpData-PULL"});
    let once = json!({"leftOperand": "count", "operator": "lteq", "rightOperand": "1"});
    let terms = json!({"permission": [
        {"action": "use", "constraint": [channel, once]},
        {"action": "use", "constraint": [channel], "duty": [{"action": "obtainConsent"}]},
    ]});
    a.publish("economic-indicator", &records(2), "ndjson", &terms).await;
    let (sealed, _) = a.publish("economic-indicator", &records(1), "ndjson", &research()).await;
    let offer = json!({"consumer": connector.id, "dataset": dataset_of(&sealed)});
    let (status, said) = a.call("POST", "/v1/offers", &a.token_of("publisher").await, Some(offer)).await;
    assert!(status == 400 && said.to_string().contains("accepts only plain data"), "{said}");
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset =
        caller.catalog().await.into_iter().find(|one| one["distribution"].to_string().contains("PULL")).unwrap();
    let agreement = caller.agree(&dataset, "urn:x:n1", 0).await;
    let (_, endpoint, token) = caller.transfer(&agreement, "urn:x:t1", 0).await;
    assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 200);
    let body = json!({
        "consumerPid": "urn:x:t2", "agreementId": agreement, "format": "HttpData-PULL",
        "callbackAddress": connector.endpoint,
    });
    assert_eq!(caller.post("/transfers/request", &message("TransferRequestMessage", body)).await.0, 201);
    let end = connector.hears("TransferTerminationMessage", 0).await.body;
    assert!(end["reason"][0].is_string(), "{end}");
    assert_eq!(kinds(&a.entries().await).iter().filter(|kind| *kind == "data.released").count(), 1);
    run.stop();
}

/// A requester reads what a request waits for, and cancels it: while a person decides, and before the provider has it.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_cancelled() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &consent()).await;
    let waiting = async || a.get("publisher", "/v1/approvals").await["approvals"].as_array().unwrap().len();
    let becomes = async |count: usize| {
        for _ in 0..500 {
            if waiting().await == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} requests do not wait: {}", a.log());
    };
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    becomes(1).await;
    run_b.settle().await;
    let view = b.wait(&asked, 0).await;
    assert_eq!(view["waitsFor"], "a person at the provider decides", "{view}");
    assert_eq!(view["policy"], consent());
    let approval = a.get("publisher", "/v1/approvals").await["approvals"][0].clone();
    assert!(view["trace"].is_string() && approval["trace"] == view["trace"], "both people see one id: {approval}");
    let (id, token) = (asked["id"].as_str().unwrap(), b.token_of("requester").await);
    let ended =
        good(&["request", "cancel", id, "--reason", "no longer needed", "--node", &b.management, "--token", &token]);
    assert_eq!((&ended["stage"], &ended["reason"]), (&json!("cancelled"), &json!("no longer needed")), "{ended}");
    becomes(0).await;
    // Not a refusal, in either log; who decides too late learns why.
    run_b.settle().await;
    for park in [&a, &b] {
        let entries = park.entries().await;
        let last = entries.iter().rev().find(|row| row["entry"]["kind"] == "negotiation.moved").unwrap();
        assert_eq!(last["entry"]["detail"]["reason"], "no longer needed");
        assert_ne!(last["entry"]["decision"], "refused", "{last}");
    }
    let path = format!("/v1/approvals/{}", approval["id"].as_str().unwrap());
    let (status, said) = a.call("GET", &path, &a.token_of("publisher").await, None).await;
    assert!(status == 404 && said["detail"].as_str().unwrap().contains("has ended: no longer needed"), "{said}");
    let path = format!("/v1/requests/{id}/cancellation");
    let (status, said) = b.call("POST", &path, &token, Some(json!({}))).await;
    assert!(status == 409 && said["detail"].as_str().unwrap().contains("ended already"), "{said}");
    run_a.settle().await;
    run_b.settle().await;

    // The provider learns of it when it is back.
    let asked = b.begin_request(&a, dataset_of(&published), "research").await;
    becomes(1).await;
    run_a.stop();
    let id = asked["id"].as_str().unwrap();
    good(&["request", "cancel", id, "--node", &b.management, "--token", &token]);
    assert_eq!(b.wait(&asked, 0).await["stage"], "cancelled");
    let run_a = a.start().await;
    run_b.settle().await;
    becomes(0).await;
    run_a.stop();
    run_b.stop();
}
