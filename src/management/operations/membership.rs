//! The register as this node has it, newer documents of the alliance, keys in quarantine.

use crate::core::digest::Digest;
use crate::core::id::KeyId;
use crate::management::app::App;
use crate::management::inputs::{Document, Json as JsonBody, Text};
use crate::management::outputs::NoContent;
use crate::management::problem::Problem;
use crate::management::roles::{ANY, Caller};
use crate::management::routes::{Operation, Routes};
use crate::membership::Members;
use crate::node::{Error, UserRole};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn admin(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Admin] }
}

pub fn add(routes: Routes) -> Routes {
    let list = Operation {
        path: "/v1/members",
        id: "listMembers",
        summary: "Returns the register: members, schemas, keys in quarantine.",
        roles: ANY,
    };
    routes
        .get(list, members)
        .post(admin("/v1/register", "installRegister", "Installs a newer register."), install_register)
        .post(admin("/v1/root", "installRoot", "Installs a newer root document."), install_root)
        .post(
            admin(
                "/v1/quarantine/confirm",
                "confirmKey",
                "Confirms a key in quarantine after its fingerprint was compared with the member.",
            ),
            confirm_key,
        )
}

async fn members(State(app): State<App>) -> Json<Members> {
    Json(app.services.membership.members())
}

/// The register after an installation.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct InstalledRegister {
    /// Whether the register was new.
    installed: bool,
    /// Sequence of the newest register.
    sequence: u64,
}

async fn install_register(State(app): State<App>, Text(body): Text) -> Result<Json<InstalledRegister>, Problem> {
    let jws = std::str::from_utf8(&body).map_err(|_| Error::invalid("body", "expected a compact JWS"))?;
    let installed = app.services.membership.install_register(jws.trim(), "file").await?;
    let sequence = app.services.node.trust().register.body().sequence;
    Ok(Json(InstalledRegister { installed, sequence }))
}

/// The root document after an installation.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct InstalledRoot {
    /// Whether the root document was new.
    installed: bool,
    /// Version of the newest root document.
    version: u64,
}

async fn install_root(State(app): State<App>, Document(body): Document) -> Result<Json<InstalledRoot>, Problem> {
    let installed = app.services.membership.install_root(&body, "file").await?;
    let version = app.services.node.trust().roots.newest().body().version;
    Ok(Json(InstalledRoot { installed, version }))
}

/// A key in quarantine whose fingerprint was compared.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// The key.
    key: KeyId,
    /// Its fingerprint: 64 hexadecimal digits, in groups or not.
    #[schemars(regex(pattern = r"^([0-9a-fA-F]{4}[ :-]?){15}[0-9a-fA-F]{4}$"))]
    fingerprint: String,
}

async fn confirm_key(
    State(app): State<App>,
    Caller(user): Caller,
    JsonBody(confirmed): JsonBody<Confirmation>,
) -> Result<NoContent, Problem> {
    let fingerprint = Digest::parse_fingerprint(&confirmed.fingerprint);
    let fingerprint = fingerprint.map_err(|error| Error::invalid("fingerprint", error.to_string()))?;
    app.services.membership.confirm_key(&user, &confirmed.key, &fingerprint).await?;
    Ok(NoContent)
}
