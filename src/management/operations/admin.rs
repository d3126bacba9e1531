//! Status, tokens, members, registers, root documents, keys in quarantine.

use super::{Answer, Paging, cursor, paging};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, Text, TokenId};
use crate::core::json;
use crate::management::api::{Api, App, AppParts, Operation, json_of, path};
use crate::management::extract::Body;
use crate::management::extract::{Key, Named, Params, Raw};
use crate::management::schema::{
    self, any_object, count, flag, id, list, name, object, or_null, shared_as, text, time,
};
use crate::management::user::{ADMIN, ANY, Caller};
use crate::node::Error;
use crate::operations::NewToken;
use crate::storage::TokenRow;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub fn operations(api: Api, app: &AppParts) -> Api {
    // Who asks on behalf of an enterprise has its name in the token.
    let of = |roles: &[&str], enterprise: (&str, schema::Schema)| {
        object(&[("role", schema::one_of(roles)), ("person", name()), enterprise, ("days?", schema::number(1, 366))])
    };
    let others = of(&["admin", "publisher", "auditor"], ("enterprise?", or_null(name())));
    let new_token = json!({"oneOf": [of(&["requester"], ("enterprise", name())), others]});
    let made = object(&[("token", shared_as("Token")), ("secret", text())]);
    let installed = |name: &str| object(&[("installed", flag()), (name, count())]);
    let confirmation = object(&[("key", schema::key()), ("fingerprint", schema::fingerprint())]);
    let document = || ("text/plain", text());
    api.add(
        Operation::get("/v1/status", "status", "How the node is doing.", ANY, json_of(status_schema())),
        get(status),
        app,
    )
    .add(
        Operation::get(
            "/v1/tokens",
            "listTokens",
            "The tokens of this node's users.",
            ADMIN,
            json_of(schema::page("tokens", shared_as("Token"))),
        )
        .with(paging()),
        get(tokens),
        app,
    )
    .add(
        Operation::post(
            "/v1/tokens",
            "createToken",
            "Makes a token; its secret is told this once.",
            ADMIN,
            json_of(new_token),
        )
        .gives(StatusCode::CREATED, [json_of(made)])
        .once(),
        post(create_token),
        app,
    )
    .add(
        Operation {
            method: "delete",
            ..Operation::get("/v1/tokens/{id}", "revokeToken", "Ends a token.", ADMIN, json_of(text()))
        }
        .with([path("id", id(), "The token.")])
        .gives(StatusCode::NO_CONTENT, [])
        .refuses(&[404]),
        delete(revoke_token),
        app,
    )
    .add(
        Operation::get(
            "/v1/members",
            "listMembers",
            "The register: members, schemas, keys in quarantine.",
            ANY,
            json_of(members_schema()),
        ),
        get(members),
        app,
    )
    .add(
        Operation::post("/v1/register", "installRegister", "Gives the node a newer register.", ADMIN, document())
            .gives(StatusCode::OK, [json_of(installed("sequence"))]),
        post(install_register),
        app,
    )
    .add(
        Operation::post(
            "/v1/root",
            "installRoot",
            "Gives the node a newer root document.",
            ADMIN,
            json_of(any_object()),
        )
        .gives(StatusCode::OK, [json_of(installed("version"))]),
        post(install_root),
        app,
    )
    .add(
        Operation::post(
            "/v1/quarantine/confirm",
            "confirmKey",
            "Confirms a key in quarantine, whose fingerprint its member told.",
            ADMIN,
            json_of(confirmation),
        )
        .gives(StatusCode::NO_CONTENT, [])
        .refuses(&[404]),
        post(confirm_key),
        app,
    )
}

fn status_schema() -> schema::Schema {
    let expiry = object(&[("what", text()), ("until", time()), ("days", schema::number(-4_000_000, 4_000_000))]);
    let health = object(&[
        ("readOnly", or_null(text())),
        ("expiries", list(expiry)),
        ("outboxOldestSeconds", count()),
        ("log", object(&[("entries", count()), ("unsignedEntries", count())])),
        ("openProcesses", count()),
        ("downloads", count()),
        ("disk", or_null(object(&[("freeBytes", count()), ("totalBytes", count())]))),
        ("quarantinedKeys", count()),
        ("peerConnections", count()),
        ("refusals", schema::by_name(count())),
        ("warnings", list(text())),
    ]);
    object(&[
        ("participant", schema::participant()),
        ("origin", text()),
        ("endpoint", text()),
        ("version", text()),
        ("now", time()),
        ("register", object(&[("sequence", count()), ("expires", time()), ("current", flag())])),
        ("root", schema::digest()),
        ("outbox", object(&[("waiting", count()), ("next", or_null(time()))])),
        ("health", health),
    ])
}

