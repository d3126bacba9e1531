//! Who calls, and who may call what: the token decides, and no role includes another.

use super::app::App;
use super::problem::Problem;
use crate::node::{CountedRefusal, User, UserRole};
use crate::protocol::{Held, Presence};
use crate::services::Services;
use aide::OperationInput;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// The roles that may call an operation; empty for operations that need no token.
pub type Roles = &'static [UserRole];

/// Every role.
pub const ANY: Roles = &UserRole::ALL;
/// Operations without a token.
pub const OPEN: Roles = &[];

/// The names of roles.
pub fn names(roles: Roles) -> Vec<&'static str> {
    roles.iter().map(|role| role.name()).collect()
}

/// Passes on requests of users with one of the roles.
pub async fn authorize(
    State((services, roles)): State<(Services, Roles)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let user = match value.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(secret) => services.operations.tokens.authenticate(secret).await?,
        None => None,
    };
    let Some(user) = user else {
        services.node.count_refusal(CountedRefusal::NoToken);
        let detail = "the token is unknown at this node, expired or revoked; a token is valid at one node only";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    };
    if !roles.contains(&user.role) {
        let asked = format!("{} {}", request.method(), request.uri().path());
        return Err(services.operations.tokens.refuse_role(&user, &names(roles), &asked).await.into());
    }
    let Ok(place) = services.operations.tokens.place(&user).await else {
        let detail = "too many requests with this token at the same time";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail));
    };
    request.extensions_mut().insert(user);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Held(Arc::new(place)));
    Ok(response)
}

/// The user that `authorize` found.
pub struct Caller(pub User);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        // A handler of an open operation that asks for a user gets none.
        let missing = || Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this needs a token");
        parts.extensions.get::<User>().cloned().map(Self).ok_or_else(missing)
    }
}

impl OperationInput for Caller {}

/// Whether the caller still waits.
pub struct CallerPresence(pub Presence);

impl FromRequestParts<App> for CallerPresence {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self(parts.extensions.get::<Presence>().cloned().unwrap_or_default()))
    }
}

impl OperationInput for CallerPresence {}
