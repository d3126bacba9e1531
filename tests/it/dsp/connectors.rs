//! Another connector as consumer and as provider, and counter-offers.

use super::*;
use axum::http::StatusCode;

/// With each kind of authentication, a connector reads the catalog, negotiates and gets the published records by
/// ranges; one transfer is one use.
#[tokio::test(flavor = "multi_thread")]
async fn a_connector_gets_plain_data_where_the_policy_permits_it() {
    for by_token in [false, true] {
        let alliance = Alliance::new();
        let connector = Connector::start(&alliance, "edc", by_token).await;
        let [a] = alliance.parks(["park-a"]);
        let run = a.start().await;
        let text = records(60_000);
        a.publish("economic-indicator", &text, "ndjson", &plain(2)).await;
        a.publish("economic-indicator", &records(1), "ndjson", &research()).await;
        let caller = Caller::new(&alliance, &connector, &a);
        let datasets = caller.catalog().await;
        assert_eq!(datasets.len(), 2);
        let formats = |dataset: &Value| -> Vec<String> {
            let all = dataset["distribution"].as_array().unwrap();
            all.iter().map(|one| one["format"].as_str().unwrap().to_owned()).collect()
        };
        let dataset = datasets.iter().find(|dataset| formats(dataset).len() == 2).expect("plain is offered");
        let sealed = datasets.iter().find(|dataset| formats(dataset) == ["crosspark-sealed"]).expect("sealed only");

        let agreement = caller.agree(dataset, "urn:x:n1", 0).await;
        let (transfer, endpoint, token) = caller.transfer(&agreement, "urn:x:t1", 0).await;
        let answer = caller.fetch(&endpoint, &token, None).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
            (200, "application/x-ndjson")
        );
        assert_eq!(answer.text().await.unwrap(), text);
        // Any range, also across frames, but not beyond the end.
        let size = text.len();
        for range in [0..1, 5..1_000_000, 1_048_000..1_050_000, size - 3..size] {
            let part = caller.fetch(&endpoint, &token, Some(&format!("bytes={}-{}", range.start, range.end - 1))).await;
            assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(part.text().await.unwrap(), text[range]);
        }
        assert_eq!(caller.fetch(&endpoint, &token, Some(&format!("bytes={size}-"))).await.status(), 416);
        // No data with an invalid token or without one.
        assert_eq!(caller.fetch(&endpoint, "1.x", None).await.status(), 403);
        assert_eq!(anonymous().get(&endpoint).send().await.unwrap().status(), 403);
        let entries = a.entries().await;
        assert_eq!(
            kinds(&entries).iter().filter(|kind| *kind == "data.released").count(),
            1,
            "repeated reads are one use"
        );

        // Suspended by the provider, the transfer is not served and the consumer cannot resume it; resumed, it has a
        // new token.
        let admin = a.token_of("admin").await;
        let step = async |step: &str| {
            a.call("POST", &format!("/v1/transfers/{transfer}"), &admin, Some(json!({"step": step}))).await
        };
        assert_eq!(step("suspend").await.1["state"], "SUSPENDED");
        let suspension = connector.hears("TransferSuspensionMessage", 0).await.body;
        assert!(suspension["reason"][0].is_string(), "{suspension}");
        assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 403);
        let resume = message("TransferStartMessage", json!({"consumerPid": "urn:x:t1", "providerPid": transfer}));
        assert_eq!(caller.post(&format!("/transfers/{transfer}/start"), &resume).await.0, 400);
        assert_eq!(step("resume").await.1["state"], "STARTED");
        let (endpoint, token) = address_of(&connector.hears("TransferStartMessage", 1).await.body);
        assert_eq!(caller.fetch(&endpoint, &token, None).await.text().await.unwrap(), text);
        // A transfer that the consumer suspended can be resumed by the consumer.
        let about = json!({"consumerPid": "urn:x:t1", "providerPid": transfer, "code": "1"});
        let pause = message("TransferSuspensionMessage", about.clone());
        assert_eq!(caller.post(&format!("/transfers/{transfer}/suspension"), &pause).await.1["state"], "SUSPENDED");
        assert_eq!(step("resume").await.0, 409);
        let resume = message("TransferStartMessage", json!({"consumerPid": "urn:x:t1", "providerPid": transfer}));
        assert_eq!(caller.post(&format!("/transfers/{transfer}/start"), &resume).await.1["state"], "STARTED");
        assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 200);
        let done = message("TransferCompletionMessage", json!({"consumerPid": "urn:x:t1", "providerPid": transfer}));
        assert_eq!(caller.post(&format!("/transfers/{transfer}/completion"), &done).await.1["state"], "COMPLETED");
        assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 403);

        // A second use is permitted, a third is not.
        let (_, endpoint, token) = caller.transfer(&agreement, "urn:x:t2", 2).await;
        assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 200);
        let body = json!({"consumerPid": "urn:x:t3", "agreementId": agreement, "format": "HttpData-PULL", "callbackAddress": connector.endpoint});
        assert_eq!(caller.post("/transfers/request", &message("TransferRequestMessage", body)).await.0, 201);
        let end = connector.hears("TransferTerminationMessage", 0).await.body;
        assert!(end["reason"][0].as_str().unwrap().contains("2 uses"), "{end}");

        // A dataset offered only sealed is not delivered plain, and a policy with a purpose needs one in the request.
        let (status, made) = caller.post("/negotiations/request", &caller.request(sealed, "urn:x:n2", None)).await;
        assert_eq!(status, 201, "{made}");
        let end = connector.hears("ContractNegotiationTerminationMessage", 0).await.body;
        assert!(end["reason"][0].as_str().unwrap().contains("one purpose"), "{end}");
        let narrow = policy(&[("purpose", "isAnyOf", json!(["research"]))]);
        caller.post("/negotiations/request", &caller.request(sealed, "urn:x:n3", Some(&narrow))).await;
        let agreed = connector.hears("ContractAgreementMessage", 1).await.body;
        let body = json!({
            "consumerPid": "urn:x:t4", "agreementId": agreed["agreement"]["@id"], "format": "HttpData-PULL",
            "callbackAddress": connector.endpoint,
        });
        let (status, _) = caller.post("/transfers/request", &message("TransferRequestMessage", body)).await;
        assert_eq!(status, 404, "an agreement that is not finalized cannot be used");
        run.stop();
    }
}

