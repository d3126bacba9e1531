//! A real connector, Eclipse EDC, as consumer and as provider of a park.

mod process;

use crate::harness::*;
use axum::Router;
use axum::routing::get;
use process::{Edc, class_path, context};
use serde_json::{Value, json};

const PROTOCOL: &str = "dataspace-protocol-http:2025-1";

/// Two ways in which EDC's users write policies.
#[derive(Clone, Copy)]
enum Writing {
    /// In ODRL's context, which turns terms into IRIs.
    Context,
    /// In ODRL's vocabulary, in which left operands stay texts.
    Vocabulary,
}

impl Writing {
    /// A policy or offer in this writing.
    fn of(self, policy: &Value) -> Value {
        let mut written = policy.clone();
        written["@context"] = match self {
            Self::Context => json!("http://www.w3.org/ns/odrl.jsonld"),
            Self::Vocabulary => json!({"@vocab": "http://www.w3.org/ns/odrl/2/"}),
        };
        if matches!(self, Self::Vocabulary) {
            let iri = |term: &Value| json!({"@id": format!("http://www.w3.org/ns/odrl/2/{}", term.as_str().unwrap())});
            for permission in written["permission"].as_array_mut().unwrap() {
                permission["action"] = iri(&permission["action"]);
                for constraint in permission["constraint"].as_array_mut().unwrap() {
                    constraint["operator"] = iri(&constraint["operator"]);
                }
            }
        }
        written
    }
}

