//! Who calls: the token decides, and each role may only its own.

use super::api::App;
use super::error::Problem;
use crate::node::{CountedRefusal, User, UserRole};
use crate::services::Services;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

/// Administrator.
pub const ADMIN: u8 = 1;
/// Publisher.
pub const PUBLISHER: u8 = 2;
/// Requester.
pub const REQUESTER: u8 = 4;
/// Auditor.
pub const AUDITOR: u8 = 8;
/// Everybody with a token.
pub const ANY: u8 = ADMIN | PUBLISHER | REQUESTER | AUDITOR;
/// Everybody, without a token.
pub const OPEN: u8 = 0;

/// The bit of a role.
fn role_bit(role: UserRole) -> u8 {
    match role {
        UserRole::Admin => ADMIN,
        UserRole::Publisher => PUBLISHER,
        UserRole::Requester => REQUESTER,
        UserRole::Auditor => AUDITOR,
    }
}

/// The names of the roles in a bit set.
pub fn names(roles: u8) -> Vec<&'static str> {
    let all = [UserRole::Admin, UserRole::Publisher, UserRole::Requester, UserRole::Auditor];
    all.into_iter().filter(|role| role_bit(*role) & roles != 0).map(UserRole::name).collect()
}

/// Lets only users with one of `roles` through to `handler`.
pub fn guarded(handler: MethodRouter<App>, roles: u8, services: Services) -> MethodRouter<App> {
    if roles == OPEN { handler } else { handler.layer(from_fn_with_state((services, roles), authorize)) }
}

async fn authorize(
    State((services, roles)): State<(Services, u8)>,
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
        let detail =
            "this node does not know the token, or it has expired or was revoked; a token is good at one node only";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    };
    if role_bit(user.role) & roles == 0 {
        let asked = format!("{} {}", request.method(), request.uri().path());
        return Err(services.operations.tokens.refuse_role(&user, &names(roles), &asked).await.into());
    }
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

/// The user, as the guard found it.
pub struct Caller(pub User);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        // A handler that asks for a user without a guard before it gets none.
        let missing = || Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this needs a token");
        parts.extensions.get::<User>().cloned().map(Self).ok_or_else(missing)
    }
}