/// A running download is cut when the transfer is suspended, and that is logged.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_cut() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    // More than the connection buffers while the client does not read.
    let note = "园".repeat(2_000);
    let line = |n: usize| format!("{{\"area\":\"A{n}\",\"note\":\"{note}\",\"period\":\"2024\",\"value\":1}}\n");
    let text: String = (0..8_000).map(line).collect();
    let (published, _) = a.publish("economic-indicator", &text, "ndjson", &plain(9)).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset = caller.catalog().await.remove(0);
    let agreement = caller.agree(&dataset, "urn:x:n1", 0).await;
    let (transfer, endpoint, token) = caller.transfer(&agreement, "urn:x:t1", 0).await;
    let mut answer = caller.fetch(&endpoint, &token, None).await;
    let mut came = answer.chunk().await.unwrap().unwrap().len();
    let step = json!({"step": "suspend"});
    a.call("POST", &format!("/v1/transfers/{transfer}"), &a.token_of("admin").await, Some(step)).await;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => came += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken && came < text.len(), "{came} of {}", text.len());
    let entries = a.entries().await;
    let refused: Vec<&Value> = entries.iter().filter(|row| row["entry"]["kind"] == "data.refused").collect();
    assert_eq!(refused.len(), 1);
    let entry = &refused[0]["entry"];
    assert_eq!((&entry["dataset"], &entry["agreement"]), (&published["dataset"], &json!(agreement)), "{entry}");
    assert_eq!(entry["rule"], "transfer-suspended", "{entry}");
    run.stop();
}

