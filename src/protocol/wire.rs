//! Wire format of the messages (DSP 2025-1, plain JSON; its JSON Schemas are normative). Messages in other forms of
//! JSON-LD are read, too (`core::json::ld`). Unknown properties are ignored; `@context` and `@type` are checked.

use crate::contracts::{ContractOffer, ContractRequest, PlainAgreement, Terms};
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, DatasetId, OfferId, ParticipantId, ProcessId};
use crate::core::json::{self, ld};
use crate::core::time::Timestamp;
use crate::delivery::{DataAddress, TransferRequest};
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Negotiation, Role};
use crate::node::{Envelope, Error, Message, Termination};
use crate::transfer::Transfer;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Base of all paths of version 2025-1.
pub const BASE: &str = "/dsp/2025-1";
/// The JSON-LD context of every message.
pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";
/// `endpointType` of a data address (DSP 2025-1, "Transfer Start Message").
const HTTP_ENDPOINT: &str = "https://w3id.org/idsa/v4.1/HTTP";

/// The vocabulary of Eclipse EDC.
const EDC: &str = "https://w3id.org/edc/v0.0.1/ns/";

/// Extension properties; other connectors ignore them.
const CLAIM: &str = "crosspark:claim";
const AGREEMENT: &str = "crosspark:agreement";

/// A message whose envelope was checked.
pub struct Incoming {
    members: Map<String, Value>,
    /// The offer as it was written.
    offer: Option<Value>,
    /// Digest of the canonical form, by which repetitions are recognised.
    pub digest: Digest,
    /// Whether the message has an `@id`, which distinguishes a repetition from a new message with the same content.
    pub named: bool,
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::invalid("message", reason)
}

impl Incoming {
    /// Reads a body that must be a message of `kind`.
    pub fn read(body: &[u8], kind: &str) -> Result<Self, Error> {
        let canonical = json::canonicalize(body).map_err(|error| invalid(error.to_string()))?;
        let value: Value = json::read_trusted(&canonical).map_err(|error| invalid(error.to_string()))?;
        let offer = value.get("offer").cloned().map(ld::with_lists);
        let Value::Object(members) = ld::plain(value) else { return Err(invalid("expected a JSON object")) };
        let context = members.get("@context").and_then(Value::as_array);
        if !context.is_some_and(|list| list.iter().any(|entry| entry.as_str() == Some(CONTEXT))) {
            return Err(invalid(format!("`@context` must be a list that contains {CONTEXT}")));
        }
        if members.get("@type").and_then(Value::as_str) != Some(kind) {
            return Err(invalid(format!("`@type` must be {kind}")));
        }
        let named = members.get("@id").is_some_and(Value::is_string);
        Ok(Self { members, offer, named, digest: Digest::labelled("crosspark/message/v1", &[&canonical]) })
    }

