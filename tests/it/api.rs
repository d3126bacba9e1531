//! The management API: every response matches the OpenAPI document, every error is a problem document, lists are paged,
//! and a creation with an idempotency key happens once.

use crate::documents;
use crate::harness::*;
use crosspark::net::own_node_client;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

fn request(park: &Park, method: &str, path: &str, token: &str) -> RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    own_node_client().unwrap().request(method, format!("{}{path}", park.management)).bearer_auth(token)
}

async fn document(park: &Park) -> Value {
    request(park, "GET", "/openapi.json", "").send().await.unwrap().json().await.unwrap()
}

/// Checks a response against the OpenAPI document and returns its body.
async fn conforms(document: &Value, method: &str, template: &str, response: Response) -> Value {
    let status = response.status().as_u16().to_string();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let operation = &document["paths"][template][method.to_lowercase()];
    let responses = &operation["responses"];
    // Errors are described once, as the default response.
    let documented = if responses[&status].is_object() || status.as_str() < "400" {
        &responses[&status]
    } else {
        &responses["default"]
    };
    assert!(documented.is_object(), "{method} {template}: {status} is not documented");
    let text = response.text().await.unwrap();
    let Some(contents) = documented["content"].as_object() else {
        assert_eq!(text, "", "{method} {template}: {status}");
        return Value::Null;
    };
    let kind = kind.unwrap_or_else(|| panic!("{method} {template}: {status} without content type"));
    let found = contents.iter().find(|(documented, _)| kind.starts_with(documented.as_str()));
    let (kind, content) = found.unwrap_or_else(|| panic!("{method} {template}: {status} is {kind}"));
    if !kind.ends_with("json") || kind.ends_with("ndjson") {
        return text.into();
    }
    let mut schema = content["schema"].clone();
    schema["components"] = document["components"].clone();
    let value: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {template}: {status}: {errors:#?}");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_what_the_document_says() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let (published, _) = a.publish("economic-indicator", &records(3), "ndjson", &research()).await;
    let end = b.request(&a, dataset_of(&published), "research").await;
    b.request(&a, dataset_of(&published), "advertising").await;
    let consent = json!({"permission": [{"action": "use", "duty": [{"action": "obtainConsent"}]}]});
    let (guarded, _) = a.publish("economic-indicator", &records(3), "ndjson", &consent).await;
    b.begin_request(&a, dataset_of(&guarded), "research").await;
    let waiting = loop {
        let found = a.get("publisher", "/v1/approvals").await;
        if let Some(id) = found["approvals"][0]["id"].as_str() {
            break format!("/v1/approvals/{id}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": format!("{}/x", a.id), "x-version": "1.0.0"
    });
    let (status, added) = a.call("POST", "/v1/schemas", &a.token_of("publisher").await, Some(schema)).await;
    assert_eq!(status, 201, "{added}");
    let proposal = format!("/v1/schemas/{}/proposal", added["digest"].as_str().unwrap());
    let source = json!({
        "name": "sent", "definition": {
            "input": {"kind": "pushed"}, "expectedHours": 24,
            "publication": {
                "title": "Sent", "schema": "urn:crosspark:schema:economic-indicator", "policy": research(), "format": "ndjson",
            },
        },
    });
    let (status, defined) = a.call("POST", "/v1/sources", &a.token_of("publisher").await, Some(source)).await;
    assert_eq!(status, 201, "{defined}");
    let (status, documents) =
        documents::send(&a, documents::SCHEMA, &documents::record("a", b"1"), &[("files", b"1")]).await;
    assert_eq!(status, 201, "{documents}");
    assert_eq!(b.request(&a, dataset_of(&documents), "research").await["stage"], "verified");
    let files = format!("/v1/datasets/{}/latest.zip", dataset_of(&documents));
    let api = document(&b).await;
    assert_eq!(api["openapi"], "3.1.0");
    let id = end["id"].as_str().unwrap();
    let catalog = format!("/v1/catalog?peer={}", a.id);
    let (one, data) = (format!("/v1/requests/{id}"), format!("/v1/requests/{id}/data?format=csv"));
    let latest = |format: &str| format!("/v1/datasets/{}/latest.{format}?limit=2", dataset_of(&published));
    let mut seen = Vec::new();
    for (park, role, path, template) in [
        (&b, "admin", "/healthz", "/healthz"),
        (&b, "admin", "/readyz", "/readyz"),
        (&b, "admin", "/metrics", "/metrics"),
        (&b, "admin", "/openapi.json", "/openapi.json"),
        (&b, "admin", "/docs", "/docs"),
        (&b, "admin", "/v1/status", "/v1/status"),
        (&b, "admin", "/v1/clock", "/v1/clock"),
        (&b, "admin", "/v1/tokens", "/v1/tokens"),
        (&b, "admin", "/v1/members", "/v1/members"),
        (&b, "auditor", "/v1/schemas", "/v1/schemas"),
        (&b, "auditor", "/v1/schemas/urn:crosspark:schema:enterprise", "/v1/schemas/{id}"),
        (&a, "publisher", &proposal, "/v1/schemas/{id}/proposal"),
        (&b, "requester", &catalog, "/v1/catalog"),
        (&a, "publisher", "/v1/datasets", "/v1/datasets"),
        (&a, "admin", "/v1/connections", "/v1/connections"),
        (&a, "auditor", "/v1/sources", "/v1/sources"),
        (&a, "publisher", "/v1/sources/sent", "/v1/sources/{id}"),
        (&a, "publisher", "/v1/approvals", "/v1/approvals"),
        (&a, "publisher", &waiting, "/v1/approvals/{id}"),
        (&a, "publisher", "/v1/transfers", "/v1/transfers"),
        (&b, "requester", "/v1/search?q=sample&sort=newest", "/v1/search"),
        (&b, "requester", "/v1/subscriptions", "/v1/subscriptions"),
        (&b, "requester", "/v1/requests", "/v1/requests"),
        (&b, "requester", &one, "/v1/requests/{id}"),
        (&b, "requester", &data, "/v1/requests/{id}/data"),
        (&b, "requester", &latest("ndjson"), "/v1/datasets/{id}/latest.ndjson"),
        (&b, "requester", &latest("csv"), "/v1/datasets/{id}/latest.csv"),
        (&b, "requester", &latest("json"), "/v1/datasets/{id}/latest.json"),
        (&b, "requester", &latest("xlsx"), "/v1/datasets/{id}/latest.xlsx"),
        (&b, "requester", &latest("parquet"), "/v1/datasets/{id}/latest.parquet"),
        (&b, "requester", &files, "/v1/datasets/{id}/latest.zip"),
        (&b, "auditor", "/v1/audit/entries?limit=1000", "/v1/audit/entries"),
        (&b, "auditor", "/v1/audit/checkpoint", "/v1/audit/checkpoint"),
    ] {
        let response = request(park, "GET", path, &park.token_of(role).await).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        conforms(&api, "GET", template, response).await;
        seen.push(template);
    }
    for (path, methods) in api["paths"].as_object().unwrap() {
        assert!(methods.get("get").is_none() || seen.contains(&path.as_str()), "{path} was not tested");
    }
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let api = document(&a).await;
    let (admin, requester, publisher) = (a.admin_token(), a.token_of("requester").await, a.token_of("publisher").await);
    let auditor = a.token_of("auditor").await;
    let json_of =
        |request: RequestBuilder, body: &str| request.header("content-type", "application/json").body(body.to_owned());
    let token = r#"{"role":"auditor","person":"x","days":1}"#;
    let unknown = "/v1/requests/urn:uuid:none";
    let cases: Vec<(&str, &str, RequestBuilder, u16, &str)> = vec![
        ("GET", "/v1/status", request(&a, "GET", "/v1/status", "wrong"), 401, "unauthorized"),
        ("GET", "/v1/tokens", request(&a, "GET", "/v1/tokens", &auditor), 403, "role"),
        ("GET", "/v1/tokens", request(&a, "GET", "/v1/tokens?limit=0", &admin), 400, "query"),
        ("GET", "/v1/tokens", request(&a, "GET", "/v1/tokens?limit=5&limit=6", &admin), 400, "query"),
        ("GET", "/v1/tokens", request(&a, "GET", "/v1/tokens?most=5", &admin), 400, "query"),
        ("GET", "/v1/tokens", request(&a, "GET", "/v1/tokens?after=%2A", &admin), 400, "query"),
        ("GET", "/v1/audit/entries", request(&a, "GET", "/v1/audit/entries?from=-1", &auditor), 400, "query"),
        ("GET", "/v1/catalog", request(&a, "GET", "/v1/catalog", &requester), 400, "query"),
        ("GET", "/v1/catalog", request(&a, "GET", "/v1/catalog?peer=did:web:x.example", &requester), 404, "not-found"),
        ("GET", "/v1/requests/{id}", request(&a, "GET", unknown, &requester), 404, "not-found"),
        ("GET", "/v1/requests/{id}", request(&a, "GET", "/v1/requests/a%0Ab", &requester), 400, "path"),
        ("GET", "/v1/requests/{id}", request(&a, "GET", &format!("{unknown}?wait=x"), &requester), 400, "query"),
        ("POST", "/v1/tokens", json_of(request(&a, "POST", "/v1/tokens", &admin), "{"), 400, "body"),
        ("POST", "/v1/tokens", json_of(request(&a, "POST", "/v1/tokens", &admin), "{\"role\":1}"), 400, "body"),
        ("POST", "/v1/tokens", request(&a, "POST", "/v1/tokens", &admin).body(token), 415, "content-type"),
        (
            "POST",
            "/v1/tokens",
            json_of(request(&a, "POST", "/v1/tokens", &admin), &" ".repeat(2 << 20)),
            413,
            "too-large",
        ),
        (
            "POST",
            "/v1/tokens",
            json_of(request(&a, "POST", "/v1/tokens", &admin).header("idempotency-key", "a b"), token),
            400,
            "header",
        ),
        ("POST", "/v1/register", request(&a, "POST", "/v1/register", &admin).body("x"), 400, "register"),
        ("POST", "/v1/schemas", json_of(request(&a, "POST", "/v1/schemas", &publisher), "{}"), 400, "schema"),
        ("POST", "/v1/root", request(&a, "POST", "/v1/root", &admin).body("{}"), 400, "root"),
        ("POST", "/v1/datasets", request(&a, "POST", "/v1/datasets", &publisher).body("x"), 415, "content-type"),
        (
            "POST",
            "/v1/datasets",
            request(&a, "POST", "/v1/datasets", &publisher).multipart(reqwest::multipart::Form::new().text("x", "y")),
            400,
            "multipart",
        ),
    ];
    for (method, template, request, status, title) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {template} {title}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let problem = conforms(&api, method, template, response).await;
        assert_eq!(problem["title"], title, "{problem}");
        assert_eq!(problem["trace"].as_str().unwrap().len(), 32);
    }
    for (method, path, status, allow) in [
        ("GET", "/v1/nothing", 404, None),
        ("PUT", "/v1/tokens", 405, Some("GET,HEAD,POST")),
        ("POST", "/docs", 405, Some("GET,HEAD")),
    ] {
        let response = request(&a, method, path, &admin).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let allowed = response.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        assert_eq!(allowed.as_deref(), allow, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    run.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_have_pages_and_creations_happen_once() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let mut datasets = Vec::new();
    for _ in 0..5 {
        datasets
            .push(dataset_of(&a.publish("economic-indicator", &records(1), "ndjson", &research()).await.0).to_owned());
    }
    let (requester, admin) = (b.token_of("requester").await, b.admin_token());
    let ask = async |key: &str, dataset: &str| {
        let body = json!({"provider": a.id, "dataset": dataset, "purpose": "research"});
        let request = request(&b, "POST", "/v1/requests", &requester).header("idempotency-key", key);
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let mut ids = Vec::new();
    for n in 0..5 {
        // The same request twice, first one after the other, then concurrently.
        let key = format!("key-{n}");
        let (first, second) = tokio::join!(ask(&key, &datasets[n]), ask(&key, &datasets[n]));
        let third = ask(&key, &datasets[n]).await;
        assert_eq!([first.0, second.0, third.0], [202; 3], "{first:?} {second:?}");
        assert!(first.1["id"] == second.1["id"] && second.1["id"] == third.1["id"]);
        ids.push(first.1["id"].clone());
        let (status, said) = ask(&key, &datasets[(n + 1) % 5]).await;
        assert!(status == 422 && said["title"] == "idempotency-key", "{said}");
    }
    let make = async |key: &str| {
        let body = json!({"role": "auditor", "person": "x", "days": 1});
        let request = request(&b, "POST", "/v1/tokens", &admin).header("idempotency-key", key);
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, made) = make("same").await;
    assert_eq!(status, 201, "{made}");
    let (status, said) = make("same").await;
    assert!(
        status == 409 && said["detail"].as_str().unwrap().contains(made["token"]["id"].as_str().unwrap()),
        "{said}"
    );
    // A repeated publication.
    let publisher = a.token_of("publisher").await;
    let publish = async |count: usize| {
        let metadata = json!({
            "title": "IdempotencyKey", "schema": "urn:crosspark:schema:economic-indicator", "policy": research(), "format": "ndjson",
        });
        let form =
            reqwest::multipart::Form::new().text("metadata", metadata.to_string()).text("records", records(count));
        let request = request(&a, "POST", "/v1/datasets", &publisher).header("idempotency-key", "once");
        request.multipart(form).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let (first, second) = tokio::join!(publish(2), publish(2));
    assert_eq!(first, second);
    assert_eq!(publish(2).await, first);
    assert_eq!(publish(3).await["title"], "idempotency-key", "a request with other records is a different request");
    datasets.push(first["dataset"].as_str().unwrap().to_owned());
    assert_eq!(
        std::fs::read_dir(a.folder.join("blobs")).unwrap().count(),
        7,
        "one blob per publication, and the folder of parts"
    );

    let pages = async |park: &Park, token: &str, path: &str, name: &str| {
        let (mut all, mut after) = (Vec::new(), String::new());
        for _ in 0..100 {
            let page = request(park, "GET", &format!("{path}?limit=2{after}"), token).send().await.unwrap();
            let page: Value = page.json().await.unwrap();
            let rows = page[name].as_array().unwrap_or_else(|| panic!("{page}")).clone();
            assert!(rows.len() <= 2);
            all.extend(rows);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        all
    };
    let listed = pages(&b, &requester, "/v1/requests", "requests").await;
    ids.reverse();
    assert_eq!(listed.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), ids, "once each, newest first");
    let own = pages(&a, &publisher, "/v1/datasets", "datasets").await;
    datasets.sort();
    assert_eq!(own.iter().map(|row| row["dataset"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), datasets);
    assert_eq!(pages(&b, &admin, "/v1/tokens", "tokens").await.len(), 3);
    let entries = pages(&b, &b.token_of("auditor").await, "/v1/audit/entries", "entries").await;
    assert!(entries.iter().enumerate().all(|(n, row)| row["index"] == n) && entries.len() > 20);
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
}
