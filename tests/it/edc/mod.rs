//! A real connector, Eclipse EDC, as consumer and as provider of a park.

mod process;

use crate::harness::*;
use process::{Edc, class_path, context};
use serde_json::{Value, json};

const PROTOCOL: &str = "dataspace-protocol-http:2025-1";

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

/// Negotiates the offer of a dataset; returns the path of the negotiation.
async fn negotiate(edc: &Edc, park: &Park, dataset: &Value) -> String {
    let mut offer = dataset["hasPolicy"][0].clone();
    offer["@context"] = "http://www.w3.org/ns/odrl.jsonld".into();
    (offer["assigner"], offer["target"]) = (park.id.clone().into(), dataset["@id"].clone());
    let made = edc.post("/v3/contractnegotiations", &about(park, "ContractRequest", json!({"policy": offer}))).await;
    format!("/v3/contractnegotiations/{}", made["@id"].as_str().unwrap())
}

/// Requests a transfer; returns its id at EDC.
async fn transfer(edc: &Edc, park: &Park, agreement: &str) -> String {
    let more = json!({"contractId": agreement, "transferType": "HttpData-PULL"});
    let made = edc.post("/v3/transferprocesses", &about(park, "TransferRequest", more)).await;
    made["@id"].as_str().unwrap().to_owned()
}

/// Policies that EDC may use.
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
    consumes(&edc, &a).await;
    run.settle().await;
    run.stop();
}

async fn consumes(edc: &Edc, a: &Park) {
    let text = records(20_000);
    let (published, _) =
        a.publish("economic-indicator", &text, "ndjson", &plain(&[("count", "lteq", json!("2"))])).await;
    let dataset = dataset_of(&published);
    let found = catalog(edc, a, Value::Null).await;
    let found = found.iter().find(|one| one["@id"] == dataset).unwrap_or_else(|| panic!("{found:?} {}", edc.log()));
    let negotiation = edc.wait(&negotiate(edc, a, found).await, "FINALIZED").await;
    let agreement = negotiation["contractAgreementId"].as_str().unwrap();
    let first = transfer(edc, a, agreement).await;
    edc.wait(&format!("/v3/transferprocesses/{first}"), "STARTED").await;
    assert_eq!(edc.consume(&first).await, (200, text));
}
