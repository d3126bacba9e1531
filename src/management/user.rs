//! Who calls: the token decides, and each role may only its own.

use super::error::Problem;
use super::routes::App;
use crate::service::{Stranger, User, UserRole};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

/// A user with one of the roles in the bit set `ROLES` (see [`role_bit`]).
pub struct Allowed<const ROLES: u8>(pub User);

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
fn names(roles: u8) -> Vec<&'static str> {
    let all = [UserRole::Admin, UserRole::Publisher, UserRole::Requester, UserRole::Auditor];
    all.into_iter().filter(|role| role_bit(*role) & roles != 0).map(UserRole::name).collect()
}

impl<const ROLES: u8> FromRequestParts<App> for Allowed<ROLES> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = value.and_then(|value| value.strip_prefix("Bearer "));
        let user = match secret {
            Some(secret) => app.node.user(secret).await?,
            None => None,
        };
        let Some(user) = user else {
            app.node.count_stranger(Stranger::NoToken);
            let detail =
                "this node does not know the token, or it has expired or was revoked; a token is good at one node only";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
        };
        if role_bit(user.role) & ROLES == 0 {
            let asked = format!("{} {}", parts.method, parts.uri.path());
            return Err(app.node.refuse_role(&user, &names(ROLES), &asked).await.into());
        }
        Ok(Self(user))
    }
}