/// A park requests data from another connector, streams it to the user, and stores none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_park_gets_a_connectors_data() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [b] = alliance.parks(["park-b"]);
    let run = b.start().await;
    let offer = json!({"@id": "offer:1", "@type": "Offer", "permission": [{"action": "use"}]});
    let dataset = json!({
        "@context": [CONTEXT], "@id": "asset-1", "@type": "Dataset", "hasPolicy": [offer], "dct:title": "Foreign data",
        "distribution": [{"@type": "Distribution", "format": "HttpData-PULL", "accessService": {"@id": "x", "@type": "DataService"}}],
    });
    connector.answers("/catalog/datasets/asset-1", dataset.to_string(), "application/json");
    connector.answers("/data/1", "a,b\n1,2\n", "text/csv");
    let token = b.token_of("requester").await;
    let new = json!({"provider": connector.id, "dataset": "asset-1", "purpose": "research"});
    let (status, view) = b.call("POST", "/v1/requests", &token, Some(new)).await;
    assert_eq!(status, 202, "{view}");
    let request = connector.hears("ContractRequestMessage", 0).await;
    assert!(request.token.is_some(), "messages to a connector carry a bearer token");
    let asked = request.body;
    assert!(
        asked.get("crosspark:claim").is_none(),
        "the connector must not receive purpose, enterprise or person: {asked}"
    );
    let caller = Caller::new(&alliance, &connector, &b);
    let (consumer, provider) = (asked["consumerPid"].as_str().unwrap(), own_name(&asked));
    let agreement = |terms: Value, assignee: &str| {
        let mut agreement = json!({
            "@id": "agreement-1", "@type": "Agreement", "assigner": connector.id, "assignee": assignee,
            "target": "asset-1", "timestamp": "2026-01-01T00:00:00Z",
        });
        agreement.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        let members = json!({"consumerPid": consumer, "providerPid": provider, "agreement": agreement, "callbackAddress": connector.endpoint});
        message("ContractAgreementMessage", members)
    };
    let path = format!("/negotiations/{consumer}/agreement");
    let good = agreement(json!({"permission": [{"action": "use"}]}), &b.id);
    let (status, said) = caller.post(&path, &good).await;
    assert_eq!((status, &said["state"]), (200, &json!("AGREED")), "{said}");
    connector.hears("ContractAgreementVerificationMessage", 0).await;
    let event = json!({"consumerPid": consumer, "providerPid": provider, "eventType": "FINALIZED"});
    let event = message("ContractNegotiationEventMessage", event);
    assert_eq!(caller.post(&format!("/negotiations/{consumer}/events"), &event).await.0, 200);
    let wanted = connector.hears("TransferRequestMessage", 0).await.body;
    assert_eq!((&wanted["agreementId"], &wanted["format"]), (&json!("agreement-1"), &json!("HttpData-PULL")));
    let transfer = wanted["consumerPid"].as_str().unwrap();
    let start = |endpoint: String| {
        let address = json!({"@type": "DataAddress", "endpointType": "https://w3id.org/idsa/v4.1/HTTP", "endpoint": endpoint,
            "endpointProperties": [{"@type": "EndpointProperty", "name": "authorization", "value": "secret"}]});
        message(
            "TransferStartMessage",
            json!({"consumerPid": transfer, "providerPid": own_name(&wanted), "dataAddress": address}),
        )
    };
    let path = format!("/transfers/{transfer}/start");
    // A data address that is not below one in the connector's register entry is refused.
    let (status, said) = caller.post(&path, &start("https://169.254.169.254/latest".into())).await;
    assert_eq!((status, said["@type"].as_str()), (400, Some("TransferError")), "{said}");
    let data = connector.endpoint.replace("/protocol/2025-1", "/data/1");
    assert_eq!(caller.post(&path, &start(data)).await.1["state"], "STARTED");
    let view = b.wait(&view, 30).await;
    assert_eq!(view["stage"], "ready", "{view}");
    assert_eq!(b.data(&view, "ndjson").await, "a,b\n1,2\n");
    let asked = connector.all_heard().into_iter().find(|heard| heard.path == "/data/1").unwrap();
    assert_eq!(asked.token.as_deref(), Some("secret"));
    let entries = kinds(&b.entries().await);
    assert_eq!(entries.iter().filter(|kind| *kind == "dataset.opened").count(), 1);
    assert!(std::fs::read_dir(b.folder.join("received")).unwrap().all(|file| file.unwrap().file_name() == "parts"));

    // An agreement with other terms is refused: the negotiation is terminated, and the connector is notified.
    let new = json!({"provider": connector.id, "dataset": "asset-1", "purpose": "planning"});
    b.call("POST", "/v1/requests", &token, Some(new)).await;
    let asked = connector.hears("ContractRequestMessage", 1).await.body;
    let other = asked["consumerPid"].as_str().unwrap();
    let mut bad = agreement(json!({"permission": [{"action": "use"}]}), &connector.id);
    (bad["consumerPid"], bad["providerPid"]) = (other.into(), own_name(&asked).into());
    assert_eq!(caller.post(&format!("/negotiations/{other}/agreement"), &bad).await.0, 400);
    let end = connector.hears("ContractNegotiationTerminationMessage", 0).await.body;
    assert!(end["reason"][0].as_str().unwrap().contains("assignee"), "{end}");
    run.stop();
}

