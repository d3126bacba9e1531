//! Every route is called by every kind of caller, and every refusal is logged.

use crate::harness::*;
use crosspark::core::id::Text;
use crosspark::core::time::{Clock, SystemClock};
use crosspark::identity::document;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// Who may call a route: everyone, members of any status, or active members.
#[derive(Clone, Copy, PartialEq, Debug)]
enum For {
    All,
    Members,
    Active,
}

fn routes() -> Vec<(Method, String, For)> {
    let (get, post, pid) = (Method::GET, Method::POST, "urn:uuid:00000000-0000-4000-8000-000000000000");
    let digest = format!("sha256:{}", "0".repeat(64));
    let base = "/dsp/2025-1";
    let mut all = vec![
        (get.clone(), "/.well-known/dspace-version".to_owned(), For::All),
        (get.clone(), "/register".into(), For::All),
        (get.clone(), "/register/1".into(), For::All),
        (get.clone(), "/root/1".into(), For::All),
        (get.clone(), "/log/checkpoint".into(), For::All),
        (get.clone(), "/log/tile/0/000.p/1".into(), For::All),
        (get.clone(), "/log/tile/entries/000.p/1".into(), For::All),
        (get.clone(), format!("/schemas/{digest}"), For::Active),
        (get.clone(), format!("/manifests/{digest}"), For::Active),
        (get.clone(), format!("/data/{pid}"), For::Active),
        (post.clone(), format!("/data/{pid}/key"), For::Active),
        (post.clone(), format!("/data/{pid}/receipt"), For::Members),
        (get.clone(), format!("/openings/{pid}"), For::Active),
        (get.clone(), "/seen".into(), For::Members),
        (get.clone(), "/reach".into(), For::Active),
        (post.clone(), format!("{base}/catalog/request"), For::Active),
        (get.clone(), format!("{base}/catalog/datasets/{pid}"), For::Active),
        (get.clone(), format!("{base}/negotiations/{pid}"), For::Active),
        (get, format!("{base}/transfers/{pid}"), For::Active),
    ];
    for (path, standing) in [
        ("negotiations/request", For::Active),
        ("negotiations/offers", For::Active),
        ("negotiations/PID/request", For::Active),
        ("negotiations/PID/offers", For::Active),
        ("negotiations/PID/events", For::Active),
        ("negotiations/PID/agreement", For::Active),
        ("negotiations/PID/agreement/verification", For::Active),
        ("negotiations/PID/termination", For::Members),
        ("transfers/request", For::Active),
        ("transfers/PID/start", For::Active),
        ("transfers/PID/completion", For::Active),
        ("transfers/PID/suspension", For::Active),
        ("transfers/PID/termination", For::Members),
    ] {
        all.push((post.clone(), format!("{base}/{}", path.replace("PID", pid)), standing));
    }
    all
}

async fn call(client: &Client, park: &Park, method: &Method, path: &str) -> (StatusCode, bool) {
    let mut request = client.request(method.clone(), format!("{}{path}", park.endpoint));
    if *method == Method::POST {
        request = request.json(&json!({"@context": [CONTEXT], "@type": "Nothing"}));
    }
    let response = request.send().await.unwrap();
    (response.status(), response.headers().contains_key("crosspark-promise"))
}

