//! Invalid messages from peers; pages and filters of the catalog.

use super::*;

/// Invalid messages are answered with status, error type, pids and reason, and logged; nothing else changes.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_messages_get_the_protocols_errors() {
    let alliance = Alliance::new();
    let (edc, other) =
        (Connector::start(&alliance, "edc", false).await, Connector::start(&alliance, "other", false).await);
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    a.publish("economic-indicator", &records(1), "ndjson", &consent()).await;
    let (caller, stranger) = (Caller::new(&alliance, &edc, &a), Caller::new(&alliance, &other, &a));
    let dataset = caller.catalog().await.remove(0);
    let good = caller.request(&dataset, "urn:x:1", None);
    // Unknown properties are ignored; a repeated request gets the same answer and is the same negotiation.
    let mut more = good.clone();
    more["unheard-of"] = json!({"of": ["this"]});
    let (status, first) = caller.post("/negotiations/request", &more).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = caller.post("/negotiations/request", &more).await;
    assert_eq!((status, &again), (201, &first));
    let provider = first["providerPid"].as_str().unwrap().to_owned();
    let own = format!("/negotiations/{provider}");
    let with = |name: &str, value: Value| {
        let mut altered = good.clone();
        altered[name] = value;
        altered
    };
    let about = |kind: &str, more: Value| {
        let mut members = json!({"consumerPid": "urn:x:1", "providerPid": provider});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message(kind, members)
    };
    let event = |kind: &str| about("ContractNegotiationEventMessage", json!({"eventType": kind}));
    let verification = || about("ContractAgreementVerificationMessage", json!({}));
    let negotiation = "ContractNegotiationError";
    let cases = [
        ("no context", "/negotiations/request", with("@context", json!(null)), 400, negotiation),
        ("another context", "/negotiations/request", with("@context", json!(["https://other"])), 400, negotiation),
        ("a context that is no list", "/negotiations/request", with("@context", json!(CONTEXT)), 400, negotiation),
        ("another type", "/negotiations/request", with("@type", json!("ContractOfferMessage")), 400, negotiation),
        ("no process", "/negotiations/request", with("consumerPid", json!(null)), 400, negotiation),
        ("a process with a line feed", "/negotiations/request", with("consumerPid", json!("a\nb")), 400, negotiation),
        ("the same process", "/negotiations/request", with("consumerPid", json!("urn:x:1")), 400, negotiation),
        ("no callback", "/negotiations/request", with("callbackAddress", json!(null)), 400, negotiation),
        (
            "a foreign callback",
            "/negotiations/request",
            with("callbackAddress", json!("https://169.254.169.254/")),
            400,
            negotiation,
        ),
        (
            "another's callback",
            "/negotiations/request",
            with("callbackAddress", json!(other.endpoint)),
            400,
            negotiation,
        ),
        (
            "a callback without TLS",
            "/negotiations/request",
            with("callbackAddress", json!("http://edc.example")),
            400,
            negotiation,
        ),
        (
            "an unknown offer",
            "/negotiations/request",
            {
                let mut unknown = with("consumerPid", json!("urn:x:8"));
                unknown["offer"] = json!({"@id": "x", "@type": "Offer", "permission": [{"action": "use"}]});
                unknown
            },
            404,
            negotiation,
        ),
        (
            "an unknown term",
            "/negotiations/request",
            {
                let mut odd = with("consumerPid", json!("urn:x:9"));
                odd["offer"]["permission"] = json!([{"action": "use", "constraint": [{"leftOperand": "moon", "operator": "eq", "rightOperand": "full"}]}]);
                odd
            },
            400,
            negotiation,
        ),
        ("a verification too early", &format!("{own}/agreement/verification"), verification(), 400, negotiation),
        ("an acceptance of no offer", &format!("{own}/events"), event("ACCEPTED"), 400, negotiation),
        ("the provider's own event", &format!("{own}/events"), event("FINALIZED"), 400, negotiation),
        ("no event at all", &format!("{own}/events"), event("EXPLODED"), 400, negotiation),
        ("a counter to no offer", &format!("{own}/request"), with("providerPid", json!(provider)), 400, negotiation),
        (
            "an offer by the consumer",
            &format!("{own}/offers"),
            {
                let mut o = with("providerPid", json!(provider));
                o["@type"] = json!("ContractOfferMessage");
                o
            },
            400,
            negotiation,
        ),
        (
            "another's name for it",
            &format!("{own}/events"),
            {
                let mut e = event("ACCEPTED");
                e["consumerPid"] = json!("urn:x:2");
                e
            },
            400,
            negotiation,
        ),
        (
            "another process than the path",
            &format!("{own}/events"),
            {
                let mut e = event("ACCEPTED");
                e["providerPid"] = json!("urn:x:2");
                e
            },
            400,
            negotiation,
        ),
        (
            "an unknown agreement",
            "/transfers/request",
            message(
                "TransferRequestMessage",
                json!({"consumerPid": "urn:x:t", "agreementId": "x", "format": "HttpData-PULL", "callbackAddress": edc.endpoint}),
            ),
            404,
            "TransferError",
        ),
        (
            "a filter of another kind",
            "/catalog/request",
            message("CatalogRequestMessage", json!({"filter": ["SELECT 1"]})),
            400,
            "CatalogError",
        ),
        (
            "a filter on the moon",
            "/catalog/request",
            message(
                "CatalogRequestMessage",
                json!({"filter": [{"property": "moon", "operator": "eq", "value": "full"}]}),
            ),
            400,
            "CatalogError",
        ),
    ];
    for (what, path, body, status, kind) in cases {
        let before = a.entries().await.len();
        let (found, said) = caller.post(path, &body).await;
        assert_eq!((found, said["@type"].as_str()), (status, Some(kind)), "{what}: {said}");
        assert!(said["@context"][0] == CONTEXT && said["code"].is_string(), "{what}: {said}");
        assert!(said["reason"][0].as_str().is_some_and(|reason| reason.len() > 10), "{what}: {said}");
        if kind == negotiation && path.starts_with(&own) && !what.starts_with("another process") {
            assert_eq!(said["providerPid"], json!(provider), "{what}: {said}");
            assert!(said["consumerPid"].is_string(), "{what}: {said}");
        }
        let entries = a.entries().await;
        assert_eq!(kinds(&entries[before..]), ["message.refused"], "{what}");
        assert_eq!(caller.get(&own).await.1["state"], "REQUESTED", "{what}");
    }
    // Unknown and unauthorised processes get the same answer, except for the pid.
    let (status, hidden) = stranger.get(&own).await;
    let (unknown_status, unknown) = stranger.get("/negotiations/urn:x:none").await;
    assert_eq!((status, unknown_status), (404, 404));
    assert_eq!(hidden.to_string().replace(&provider, "P"), unknown.to_string().replace("urn:x:none", "P"));
    let (status, _) =
        stranger.post(&format!("{own}/termination"), &about("ContractNegotiationTerminationMessage", json!({}))).await;
    assert_eq!(status, 404);
    // Bodies that are not messages.
    let url = |path: &str| format!("{}/dsp/2025-1{path}", a.endpoint);
    let request = || caller.client.post(url("/negotiations/request"));
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(600_000));
    let json_type = ("content-type", "application/json");
    for (what, request, status) in [
        ("too long", request().header(json_type.0, json_type.1).body(long), 413),
        ("prose", request().header("content-type", "text/plain").body("hello"), 415),
        ("no type", request().body("{}"), 415),
        ("no JSON", request().header(json_type.0, json_type.1).body("{"), 400),
        ("a list", request().header(json_type.0, json_type.1).body("[]"), 400),
        ("deep", request().header(json_type.0, json_type.1).body("[".repeat(10_000)), 400),
        ("nothing there", caller.client.get(url("/nothing")), 404),
        ("another method", caller.client.delete(url("/negotiations/request")), 404),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{what}");
    }
    run.stop();
}