/// A management request of EDC that concerns a park.
fn about(park: &Park, kind: &str, more: Value) -> Value {
    let mut body = json!({
        "@context": context(), "@type": kind, "protocol": PROTOCOL, "counterPartyId": park.id,
        "counterPartyAddress": format!("{}/dsp/2025-1", park.endpoint),
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The datasets that a park offers to EDC.
async fn catalog(edc: &Edc, park: &Park, query: Value) -> Vec<Value> {
    let more = if query.is_null() { json!({}) } else { json!({"querySpec": query}) };
    let found = edc.post("/v3/catalog/request", &about(park, "CatalogRequest", more)).await;
    found["dataset"].as_array().cloned().unwrap_or_default()
}

/// The one dataset with this id.
async fn offered(edc: &Edc, park: &Park, published: &Value) -> Value {
    let id = dataset_of(published);
    let by_id = json!({"operandLeft": "https://w3id.org/edc/v0.0.1/ns/id", "operator": "=", "operandRight": id});
    let mut found = catalog(edc, park, json!({"filterExpression": [by_id]})).await;
    assert_eq!(found.len(), 1, "{found:?} {}", edc.log());
    found.remove(0)
}

/// Negotiates the offer of a dataset; returns the path of the negotiation.
async fn negotiate(edc: &Edc, park: &Park, dataset: &Value, writing: Writing) -> String {
    let mut offer = writing.of(&dataset["hasPolicy"][0]);
    (offer["assigner"], offer["target"]) = (json!({"@id": park.id}), json!({"@id": dataset["@id"]}));
    let made = edc.post("/v3/contractnegotiations", &about(park, "ContractRequest", json!({"policy": offer}))).await;
    format!("/v3/contractnegotiations/{}", made["@id"].as_str().unwrap())
}

/// Negotiates until there is an agreement; returns its id.
async fn agree(edc: &Edc, park: &Park, dataset: &Value, writing: Writing) -> String {
    let negotiation = edc.wait(&negotiate(edc, park, dataset, writing).await, "FINALIZED").await;
    negotiation["contractAgreementId"].as_str().unwrap().to_owned()
}

/// Requests a transfer; returns its path at EDC.
async fn transfer(edc: &Edc, park: &Park, agreement: &str) -> String {
    let more = json!({"contractId": agreement, "transferType": "HttpData-PULL"});
    let made = edc.post("/v3/transferprocesses", &about(park, "TransferRequest", more)).await;
    format!("/v3/transferprocesses/{}", made["@id"].as_str().unwrap())
}

/// A policy with plain delivery.
fn plain(more: &[(&str, &str, Value)]) -> Value {
    let channels = ("deliveryChannel", "isAnyOf", json!(["crosspark-sealed", "HttpData-PULL"]));
    policy(&[&[channels], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn edc_consumes_and_provides() {
    let Some(class_path) = class_path() else { return };
    let alliance = Alliance::new();
    let mut edc = Edc::admit(&alliance);
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    edc.start(&class_path, &[&a]).await;
    reads_the_catalog(&edc, &a).await;
    gets_bytes(&edc, &a).await;
    is_refused_by_policy(&edc, &a).await;
    provides(&edc, &a).await;
    is_suspended(&alliance, &edc, &a).await;
    run.settle().await;
    run.stop();
}

/// EDC reads the catalog in parts, and does not see what others are offered.
async fn reads_the_catalog(edc: &Edc, a: &Park) {
    for n in 0..3 {
        let title = policy(&[("dateTime", "lt", json!(format!("209{n}-01-01T00:00:00Z")))]);
        a.publish("economic-indicator", &records(1), "ndjson", &title).await;
    }
    let others = plain(&[("recipient", "eq", json!("did:web:park-b.example"))]);
    a.publish("economic-indicator", &records(1), "ndjson", &others).await;
    let all = catalog(edc, a, Value::Null).await;
    let first = catalog(edc, a, json!({"limit": 2})).await;
    let rest = catalog(edc, a, json!({"offset": 2, "limit": 2})).await;
    assert_eq!((all.len(), &all[..2], &all[2..]), (3, &first[..], &rest[..]));
}

/// In either writing, EDC negotiates and gets the published bytes, as often as the policy permits.
async fn gets_bytes(edc: &Edc, a: &Park) {
    let text = records(20_000);
    let terms = plain(&[
        ("count", "lteq", json!("2")),
        ("recipient", "isAnyOf", json!([edc.id, "did:web:park-b.example"])),
        ("purpose", "isAnyOf", json!(["research"])),
    ]);
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &terms).await;
    let dataset = offered(edc, a, &published).await;
    for writing in [Writing::Context, Writing::Vocabulary] {
        let agreement = agree(edc, a, &dataset, writing).await;
        let first = transfer(edc, a, &agreement).await;
        let here = edc.wait(&first, "STARTED").await["correlationId"].as_str().unwrap().to_owned();
        assert_eq!(edc.consume(&first).await, (200, text.clone()));

        let admin = a.token_of("admin").await;
        let step = async |step: &str| {
            let path = format!("/v1/transfers/{here}");
            let (status, said) = a.call("POST", &path, &admin, Some(json!({"step": step}))).await;
            assert_eq!(status, 200, "{said}");
        };
        step("suspend").await;
        edc.wait(&first, "SUSPENDED").await;
        assert_eq!(edc.consume(&first).await.0, 403);
        step("resume").await;
        edc.wait(&first, "STARTED").await;
        assert_eq!(edc.consume(&first).await, (200, text.clone()));

        let second = transfer(edc, a, &agreement).await;
        edc.wait(&second, "STARTED").await;
        assert_eq!(edc.consume(&second).await, (200, text.clone()));
        let third = transfer(edc, a, &agreement).await;
        edc.wait(&third, "TERMINATED").await;
        assert!(last_reason(a).await.contains("2 uses"));
    }
}

/// Two purposes leave open which one EDC has: the request is refused with the reason.
async fn is_refused_by_policy(edc: &Edc, a: &Park) {
    let terms = plain(&[("purpose", "isAnyOf", json!(["research", "planning"]))]);
    let (published, _) = a.publish("economic-indicator", &records(1), "ndjson", &terms).await;
    let dataset = offered(edc, a, &published).await;
    let path = negotiate(edc, a, &dataset, Writing::Context).await;
    edc.wait(&path, "TERMINATED").await;
    assert!(last_reason(a).await.contains("one purpose"));
}

/// The reason of the last process that ended at a park; EDC does not show it.
async fn last_reason(a: &Park) -> String {
    let entries = a.entries().await;
    let ended = entries.iter().rev().find(|row| row["entry"]["detail"]["state"] == "TERMINATED").unwrap();
    ended["entry"]["detail"]["reason"].as_str().unwrap().to_owned()
}

/// A park requests, fetches and gets what EDC provides, whatever its id; reasons of EDC arrive as words.
async fn provides(edc: &Edc, a: &Park) {
    let text = records(5_000);
    let served = text.clone();
    let source = Router::new().route("/data", get(move || async move { served }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/data", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, source).await.unwrap() });
    // More than a page of its catalog.
    for n in 0..60 {
        edc.offer(&format!("more-{n}"), "More", &base, Writing::Context.of(&plain(&[]))).await;
    }
    for (n, writing) in [Writing::Context, Writing::Vocabulary].into_iter().enumerate() {
        let id = format!("data/数据 {n}");
        let terms = writing.of(&plain(&[("purpose", "eq", json!("research"))]));
        edc.offer(&id, &format!("Output {n}"), &base, terms).await;
        let path = format!("/v1/catalog?peer={}", edc.id);
        let found = a.get("requester", &path).await;
        let one = found["datasets"].as_array().unwrap().iter().find(|one| one["dataset"] == id.as_str());
        let one = one.unwrap_or_else(|| panic!("{found} {}", edc.log()));
        assert_eq!((&one["title"], &one["formats"][0]), (&json!(format!("Output {n}")), &json!("HttpData-PULL")));
        let view = a.request_from(&edc.id, &id, "research").await;
        let view = a.wait(&view, 60).await;
        assert_eq!(view["stage"], "ready", "{view} {}", edc.log());
        assert_eq!(a.data(&view, "ndjson").await, text);
    }
}

/// A suspended member is refused everything.
async fn is_suspended(alliance: &Alliance, edc: &Edc, a: &Park) {
    let path = alliance.path();
    good(&["alliance", "suspend", text(&path), &edc.id, "--reason", "a test"]);
    let admin = a.admin_token();
    let register = path.join("register.jws");
    good(&["members", "install", text(&register), "--node", &a.management, "--token", &admin]);
    let refused = edc.try_post("/v3/catalog/request", &about(a, "CatalogRequest", json!({}))).await.unwrap();
    assert!(refused.0 >= 400 && refused.1.to_string().contains("suspended"), "{refused:?}");
}
