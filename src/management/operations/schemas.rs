//! Schemas: those of the register, of this park, and of the peers whose data this node received.

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::time::Timestamp;
use crate::management::app::App;
use crate::management::inputs::{Document, PathId, Query};
use crate::management::outputs::{Created, Status};
use crate::management::problem::Problem;
use crate::management::roles::{ANY, Caller};
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use crate::schema::Advice;
use crate::schemas::{Scope, Vouched};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub fn add(routes: Routes) -> Routes {
    routes
        .get(
            Operation {
                path: "/v1/schemas",
                id: "listSchemas",
                summary: "Lists the shared schemas, those of this park, and those of received data.",
                roles: ANY,
            },
            list,
        )
        .get(
            Operation {
                path: "/v1/schemas/{id}",
                id: "getSchema",
                summary: "Returns a schema: by digest, $id (the newest version) or $id@VERSION.",
                roles: ANY,
            },
            show,
        )
        .get(
            Operation {
                path: "/v1/schemas/{id}/proposal",
                id: "proposeSchema",
                summary: "Returns a schema of this park with its signed statement, for the alliance's operator.",
                roles: &[UserRole::Publisher, UserRole::Admin],
            },
            propose,
        )
        .post(
            Operation {
                path: "/v1/schemas",
                id: "publishSchema",
                summary: "Publishes a schema of this park.",
                roles: &[UserRole::Publisher],
            },
            publish,
        )
        .post(
            Operation {
                path: "/v1/schemas/shared",
                id: "keepSharedSchema",
                summary: "Keeps a schema that the register lists, where neither the alliance's URL nor a peer serves it.",
                roles: &[UserRole::Admin],
            },
            keep_shared,
        )
}

/// Who vouches for a schema.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum VouchedBy {
    /// The alliance, in its register.
    Alliance,
    /// The park in whose namespace it is.
    Park,
}

/// A schema.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SchemaSummary {
    /// `$id`.
    id: String,
    /// Semantic version.
    version: String,
    /// Digest of its canonical form.
    digest: Digest,
    /// Title; absent if this node has not fetched the schema yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Who vouches for it.
    of: VouchedBy,
    /// The member that maintains it; absent if the alliance does.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<ParticipantId>,
    /// Time from which no more data is published under it; absent while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated: Option<Timestamp>,
}

impl From<Vouched> for SchemaSummary {
    fn from(known: Vouched) -> Self {
        let deprecated = known.deprecated();
        let Vouched { id, version, digest, title, scope } = known;
        let (of, owner) = match scope {
            Scope::Shared { owner, .. } => (VouchedBy::Alliance, owner),
            Scope::Member(member) => (VouchedBy::Park, Some(member)),
        };
        Self { id, version, digest, title, of, owner, deprecated }
    }
}

/// Schemas.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Schemas {
    /// By `$id`, the newest version of each first.
    schemas: Vec<SchemaSummary>,
}

async fn list(State(app): State<App>) -> Result<Json<Schemas>, Problem> {
    let all = app.services.schemas.all().await.map_err(Error::from)?;
    Ok(Json(Schemas { schemas: all.into_iter().map(SchemaSummary::from).collect() }))
}

/// The schema of a path.
async fn found(app: &App, name: &str) -> Result<Vouched, Error> {
    let all = app.services.schemas.all().await?;
    let is_named = |known: &&Vouched| {
        known.id == name || known.digest.to_string() == name || format!("{}@{}", known.id, known.version) == name
    };
    let known = all.iter().find(is_named).cloned();
    known.ok_or_else(|| Error::not_found(format!("there is no schema {name}")))
}

async fn show(State(app): State<App>, PathId(id): PathId<String>) -> Result<Json<Map<String, Value>>, Problem> {
    let known = match app.services.schemas.named(&id).await {
        Ok(known) => known,
        Err(_) => found(&app, &id).await?,
    };
    let schema = app.services.schemas.get(&known.digest).await?;
    let schema = schema.and_then(|compiled| compiled.schema.value().as_object().cloned());
    let missing = || Error::Unavailable(format!("{id} is in the register, but was not fetched yet"));
    Ok(Json(schema.ok_or_else(missing)?))
}

/// A schema of a park, for the alliance's operator.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Proposal {
    /// `schema-proposal/1`
    format: &'static str,
    /// The schema, JSON as text.
    schema: String,
    /// The park's statement, JWS.
    statement: String,
}

async fn propose(State(app): State<App>, PathId(id): PathId<String>) -> Result<Json<Proposal>, Problem> {
    let known = app.services.schemas.named(&id).await.map_err(|error| match error {
        Error::Invalid { reason, .. } => Error::not_found(reason),
        error => error,
    })?;
    let (schema, statement) = app.services.schemas.text(&known.digest).await?.unwrap_or_default();
    let statement = statement.ok_or_else(|| {
        Error::not_found(format!("{id} is no schema of this park: publish it with `crosspark schema add` first"))
    })?;
    Ok(Json(Proposal { format: "schema-proposal/1", schema, statement }))
}

/// Whether a shared schema was kept.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KeptSchema {
    /// False if the node had it already.
    kept: bool,
}

async fn keep_shared(State(app): State<App>, Document(text): Document) -> Result<Json<KeptSchema>, Problem> {
    let kept = app.services.schemas.accept_listed(in_utf8(&text)?, "file").await?;
    Ok(Json(KeptSchema { kept }))
}

fn in_utf8(text: &[u8]) -> Result<String, Error> {
    String::from_utf8(text.to_vec()).map_err(|_| Error::invalid("body", "the schema is not UTF-8"))
}

/// How a schema is published.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Publication {
    /// Accepts changes after which records that were valid may be refused; the major version must be larger, too.
    #[serde(default)]
    breaking: Flag,
}

/// `true` or `false` in a query.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Flag {
    True,
    #[default]
    False,
}

/// A schema of this park, as published.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PublishedSchema {
    /// `$id`.
    id: String,
    /// Semantic version.
    version: String,
    /// Digest of its canonical form.
    digest: Digest,
    /// What others should find in it, and do not.
    advice: Vec<Advice>,
    /// False if it was published before.
    new: bool,
}

async fn publish(
    State(app): State<App>,
    Caller(user): Caller,
    Query(query): Query<Publication>,
    Document(text): Document,
) -> Result<Created<PublishedSchema>, Problem> {
    let published = app.services.schemas.publish(&user, in_utf8(&text)?, matches!(query.breaking, Flag::True)).await?;
    let (schema, advice, new) = (published.schema, published.advice, published.new);
    let (id, version, digest) = (schema.id().to_owned(), schema.version().to_owned(), schema.digest());
    Ok(Status(PublishedSchema { id, version, digest, advice, new }))
}