fn members_schema() -> schema::Schema {
    let entry = object(&[("id", text()), ("version", text()), ("digest", schema::digest())]);
    let waiting = object(&[("key", text()), ("member", schema::participant()), ("fingerprint", text())]);
    object(&[
        ("alliance", schema::participant()),
        ("sequence", count()),
        ("issued", time()),
        ("expires", time()),
        ("members", list(shared_as("Member"))),
        ("schemas", list(entry)),
        ("quarantine", list(waiting)),
    ])
}

async fn status(State(app): State<App>) -> Answer {
    let node = &app.services.node;
    let (next, waiting) = app.services.operations.health.outbox().await?;
    let trust = node.trust();
    let body = trust.register.body();
    Ok(Json(json!({
        "participant": node.me(), "origin": node.origin(), "endpoint": node.endpoint(),
        "version": env!("CARGO_PKG_VERSION"), "now": node.now(),
        "register": {"sequence": body.sequence, "expires": body.expires, "current": trust.register.is_current(node.now())},
        "root": trust.roots.newest().digest(), "outbox": {"waiting": waiting, "next": next},
        "health": app.services.operations.health.report().await?,
    }))
    .into_response())
}

/// A token without its hash.
#[derive(Serialize)]
struct TokenView {
    id: TokenId,
    role: String,
    person: Text,
    enterprise: Option<Text>,
    created: crate::core::time::Timestamp,
    expires: crate::core::time::Timestamp,
    revoked: bool,
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, role, person, enterprise, created, expires, revoked, .. } = row;
        Self { id, role, person, enterprise, created, expires, revoked }
    }
}

async fn tokens(State(app): State<App>, Params(page): Params<Paging>) -> Answer {
    let (after, limit) = (page.after::<TokenId>()?, page.limit()?);
    let rows = app.services.operations.tokens.list().await?.into_iter();
    let mut rows = rows.skip_while(|row| after.as_ref().is_some_and(|after| row.id <= *after));
    let views: Vec<TokenView> = rows.by_ref().take(limit).map(TokenView::from).collect();
    let mut answer = json!({"tokens": views});
    if let (Some(last), Some(_)) = (views.last(), rows.next()) {
        answer["next"] = cursor(&last.id).into();
    }
    Ok(Json(answer).into_response())
}

async fn create_token(State(app): State<App>, Caller(user): Caller, key: Key, Body(new): Body<NewToken>) -> Answer {
    let once = key.of(&[b"createToken", &json::to_canonical(&new)])?;
    let (row, secret) = app.services.operations.tokens.create(&user, &new, once.as_ref()).await?;
    let answer = json!({"token": TokenView::from(row), "secret": secret.as_str()});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn revoke_token(State(app): State<App>, Named(id): Named<TokenId>) -> Answer {
    app.services.operations.tokens.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn members(State(app): State<App>) -> Answer {
    Ok(Json(app.services.membership.members()).into_response())
}

async fn install_register(State(app): State<App>, Raw(body): Raw) -> Answer {
    let jws = std::str::from_utf8(&body).map_err(|_| Error::invalid("body", "expected a compact JWS"))?;
    let installed = app.services.membership.install_register(jws.trim(), "file").await?;
    let sequence = app.services.node.trust().register.body().sequence;
    Ok(Json(json!({"installed": installed, "sequence": sequence})).into_response())
}

async fn install_root(State(app): State<App>, Raw(body): Raw) -> Answer {
    let installed = app.services.membership.install_root(&body, "file").await?;
    let version = app.services.node.trust().roots.newest().body().version;
    Ok(Json(json!({"installed": installed, "version": version})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    key: KeyId,
    fingerprint: String,
}

async fn confirm_key(State(app): State<App>, Caller(user): Caller, Body(confirmed): Body<Confirmation>) -> Answer {
    let fingerprint = Digest::parse_fingerprint(&confirmed.fingerprint);
    let fingerprint = fingerprint.map_err(|error| Error::invalid("fingerprint", error.to_string()))?;
    app.services.membership.confirm_key(&user, &confirmed.key, &fingerprint).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