/// Refusals in the log so far: single entries plus the numbers in counted entries.
async fn refusals(park: &Park) -> u64 {
    let count = |row: &Value| match row["entry"]["kind"].as_str() {
        Some("refusals.counted") => {
            row["entry"]["detail"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
        }
        _ => u64::from(row["entry"]["decision"] == "refused"),
    };
    park.entries().await.iter().map(count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_with_every_caller() {
    let alliance = Alliance::new();
    let [a, b, suspended] = alliance.parks(["park-a", "park-b", "park-s"]);
    let run = a.start().await;
    alliance.command("suspend", &suspended);
    let token = a.get("admin", "/v1/status").await;
    assert_eq!(token["register"]["sequence"], 4);
    let file = alliance.path().join("register.jws");
    // The newer register is installed through the management API.
    let jws = std::fs::read_to_string(&file).unwrap();
    install(&a, &jws).await;

    let nobody = a.client(&alliance, unknown_identity());
    let clients = [
        ("no certificate", anonymous(), [true, false, false]),
        ("an unknown certificate", nobody, [true, false, false]),
        ("an expired certificate", a.client(&alliance, alliance.certificate(&b, -10, -1)), [true, false, false]),
        (
            "a certificate that is not valid yet",
            a.client(&alliance, alliance.certificate(&b, 1, 10)),
            [true, false, false],
        ),
        ("a suspended member", a.client(&alliance, suspended.identity()), [true, true, false]),
        ("an active member", a.client(&alliance, b.identity()), [true, true, true]),
    ];
    for (who, client, allowed) in &clients {
        for (n, (method, path, standing)) in routes().into_iter().enumerate() {
            let before = refusals(&a).await;
            let (status, promised) = call(client, &a, &method, &path).await;
            let after = refusals(&a).await;
            let may = allowed[standing as usize];
            assert_eq!(status != StatusCode::FORBIDDEN, may, "{who}: {method} {path}: {status}");
            assert!(!status.is_server_error(), "{who}: {method} {path}: {status}");
            // On routes that need a certificate, every refusal is in the log, as an entry or in a count.
            if status.is_client_error() && standing != For::All && !path.starts_with("/schemas") {
                assert_eq!(after, before + 1, "{who}: {method} {path}: {status} was not logged");
                let known = who.ends_with("member") || who.contains("expired") || who.contains("yet");
                // Of many refusals of one kind, only the first ones of a minute have entries of their own.
                let few = n < crosspark::core::limits::REFUSALS_SINGLE_PER_MINUTE as usize;
                let member = known && few && (may || who.contains("suspended"));
                assert!(promised || !member, "{who}: {method} {path}: {status} without a promise");
            }
        }
    }
    run.stop();
}

async fn install(park: &Park, jws: &str) {
    let client = crosspark::net::own_node_client().unwrap();
    let admin = park.admin_token();
    let url = format!("{}/v1/register", park.management);
    let response = client.post(url).bearer_auth(admin).body(jws.to_owned()).send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
}

/// A client without a certificate that accepts any server certificate.
#[allow(clippy::disallowed_methods, reason = "an unauthenticated caller does not use our client")]
fn anonymous() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap()
}

fn contract_request(
    a: &Park,
    b: &Park,
    claim: &str,
    offer: &str,
    dataset: &str,
    policy: &Value,
    callback: &str,
) -> Value {
    let mut body = json!({
        "@context": [CONTEXT], "@type": "ContractRequestMessage",
        "consumerPid": "urn:uuid:11111111-1111-4111-8111-111111111111",
        "callbackAddress": callback, "crosspark:claim": claim,
        "offer": {"@id": offer, "@type": "Offer", "target": dataset, "assigner": a.id, "assignee": b.id},
    });
    body["offer"]["permission"] = policy["permission"].clone();
    body
}

/// A member with the correct certificate whose messages name another participant, process or dataset.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_speaks_for_nobody_else() {
    let alliance = Alliance::new();
    let [a, b, c] = alliance.parks(["park-a", "park-b", "park-c"]);
    let run = a.start().await;
    let (published, _) = a.publish("economic-indicator", &records(2), "ndjson", &research()).await;
    let own = a.get("publisher", "/v1/datasets").await;
    let offer = own["datasets"][0]["offer"].as_str().unwrap().to_owned();
    let claim_of = |signer: &Park, consumer: &Park, provider: &Park, offer: &str, age_ms: i64| {
        let text = |t: &str| Text::parse(t).unwrap();
        let claim = crosspark::agreement::Claim {
            consumer: consumer.id.parse().unwrap(),
            provider: provider.id.parse().unwrap(),
            process: "urn:uuid:11111111-1111-4111-8111-111111111111".parse().unwrap(),
            offer: offer.parse().unwrap(),
            dataset: dataset_of(&published).parse().unwrap(),
            purpose: text("research"),
            enterprise: text(ENTERPRISE),
            person: crosspark::core::digest::Digest::of(b"x"),
            issued: SystemClock.now().plus_ms(-age_ms),
        };
        document::sign(claim, &signer.document_key()).jws().to_owned()
    };
    let b_callback = format!("{}/dsp/2025-1", b.endpoint);
    let c_callback = format!("{}/dsp/2025-1", c.endpoint);
    let (dataset, policy) = (dataset_of(&published), research());
    let good = claim_of(&b, &b, &a, &offer, 0);
    let cases = [
        ("another member's claim", claim_of(&c, &c, &a, &offer, 0), &*offer, dataset, &policy, &b_callback),
        ("a claim in another's name", claim_of(&b, &c, &a, &offer, 0), &offer, dataset, &policy, &b_callback),
        ("a claim for another provider", claim_of(&b, &b, &c, &offer, 0), &offer, dataset, &policy, &b_callback),
        ("a claim for another offer", claim_of(&b, &b, &a, "urn:uuid:other", 0), &offer, dataset, &policy, &b_callback),
        ("a stale claim", claim_of(&b, &b, &a, &offer, 3 * 86_400_000), &offer, dataset, &policy, &b_callback),
        ("a claim from the future", claim_of(&b, &b, &a, &offer, -3_600_000), &offer, dataset, &policy, &b_callback),
        ("no claim", "x".to_owned(), &offer, dataset, &policy, &b_callback),
        ("another's callback", good.clone(), &offer, dataset, &policy, &c_callback),
        ("a callback elsewhere", good.clone(), &offer, dataset, &policy, &"https://169.254.169.254/latest".to_owned()),
        ("another dataset", good.clone(), &offer, "urn:uuid:other", &policy, &b_callback),
        ("no policy", good.clone(), &offer, dataset, &json!({"permission": []}), &b_callback),
    ];
    let client = a.client(&alliance, b.identity());
    let url = format!("{}/dsp/2025-1/negotiations/request", a.endpoint);
    for (what, claim, offer, dataset, policy, callback) in cases {
        let before = refusals(&a).await;
        let body = contract_request(&a, &b, &claim, offer, dataset, policy, callback);
        let response = client.post(&url).json(&body).send().await.unwrap();
        assert!(response.status().is_client_error(), "{what}: {}", response.status());
        let promise = response.headers().get("crosspark-promise").unwrap().to_str().unwrap().to_owned();
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["@type"], "ContractNegotiationError", "{what}");
        assert_eq!(refusals(&a).await, before + 1, "{what}");
        opening_fits(&a, &client, &promise).await;
    }
    // A correct request is accepted; repeated, it is the same negotiation; a different one with the same pid is
    // refused.
    let body = contract_request(&a, &b, &good, &offer, dataset, &policy, &b_callback);
    let first = client.post(&url).json(&body).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    let first: Value = first.json().await.unwrap();
    let again: Value = client.post(&url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(first["providerPid"], again["providerPid"]);
    let other = contract_request(&a, &b, &claim_of(&b, &b, &a, &offer, 5), &offer, dataset, &policy, &b_callback);
    assert_eq!(client.post(&url).json(&other).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    // Another member cannot see the negotiation.
    let path = format!("/dsp/2025-1/negotiations/{}", first["providerPid"].as_str().unwrap());
    let stranger = a.client(&alliance, c.identity());
    assert_eq!(call(&stranger, &a, &Method::GET, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(call(&client, &a, &Method::GET, &path).await.0, StatusCode::OK);
    run.stop();
}

/// Checks that the opening of the promised entry results in the promised leaf.
async fn opening_fits(park: &Park, client: &Client, promise: &str) {
    use crosspark::audit::promise::Promise;
    let key = park.document_key();
    let promise =
        document::verify::<Promise>(promise, |kid| (kid == key.id()).then(|| key.public())).unwrap().into_body();
    let url = format!("{}/openings/{}", park.endpoint, promise.entry);
    let opening: crosspark::audit::entry::Opening = client.get(url).send().await.unwrap().json().await.unwrap();
    let canonical = crosspark::core::json::to_canonical(&opening.entry);
    assert_eq!(crosspark::audit::entry::commitment(&opening.salt, &canonical), promise.leaf);
    assert!(opening.fields.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_may_only_their_own() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let table = [
        ("GET", "/v1/tokens", ["admin"].as_slice()),
        ("POST", "/v1/tokens", &["admin"]),
        ("POST", "/v1/register", &["admin"]),
        ("POST", "/v1/datasets", &["publisher"]),
        ("GET", "/v1/datasets", &["admin", "publisher", "auditor"]),
        ("GET", "/v1/catalog?peer=did:web:x.example", &["admin", "requester"]),
        ("POST", "/v1/requests", &["requester"]),
        ("GET", "/v1/requests", &["requester"]),
        ("GET", "/v1/audit/entries", &["auditor"]),
        ("GET", "/v1/audit/checkpoint", &["auditor"]),
        ("GET", "/v1/status", &["admin", "publisher", "requester", "auditor"]),
    ];
    for role in ["admin", "publisher", "requester", "auditor"] {
        let token = a.token_of(role).await;
        for (method, path, allowed) in table {
            let before = refusals(&a).await;
            let (status, _) = a.call(method, path, &token, (method == "POST").then(|| json!({}))).await;
            assert_eq!(status != 403, allowed.contains(&role), "{role}: {method} {path}: {status}");
            if status == 403 {
                assert_eq!(refusals(&a).await, before + 1, "{role}: {method} {path}");
            }
        }
    }
    // A revoked token is not accepted.
    let tokens = a.get("admin", "/v1/tokens").await;
    let auditor = tokens["tokens"].as_array().unwrap().iter().find(|token| token["role"] == "publisher").unwrap();
    let (admin, publisher) = (a.admin_token(), a.token_of("publisher").await);
    let id = auditor["id"].as_str().unwrap();
    assert_eq!(a.call("DELETE", &format!("/v1/tokens/{id}"), &admin, None).await.0, 204);
    assert_eq!(a.call("GET", "/v1/datasets", &publisher, None).await.0, 401);
    // The last administrator's token cannot be revoked, since nobody could create another; with a second one, it can.
    let tokens = tokens["tokens"].as_array().unwrap();
    let first = tokens.iter().find(|token| token["role"] == "admin").unwrap()["id"].as_str().unwrap();
    let end_first = async || a.call("DELETE", &format!("/v1/tokens/{first}"), &admin, None).await;
    let (status, said) = end_first().await;
    assert!(status == 409 && said.to_string().contains("create another first"), "{status} {said}");
    let second = json!({"role": "admin", "person": "Second administrator", "days": 1});
    let (status, made) = a.call("POST", "/v1/tokens", &admin, Some(second)).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(end_first().await.0, 204);
    let second = made["secret"].as_str().unwrap();
    let (_, said) = a.call("GET", "/v1/status", second, None).await;
    assert!(said["health"]["warnings"].to_string().contains("the last administrator's token expires"), "{said}");
    // The holder of a stopped node's folder and key-encryption key can create an administrator's token.
    let output = crosspark(&["node", "admin-token", text(&a.folder)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"));
    run.stop();
    let made = good(&["node", "admin-token", text(&a.folder)]);
    let run = a.start().await;
    let (status, said) = a.call("GET", "/v1/status", made["adminToken"].as_str().unwrap(), None).await;
    assert!(status == 200 && said["health"]["warnings"] == json!([]), "{status} {said}");
    run.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_get_an_answer_and_change_nothing() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run = a.start().await;
    let client = a.client(&alliance, b.identity());
    let url = format!("{}/dsp/2025-1/negotiations/request", a.endpoint);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(600 * 1024));
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("{\"a\":1,\"a\":2}", 400),
        ("{\"a\":NaN}", 400),
        (&deep, 400),
        (&huge, 413),
        ("{\"@type\":\"ContractRequestMessage\"}", 400),
        ("{\"a\":12345678901234567890}", 400),
    ] {
        let response =
            client.post(&url).header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), status, "{}", body.chars().take(40).collect::<String>());
    }
    let response = client.post(&url).header("content-type", "text/plain").body("{}").send().await.unwrap();
    assert_eq!(response.status(), 415);
    let response =
        client.post(&url).header("content-type", "application/json").body(vec![0xFF, 0xFE]).send().await.unwrap();
    assert_eq!(response.status(), 400);
    for path in
        ["/", "/nothing", "/data/..%2f..%2fetc", "/log/tile/9/000", "/log/tile/0/1", "/register/x", "/manifests/x"]
    {
        let status = client.get(format!("{}{path}", a.endpoint)).send().await.unwrap().status();
        assert_eq!(status, 404, "{path}");
    }
    assert!(a.entries().await.iter().all(|row| row["entry"]["kind"] != "negotiation.moved"));
    run.stop();
}