    /// A required member.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let value = self.members.get(name).cloned().ok_or_else(|| invalid(format!("`{name}` is missing")))?;
        serde_json::from_value(value).map_err(|error| invalid(format!("`{name}`: {error}")))
    }

    /// An optional member.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        if self.members.contains_key(name) { self.get(name).map(Some) } else { Ok(None) }
    }

    /// Both ids of the process, this side's first.
    pub fn pids(&self, own: Role) -> Result<(ProcessId, ProcessId), Error> {
        let (consumer, provider) = (self.get("consumerPid")?, self.get("providerPid")?);
        Ok(if own == Role::Consumer { (consumer, provider) } else { (provider, consumer) })
    }

    /// The sender's reasons: strings, or objects with a text.
    pub fn reason(&self) -> String {
        let words = reasons(&self.members);
        if words.is_empty() { "no reason was given".to_owned() } else { words }
    }

    /// The offer of a ContractRequestMessage or ContractOfferMessage.
    pub fn terms(&self) -> Result<Terms, Error> {
        let offer: Value = self.get("offer")?;
        let part = |name: &str| offer.get(name).cloned().unwrap_or_default();
        let id = serde_json::from_value(part("@id")).map_err(|error| invalid(format!("`offer.@id`: {error}")))?;
        let target = match part("target") {
            Value::Null => None,
            target => Some(serde_json::from_value(target).map_err(|e| invalid(format!("`offer.target`: {e}")))?),
        };
        Ok(Terms { offer: id, dataset: target, policy: offer, written: self.offer.clone() })
    }

    /// The claim of a crosspark node.
    pub fn claim(&self) -> Result<Option<String>, Error> {
        self.optional(CLAIM)
    }

    /// ContractRequestMessage without `providerPid`.
    pub fn contract_request(&self) -> Result<ContractRequest, Error> {
        Ok(ContractRequest {
            consumer_pid: self.get("consumerPid")?,
            terms: self.terms()?,
            claim: self.claim()?,
            callback: self.callback()?,
            digest: self.digest,
        })
    }

    /// ContractOfferMessage without `consumerPid`.
    pub fn contract_offer(&self) -> Result<ContractOffer, Error> {
        Ok(ContractOffer {
            provider_pid: self.get("providerPid")?,
            terms: self.terms()?,
            callback: self.callback()?,
            digest: self.digest,
        })
    }

    /// TransferRequestMessage.
    pub fn transfer_request(&self) -> Result<TransferRequest, Error> {
        Ok(TransferRequest {
            consumer_pid: self.get("consumerPid")?,
            agreement: self.get::<AgreementId>("agreementId")?,
            format: self.get("format")?,
            callback: self.callback()?,
            digest: self.digest,
        })
    }

    fn callback(&self) -> Result<Endpoint, Error> {
        self.get("callbackAddress")
    }

    /// The agreement's JWS in a ContractAgreementMessage or ContractAgreementVerificationMessage of a crosspark node.
    pub fn signature(&self) -> Result<Option<String>, Error> {
        self.optional(AGREEMENT)
    }

    /// The ODRL agreement of a ContractAgreementMessage; `None` if it is not understood.
    pub fn agreement(&self) -> Result<Option<PlainAgreement>, Error> {
        let terms: Value = self.get("agreement")?;
        fn part<T: DeserializeOwned>(terms: &Value, name: &str) -> Option<T> {
            serde_json::from_value(terms.get(name)?.clone()).ok()
        }
        let read = || {
            let (id, target) = (part(&terms, "@id")?, part(&terms, "target")?);
            let (assigner, assignee) = (part(&terms, "assigner")?, part(&terms, "assignee")?);
            Some(PlainAgreement { id, assigner, assignee, target, terms: terms.clone() })
        };
        Ok(read())
    }

    /// The data address of a TransferStartMessage.
    pub fn data_address(&self) -> Result<Option<DataAddress>, Error> {
        let Some(address) = self.optional::<Value>("dataAddress")? else { return Ok(None) };
        let property = |name: &str| {
            let named = |property: &&Value| property.get("name").and_then(Value::as_str).map(ld::term) == Some(name);
            let found = ld::elements(address.get("endpointProperties")).find(named);
            found.and_then(|property| property.get("value")?.as_str().map(str::to_owned))
        };
        // EDC has the endpoint among the properties.
        let endpoint = address.get("endpoint").and_then(Value::as_str).map(str::to_owned);
        let endpoint = endpoint.or_else(|| property("endpoint")).unwrap_or_default();
        let endpoint = Endpoint::parse(&endpoint).map_err(|e| invalid(format!("`dataAddress.endpoint`: {e}")))?;
        let until = property("crosspark:expires").and_then(|text| Timestamp::parse(&text).ok());
        Ok(Some(DataAddress { endpoint, token: property("authorization"), until }))
    }
}

/// The texts in `reason` of a message or error: strings, or objects with a text.
pub fn reasons(members: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().or_else(|| value.get("message")?.as_str()).map(words);
    let words: Vec<String> = ld::elements(members.get("reason")).filter_map(text).collect();
    words.join("; ").replace(char::is_control, " ")
}