/// A large catalog is served in linked pages, and filters select datasets.
#[tokio::test(flavor = "multi_thread")]
async fn catalogs_have_pages_and_filters() {
    let alliance = Alliance::new();
    let connector = Connector::start(&alliance, "edc", false).await;
    let [a] = alliance.parks(["park-a"]);
    let here = a.start_here(Default::default()).await;
    let rows = 250;
    crate::find::fill(&here.services, rows).await;
    let caller = Caller::new(&alliance, &connector, &a);
    let url = format!("{}/dsp/2025-1/catalog/request", a.endpoint);
    let body = message("CatalogRequestMessage", json!({}));
    let (mut address, mut seen, mut pages) = (url.clone(), Vec::new(), 0);
    loop {
        let answer = caller.client.post(&address).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: Value = answer.json().await.unwrap();
        assert_eq!((&page["@type"], &page["participantId"]), (&json!("Catalog"), &json!(a.id)));
        let ids = page["dataset"].as_array().unwrap().iter().map(|dataset| dataset["@id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        pages += 1;
        let Some(link) = link else { break };
        let target = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0;
        address = format!("{}{target}", a.endpoint);
    }
    assert_eq!((pages, seen.len()), (3, rows));
    assert!(seen.is_sorted());
    let filtered = async |filter: Value| -> Vec<String> {
        let body = message("CatalogRequestMessage", json!({"filter": filter}));
        let page: Value = caller.client.post(&url).json(&body).send().await.unwrap().json().await.unwrap();
        let found = page["dataset"].as_array().cloned().unwrap_or_default();
        found.iter().map(|dataset| dataset["title"].as_str().unwrap().to_owned()).collect()
    };
    let condition = |property: &str, operator: &str, value: &str| json!({"property": property, "operator": operator, "value": value});
    assert_eq!(filtered(json!([condition("title", "eq", "Dataset 7")])).await, ["Dataset 7"]);
    assert_eq!(filtered(json!([condition("title", "contains", "SET 24")])).await.len(), 11);
    let two = json!([condition("title", "contains", "set 24"), condition("theme", "eq", "energy")]);
    assert!(filtered(two).await.len() < 11);
    assert_eq!(filtered(json!([condition("issued", "gteq", "2099-01-01T00:00:00Z")])).await, Vec::<String>::new());
    // EDC's query: parts of the list, and its conditions.
    let query = |offset: usize, limit: usize, expressions: Value| json!([{"@type": "QuerySpec", "offset": offset, "limit": limit, "sortOrder": "ASC", "filterExpression": expressions}]);
    let whole = filtered(query(0, 1_000, json!([]))).await;
    let parts = [filtered(query(0, 60, json!([]))).await, filtered(query(60, 40, json!([]))).await].concat();
    assert_eq!((whole.len(), whole), (100, parts));
    assert_eq!(filtered(query(240, 50, json!([]))).await.len(), rows - 240);
    assert_eq!(filtered(query(1_000, 50, json!([]))).await.len(), 0);
    let expression = |operator: &str, right: Value| json!([{"operandLeft": "https://w3id.org/edc/v0.0.1/ns/name", "operator": operator, "operandRight": right}]);
    assert_eq!(filtered(query(0, 50, expression("=", json!("Dataset 7")))).await, ["Dataset 7"]);
    assert_eq!(filtered(query(0, 50, expression("in", json!(["Dataset 7", "Dataset 8"])))).await.len(), 2);
    assert_eq!(filtered(query(1, 50, expression("ilike", json!("%SET 24%")))).await.len(), 10);
    for refused in [query(0, 50, expression("~", json!("x"))), query(20_000, 1, json!([]))] {
        let body = message("CatalogRequestMessage", json!({"filter": refused}));
        assert_eq!(caller.client.post(&url).json(&body).send().await.unwrap().status(), 400);
    }
    here.stop().await;
}

/// The check of messages detects messages that break a rule.
#[test]
fn the_rules_bite() {
    let offer = json!({"@id": "o", "@type": "Offer", "target": "d", "permission": [{"action": "use"}]});
    let good = json!({"consumerPid": "c", "offer": offer, "callbackAddress": "https://c.example"});
    assert_eq!(broken(&message("ContractRequestMessage", good.clone())), Vec::<String>::new());
    let mut empty = good.clone();
    empty["offer"]["permission"][0]["constraint"] = json!([]);
    assert_eq!(broken(&message("ContractRequestMessage", empty)).len(), 1);
    if std::env::var("CROSSPARK_DSP_SCHEMAS").is_ok() {
        let (mut both, mut odd) = (good.clone(), good);
        both["providerPid"] = json!("p");
        odd["offer"]["permission"] = json!([{"constraint": [{"leftOperand": "purpose"}]}]);
        for wrong in [both, odd] {
            assert_ne!(broken(&message("ContractRequestMessage", wrong)), Vec::<String>::new());
        }
    }
}