/// Offers and counter-offers: terms within the offer are agreed; other terms are answered with the offer.
#[tokio::test(flavor = "multi_thread")]
async fn terms_go_back_and_forth() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    a.publish("economic-indicator", &records(1), "ndjson", &plain(2)).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset = caller.catalog().await.remove(0);
    // More uses than offered are answered with the offer; fewer are agreed.
    let (_, made) = caller.post("/negotiations/request", &caller.request(&dataset, "urn:x:1", Some(&plain(3)))).await;
    let provider = made["providerPid"].as_str().unwrap();
    let offered = connector.hears("ContractOfferMessage", 0).await.body;
    assert!(offered.get("callbackAddress").is_none() && offered["consumerPid"] == "urn:x:1", "{offered}");
    assert_eq!(caller.get(&format!("/negotiations/{provider}")).await.1["state"], "OFFERED");
    let mut counter = caller.request(&dataset, "urn:x:1", Some(&plain(1)));
    counter["providerPid"] = provider.into();
    counter.as_object_mut().unwrap().remove("callbackAddress");
    let (status, said) = caller.post(&format!("/negotiations/{provider}/request"), &counter).await;
    assert_eq!((status, &said["state"]), (200, &json!("REQUESTED")), "{said}");
    let agreed = connector.hears("ContractAgreementMessage", 0).await.body;
    assert!(agreed["agreement"]["permission"].to_string().contains("\"1\""), "{agreed}");
    // More uses again; the consumer then accepts the offer.
    let (_, made) = caller.post("/negotiations/request", &caller.request(&dataset, "urn:x:2", Some(&plain(9)))).await;
    let provider = made["providerPid"].as_str().unwrap();
    connector.hears("ContractOfferMessage", 1).await;
    let accepted = json!({"consumerPid": "urn:x:2", "providerPid": provider, "eventType": "ACCEPTED"});
    let accepted = message("ContractNegotiationEventMessage", accepted);
    let (status, said) = caller.post(&format!("/negotiations/{provider}/events"), &accepted).await;
    assert_eq!((status, &said["state"]), (200, &json!("ACCEPTED")), "{said}");
    let agreed = connector.hears("ContractAgreementMessage", 1).await.body;
    assert!(agreed["agreement"]["permission"].to_string().contains("\"2\""), "{agreed}");
    // Endless counter-offers are refused.
    let (_, made) = caller.post("/negotiations/request", &caller.request(&dataset, "urn:x:3", Some(&plain(9)))).await;
    let provider = made["providerPid"].as_str().unwrap();
    let mut last = (200, Value::Null);
    for n in 0..40 {
        connector.hears("ContractOfferMessage", 2 + n).await;
        let mut counter = caller.request(&dataset, "urn:x:3", Some(&plain(10)));
        counter["providerPid"] = provider.into();
        last = caller.post(&format!("/negotiations/{provider}/request"), &counter).await;
        if last.0 != 200 {
            break;
        }
    }
    assert!(last.0 == 400 && last.1["reason"][0].as_str().unwrap().contains("too many transitions"), "{last:?}");
    run.stop();
}

/// A consumer that refuses the agreement: the negotiation ends on this side, and the consumer is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_agreement_ends_the_negotiation() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    a.publish("economic-indicator", &records(1), "ndjson", &plain(2)).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset = caller.catalog().await.remove(0);
    connector.refuses("/agreement", "the policy is not equal");
    let (status, made) = caller.post("/negotiations/request", &caller.request(&dataset, "urn:x:n1", None)).await;
    assert_eq!(status, 201, "{made}");
    let end = connector.hears("ContractNegotiationTerminationMessage", 0).await.body;
    assert!(end["reason"][0].as_str().unwrap().contains("the policy is not equal"), "{end}");
    let path = format!("/negotiations/{}", made["providerPid"].as_str().unwrap());
    assert_eq!(caller.get(&path).await.1["state"], "TERMINATED");
    run.settle().await;
    run.stop();
}