/// A reason without the JSON of an error that it quotes: EDC passes on what another connector answered as it was written.
fn words(text: &str) -> String {
    let quoted = text.find('{').and_then(|at| {
        let error: Value = json::read_value(&text.as_bytes()[at..]).ok()?;
        let inner = ld::elements(error.get("reason")).filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        (!inner.is_empty()).then(|| format!("{}{inner}", &text[..at]))
    });
    quoted.unwrap_or_else(|| text.to_owned())
}

/// Adds `@context` and `@type` to a message or response.
pub fn with_context(kind: &str, members: Value) -> Value {
    let mut all = match members {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    all.insert("@context".into(), json!([CONTEXT]));
    all.insert("@type".into(), kind.into());
    Value::Object(all)
}

fn pids(role: Role, own: &ProcessId, peer: Option<&ProcessId>) -> Value {
    let peer = peer.map(ProcessId::to_string).unwrap_or_default();
    match role {
        Role::Consumer => json!({"consumerPid": own, "providerPid": peer}),
        Role::Provider => json!({"providerPid": own, "consumerPid": peer}),
    }
}

/// A negotiation as response body.
pub fn negotiation(negotiation: &Negotiation) -> Value {
    let mut members = pids(negotiation.role, &negotiation.id, negotiation.peer_pid.as_ref());
    members["state"] = negotiation.state.name().into();
    with_context("ContractNegotiation", members)
}

/// A transfer as response body.
pub fn transfer(transfer: &Transfer) -> Value {
    let mut members = pids(transfer.role, &transfer.id, transfer.peer_pid.as_ref());
    members["state"] = transfer.state.name().into();
    with_context("TransferProcess", members)
}

/// An outgoing message of the node at the endpoint `own`: its path below the receiver's DSP base (for crosspark
/// messages, below its endpoint) and its body.
pub fn outgoing(envelope: &Envelope<'_>, own: &Endpoint, to: &ParticipantId) -> (String, Value) {
    let (path, mut body) = written(envelope.message, own, to, envelope.token);
    if let Value::Object(body) = &mut body {
        // By the `@id` the receiver distinguishes a repetition from a new message with the same content.
        body.insert("@id".into(), envelope.id.to_string().into());
    }
    (path, body)
}

fn written(message: &Message, own: &Endpoint, to: &ParticipantId, token: Option<&str>) -> (String, Value) {
    let callback = own.join(BASE);
    match message {
        Message::ContractRequest { pid, peer_pid, offer, dataset, policy, claim } => {
            let mut body = json!({"consumerPid": pid, "offer": odrl_offer(offer, dataset, policy, ("assigner", to))});
            extend(&mut body, CLAIM, claim.as_deref());
            let path = addressed(&mut body, ("providerPid", peer_pid.as_ref()), &callback, "request");
            (path, with_context("ContractRequestMessage", body))
        }
        Message::ContractOffer { pid, peer_pid, offer, dataset, policy } => {
            let mut body = json!({"providerPid": pid, "offer": odrl_offer(offer, dataset, policy, ("assignee", to))});
            let path = addressed(&mut body, ("consumerPid", peer_pid.as_ref()), &callback, "offers");
            (path, with_context("ContractOfferMessage", body))
        }
        Message::ContractAccepted { pid, peer_pid, claim } => {
            let mut body = json!({"consumerPid": pid, "providerPid": peer_pid, "eventType": "ACCEPTED"});
            extend(&mut body, CLAIM, claim.as_deref());
            (
                format!("/negotiations/{}/events", peer_pid.in_url()),
                with_context("ContractNegotiationEventMessage", body),
            )
        }
        Message::ContractAgreement { pid, peer_pid, agreement, terms, signed } => {
            let odrl = odrl_agreement(agreement, terms.as_ref(), *signed);
            let mut body =
                json!({"providerPid": pid, "consumerPid": peer_pid, "agreement": odrl, "callbackAddress": callback});
            // Not inside `agreement`: some connectors compare all its members with those of the offer.
            extend(&mut body, AGREEMENT, Some(agreement));
            (format!("/negotiations/{}/agreement", peer_pid.in_url()), with_context("ContractAgreementMessage", body))
        }
        Message::ContractVerification { pid, peer_pid, agreement } => {
            let mut body = json!({"consumerPid": pid, "providerPid": peer_pid});
            extend(&mut body, AGREEMENT, agreement.as_deref());
            let path = format!("/negotiations/{}/agreement/verification", peer_pid.in_url());
            (path, with_context("ContractAgreementVerificationMessage", body))
        }
        Message::ContractFinalized { pid, peer_pid } => {
            let body = json!({"providerPid": pid, "consumerPid": peer_pid, "eventType": "FINALIZED"});
            (
                format!("/negotiations/{}/events", peer_pid.in_url()),
                with_context("ContractNegotiationEventMessage", body),
            )
        }
        Message::ContractTermination(end) => {
            let path = format!("/negotiations/{}/termination", end.peer_pid.in_url());
            (path, with_context("ContractNegotiationTerminationMessage", termination(end)))
        }
        Message::TransferRequest { pid, agreement, format } => {
            let body =
                json!({"consumerPid": pid, "agreementId": agreement, "format": format, "callbackAddress": callback});
            ("/transfers/request".into(), with_context("TransferRequestMessage", body))
        }
        Message::TransferStart { pid, peer_pid, until } => {
            let endpoint = own.join(&format!("/data/{}", pid.in_url()));
            let access = [("authorization", token.unwrap_or_default()), ("authType", "bearer")];
            let place = [("endpointType", HTTP_ENDPOINT), ("endpoint", endpoint.as_str())];
            let mut properties = vec![property("crosspark:expires", &until.to_string())];
            properties.extend(access.map(|(name, value)| property(name, value)));
            // Consumers of EDC look for everything among the properties, under the names of its own vocabulary.
            let theirs = place.into_iter().chain(access);
            properties.extend(theirs.map(|(name, value)| property(&format!("{EDC}{name}"), value)));
            let address = json!({
                "@type": "DataAddress",
                "endpointType": HTTP_ENDPOINT,
                "endpoint": endpoint,
                "endpointProperties": properties,
            });
            let body = json!({"providerPid": pid, "consumerPid": peer_pid, "dataAddress": address});
            (format!("/transfers/{}/start", peer_pid.in_url()), with_context("TransferStartMessage", body))
        }
        Message::TransferResumption { pid, peer_pid } => {
            let body = json!({"consumerPid": pid, "providerPid": peer_pid});
            (format!("/transfers/{}/start", peer_pid.in_url()), with_context("TransferStartMessage", body))
        }
        Message::TransferSuspension(pause) => {
            let path = format!("/transfers/{}/suspension", pause.peer_pid.in_url());
            (path, with_context("TransferSuspensionMessage", termination(pause)))
        }
        Message::TransferCompletion { role, pid, peer_pid } => {
            let body = pids(*role, pid, Some(peer_pid));
            (format!("/transfers/{}/completion", peer_pid.in_url()), with_context("TransferCompletionMessage", body))
        }
        Message::TransferTermination(end) => {
            let path = format!("/transfers/{}/termination", end.peer_pid.in_url());
            (path, with_context("TransferTerminationMessage", termination(end)))
        }
        Message::Withdrawal { statement } => ("/withdrawals".into(), Value::String(statement.clone())),
        Message::Receipt { transfer, receipt } => {
            (format!("/data/{}/receipt", transfer.in_url()), Value::String(receipt.clone()))
        }
    }
}

/// The path of a request or offer. The first of a negotiation states the callback address, every later one the peer's
/// process id; the JSON Schemas require exactly one of the two.
fn addressed(body: &mut Value, process: (&str, Option<&ProcessId>), callback: &str, kind: &str) -> String {
    match process {
        (name, Some(pid)) => {
            body[name] = pid.to_string().into();
            format!("/negotiations/{}/{kind}", pid.in_url())
        }
        (_, None) => {
            body["callbackAddress"] = callback.into();
            format!("/negotiations/{kind}")
        }
    }
}

fn extend(body: &mut Value, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}

fn odrl_offer(id: &OfferId, dataset: &DatasetId, policy: &Value, party: (&str, &ParticipantId)) -> Value {
    let mut offer = json!({"@id": id, "@type": "Offer", "target": dataset, party.0: party.1});
    if let (Some(offer), Some(policy)) = (offer.as_object_mut(), policy.as_object()) {
        offer.extend(policy.clone());
    }
    offer
}

fn property(name: &str, value: &str) -> Value {
    json!({"@type": "EndpointProperty", "name": name, "value": value})
}

fn termination(end: &Termination) -> Value {
    let mut body = pids(end.role, &end.pid, Some(&end.peer_pid));
    body["code"] = end.code.clone().into();
    body["reason"] = json!([end.reason]);
    body
}

/// The ODRL agreement. Its members are copied from the signed payload, its policy from `terms` if given: what a connector
/// wrote has the same normal form as the signed policy, but some connectors compare both literally.
fn odrl_agreement(jws: &str, terms: Option<&Value>, signed: Timestamp) -> Value {
    let payload = jws.split('.').nth(1).and_then(crate::identity::key::from_base64url).unwrap_or_default();
    let ours: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let part = |name: &str| ours.get(name).cloned().unwrap_or_default();
    let mut odrl = json!({
        "@id": part("id"), "@type": "Agreement", "assigner": part("provider"), "assignee": part("consumer"),
        "target": part("dataset"), "timestamp": signed,
    });
    let policy = terms.cloned().unwrap_or_else(|| part("policy"));
    if let (Some(odrl), Value::Object(policy)) = (odrl.as_object_mut(), policy) {
        for (name, value) in policy {
            odrl.entry(name).or_insert(value);
        }
    }
    odrl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        for (reason, expected) in [
            (json!(["no"]), "no"),
            (json!("no"), "no"),
            (json!(["no", {"message": "never"}]), "no; never"),
            (json!(["Failed: {\"@type\":\"TransferError\",\"reason\":[\"no\",\"never\"]}"]), "Failed: no; never"),
            (json!(["{\"reason\":\"no\"}"]), "no"),
            (json!(["what {is"]), "what {is"),
            (json!(["{\"code\":1}"]), "{\"code\":1}"),
            (json!(null), ""),
        ] {
            let members: Map<String, Value> = [("reason".to_owned(), reason)].into_iter().collect();
            assert_eq!(super::reasons(&members), expected);
        }
    }

    #[test]
    fn data_addresses_in_both_spellings() {
        let edc = "https://w3id.org/edc/v0.0.1/ns/";
        let message = |address: Value| {
            let body = json!({"@context": [CONTEXT], "@type": "TransferStartMessage", "dataAddress": address});
            Incoming::read(body.to_string().as_bytes(), "TransferStartMessage").unwrap().data_address()
        };
        let theirs = json!({"endpointProperties": [
            {"name": format!("{edc}endpoint"), "value": "https://edc.example/public"},
            {"name": format!("{edc}authorization"), "value": "x"},
        ]});
        let plain = json!({"endpoint": "https://edc.example/public", "endpointProperties":
            {"name": "authorization", "value": "x"}});
        for address in [theirs, plain] {
            let read = message(address).unwrap().unwrap();
            assert_eq!((read.endpoint.as_str(), read.token.as_deref()), ("https://edc.example/public", Some("x")));
        }
        assert!(message(json!({"endpointProperties": []})).is_err());
    }
}
