//! The Dataspace Protocol with other connectors and between parks: cases that its conformance kit does not cover.

mod connectors;
mod people;
mod wrong;

use crate::harness::*;
use reqwest::{Client, Response};
use serde_json::{Value, json};

/// A policy for other connectors: plain delivery, limited number of uses.
fn plain(uses: u64) -> Value {
    policy(&[
        ("deliveryChannel", "isAnyOf", json!(["crosspark-sealed", "HttpData-PULL"])),
        ("count", "lteq", json!(uses.to_string())),
    ])
}

/// A policy that requires a person's consent.
fn consent() -> Value {
    json!({"permission": [{"action": "use", "duty": [{"action": "obtainConsent"}]}]})
}

/// A connector that calls one park.
struct Caller<'a> {
    client: Client,
    park: &'a Park,
    connector: &'a Connector,
}

impl<'a> Caller<'a> {
    fn new(alliance: &Alliance, connector: &'a Connector, park: &'a Park) -> Self {
        let client = match connector.token_key {
            None => park.client(alliance, connector.identity.clone()),
            Some(_) => anonymous(),
        };
        Self { client, park, connector }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/dsp/2025-1{path}", self.park.endpoint);
        let mut request = self.client.post(url).json(body);
        if let Some(token) = self.connector.bearer(&self.park.id) {
            request = request.bearer_auth(token);
        }
        read(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let mut request = self.client.get(format!("{}/dsp/2025-1{path}", self.park.endpoint));
        if let Some(token) = self.connector.bearer(&self.park.id) {
            request = request.bearer_auth(token);
        }
        read(request.send().await.unwrap()).await
    }

    /// The contract request for a dataset's offer, with the terms in `policy` if given.
    fn request(&self, dataset: &Value, pid: &str, policy: Option<&Value>) -> Value {
        let mut offer = dataset["hasPolicy"][0].clone();
        offer["target"] = dataset["@id"].clone();
        if let Some(policy) = policy {
            offer["permission"] = policy["permission"].clone();
        }
        let callback = &self.connector.endpoint;
        message("ContractRequestMessage", json!({"consumerPid": pid, "offer": offer, "callbackAddress": callback}))
    }

    async fn catalog(&self) -> Vec<Value> {
        let (status, catalog) = self.post("/catalog/request", &message("CatalogRequestMessage", json!({}))).await;
        assert_eq!(status, 200, "{catalog}");
        catalog["dataset"].as_array().cloned().unwrap_or_default()
    }

    /// Negotiates until FINALIZED and returns the agreement's id.
    async fn agree(&self, dataset: &Value, pid: &str, nth: usize) -> String {
        let (status, made) = self.post("/negotiations/request", &self.request(dataset, pid, None)).await;
        assert_eq!((status, &made["state"]), (201, &json!("REQUESTED")), "{made}");
        let agreement = self.connector.hears("ContractAgreementMessage", nth).await.body;
        assert_eq!(agreement["consumerPid"], pid);
        let provider = made["providerPid"].as_str().unwrap();
        let verification =
            message("ContractAgreementVerificationMessage", json!({"consumerPid": pid, "providerPid": provider}));
        let (status, said) =
            self.post(&format!("/negotiations/{provider}/agreement/verification"), &verification).await;
        assert_eq!(status, 200, "{said}");
        let finalized = self.connector.hears("ContractNegotiationEventMessage", nth).await.body;
        assert_eq!(finalized["eventType"], "FINALIZED");
        agreement["agreement"]["@id"].as_str().unwrap().to_owned()
    }

    /// Requests a transfer; returns its id, the data address and the token.
    async fn transfer(&self, agreement: &str, pid: &str, nth: usize) -> (String, String, String) {
        let callback = &self.connector.endpoint;
        let body = json!({"consumerPid": pid, "agreementId": agreement, "format": "HttpData-PULL", "callbackAddress": callback});
        let (status, made) = self.post("/transfers/request", &message("TransferRequestMessage", body)).await;
        assert_eq!(status, 201, "{made}");
        let start = self.connector.hears("TransferStartMessage", nth).await.body;
        let (endpoint, token) = address_of(&start);
        (made["providerPid"].as_str().unwrap().to_owned(), endpoint, token)
    }

    async fn fetch(&self, endpoint: &str, token: &str, range: Option<&str>) -> Response {
        let mut request = self.client.get(endpoint).bearer_auth(token);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.send().await.unwrap()
    }
}

fn address_of(start: &Value) -> (String, String) {
    let address = &start["dataAddress"];
    let properties = address["endpointProperties"].as_array().unwrap();
    let token = properties.iter().find(|property| property["name"] == "authorization").unwrap();
    (address["endpoint"].as_str().unwrap().to_owned(), token["value"].as_str().unwrap().to_owned())
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    assert_eq!(broken(&body), Vec::<String>::new());
    (status, body)
}

fn kinds(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|row| row["entry"]["kind"].as_str().unwrap().to_owned()).collect()
}