/// A consumer that answers a message with a conflict gets it again: EDC does so while it works on the process. A conflict
/// that stays is a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_tried_again() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    a.publish("economic-indicator", &records(1), "ndjson", &plain(1)).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset = caller.catalog().await.remove(0);
    for end in ["/agreement", "/events", "/start", "/termination"] {
        connector.refuses_times(end, 409, "is already leased", 2);
    }
    let agreement = caller.agree(&dataset, "urn:x:n1", 0).await;
    let (_, endpoint, token) = caller.transfer(&agreement, "urn:x:t1", 0).await;
    assert_eq!(caller.fetch(&endpoint, &token, None).await.status(), 200);
    let body = json!({"consumerPid": "urn:x:t2", "agreementId": agreement, "format": "HttpData-PULL", "callbackAddress": connector.endpoint});
    assert_eq!(caller.post("/transfers/request", &message("TransferRequestMessage", body)).await.0, 201);
    let end = connector.hears("TransferTerminationMessage", 2).await.body;
    assert!(end["reason"][0].as_str().unwrap().contains("1 use"), "{end}");
    run.settle().await;
    let entries = a.entries().await;
    assert!(!kinds(&entries).iter().any(|kind| kind == "message.abandoned"), "{entries:#?}");
    run.stop();
}

/// Agreements repeat the rules as the consumer wrote them, if everybody reads them alike; ids may be anything.
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_repeated_as_written() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    a.publish("economic-indicator", &records(1), "ndjson", &plain(2)).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let dataset = caller.catalog().await.remove(0);
    let normal = &dataset["hasPolicy"][0]["permission"][0];
    let channels = "[{\"@value\":\"crosspark-sealed\"},{\"@value\":\"HttpData-PULL\"}]";
    let written = |name: &str| {
        let list = json!([
            {"leftOperand": "odrl:deliveryChannel", "operator": "isAnyOf", "rightOperand": channels},
            {"leftOperand": "odrl:count", "operator": "lteq", "rightOperand": {"@value": "2", "@type": "xsd:integer"}},
        ]);
        json!({"permission": [{"action": "use", name: list}]})
    };
    for (n, name) in ["constraint", "odrl:constraint", "dct:constraint"].into_iter().enumerate() {
        let pid = format!("数据/{n}");
        let request = caller.request(&dataset, &pid, Some(&written(name)));
        let url = format!("{}/dsp/2025-1/negotiations/request", a.endpoint);
        let answer = caller.client.post(url).json(&request).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
        let agreed = connector.hears("ContractAgreementMessage", n).await;
        assert_eq!(agreed.body["consumerPid"], pid);
        assert!(agreed.path.contains("%2F"), "{}", agreed.path);
        let permission = &agreed.body["agreement"]["permission"][0];
        if name == "constraint" {
            let constraints = &permission["constraint"];
            assert_eq!(constraints[0]["leftOperand"], "odrl:deliveryChannel");
            assert_eq!(constraints[0]["rightOperand"], json!(["crosspark-sealed", "HttpData-PULL"]));
            assert_eq!(constraints[1]["rightOperand"]["@value"], "2");
        } else {
            // Some processors of JSON-LD would not see these constraints.
            assert_eq!(permission, normal);
        }
    }
    run.stop();
}

/// A claim from a clock that is wrong is refused with that reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named() {
    use crosspark::assembly::Overrides;
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run = a.start().await;
    let (published, _) = a.publish("economic-indicator", &records(1), "ndjson", &research()).await;
    let clock = std::sync::Arc::new(ShiftedClock(std::sync::atomic::AtomicI64::new(100_000)));
    let here = b.start_here(Overrides { clock: Some(clock), ..Overrides::default() }).await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains("s after this node's time: compare the clocks"), "{end}");
    here.stop().await;
    run.stop();
}
