//! Tokens of the node's users.

use crate::core::id::{Text, TokenId};
use crate::core::json;
use crate::core::time::Timestamp;
use crate::management::app::App;
use crate::management::inputs::{IdempotencyHeader, Json as JsonBody, PathId, Query};
use crate::management::outputs::{Created, NoContent, Status};
use crate::management::paging::{Paging, cursor};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::UserRole;
use crate::operations::NewToken;
use crate::storage::TokenRow;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

fn admin(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Admin] }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(admin("/v1/tokens", "listTokens", "Lists the tokens of the node's users."), list)
        .post(admin("/v1/tokens", "createToken", "Creates a token; its secret is returned only once."), create)
        .delete(admin("/v1/tokens/{id}", "revokeToken", "Revokes a token."), revoke)
}

/// A token, without its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Token {
    /// Token id.
    id: TokenId,
    /// Role.
    #[schemars(with = "UserRole")]
    role: String,
    /// Person who holds it.
    person: Text,
    /// Enterprise on whose behalf the person acts.
    enterprise: Option<Text>,
    /// Time of creation.
    created: Timestamp,
    /// Time of expiry.
    expires: Timestamp,
    /// Whether it was revoked.
    revoked: bool,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, role, person, enterprise, created, expires, revoked, .. } = row;
        Self { id, role, person, enterprise, created, expires, revoked }
    }
}

/// A page of tokens.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TokenPage {
    /// Tokens by id.
    tokens: Vec<Token>,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A new token with its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct NewSecret {
    /// The token.
    token: Token,
    /// The bearer secret.
    secret: String,
}

async fn list(State(app): State<App>, Query(page): Query<Paging>) -> Result<Json<TokenPage>, Problem> {
    let (after, limit) = (page.after::<TokenId>()?, page.limit()?);
    let rows = app.services.operations.tokens.list().await?.into_iter();
    let mut rows = rows.skip_while(|row| after.as_ref().is_some_and(|after| row.id <= *after));
    let tokens: Vec<Token> = rows.by_ref().take(limit).map(Token::from).collect();
    let next = tokens.last().filter(|_| rows.next().is_some()).map(|last| cursor(&last.id));
    Ok(Json(TokenPage { tokens, next }))
}

async fn create(
    State(app): State<App>,
    Caller(user): Caller,
    key: IdempotencyHeader,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<Created<NewSecret>, Problem> {
    let key = key.of(&[b"createToken", &json::to_canonical(&new)])?;
    let (row, secret) = app.services.operations.tokens.create(&user, &new, key.as_ref()).await?;
    Ok(Status(NewSecret { token: Token::from(row), secret: secret.to_string() }))
}

async fn revoke(State(app): State<App>, PathId(id): PathId<TokenId>) -> Result<NoContent, Problem> {
    app.services.operations.tokens.revoke(&id).await?;
    Ok(NoContent)
}
