//! Tokens of the management listener: 256 random bits, stored as a hash, with an expiry and one role.

use crate::audit::entry::{Draft, Facts, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::{Text, TokenId};
use crate::core::limits;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::idempotency::{Idempotency, IdempotencyKey};
use crate::identity::key::base64url;
use crate::node::{Error, Node, Place, Places, User, UserRole as Role, details};
use crate::storage::{Change, Guard, StoreError, TokenRow, Write};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A request for a token.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "if" = {"properties": {"role": {"const": "requester"}}},
    "then" = {"properties": {"enterprise": {"type": "string"}}, "required": ["enterprise"]},
))]
pub struct NewToken {
    /// Role.
    pub role: Role,
    /// Person who will use it.
    pub person: Text,
    /// Enterprise on whose behalf it is used; mandatory for requesters.
    pub enterprise: Option<Text>,
    /// Days until expiry, 1 to 366.
    #[serde(default = "usual_days")]
    #[schemars(range(min = 1, max = 366))]
    pub days: u32,
}

/// Default lifetime of a token in days.
pub const fn usual_days() -> u32 {
    90
}

/// Prefix of every secret, so that secret scanners recognise it.
const PREFIX: &str = "crosspark_";

fn hash(secret: &str) -> Digest {
    Digest::labelled("crosspark/token/v1", &[secret.as_bytes()])
}

/// A new token: its row, its secret, and its log entry.
pub fn mint(
    new: &NewToken,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(TokenRow, Zeroizing<String>, Draft), Error> {
    if !(1..=366).contains(&new.days) {
        return Err(Error::invalid("days", "a token must be valid for 1 to 366 days"));
    }
    if new.role == Role::Requester && new.enterprise.is_none() {
        return Err(Error::invalid("enterprise", "a requester's token must name an enterprise"));
    }
    let secret = Zeroizing::new(format!("{PREFIX}{}", base64url(&*Zeroizing::new(random::bytes::<32>(random)))));
    let row = TokenRow {
        id: TokenId::generate(random),
        hash: hash(&secret),
        role: new.role.name().to_owned(),
        person: new.person.clone(),
        enterprise: new.enterprise.clone(),
        created: now,
        expires: now.plus_ms(i64::from(new.days) * 86_400_000),
        revoked: false,
    };
    let facts = Facts {
        enterprise: row.enterprise.clone(),
        detail: details(json!({"token": row.id, "role": row.role, "expires": row.expires})),
        ..Facts::default()
    };
    let entry = Draft::new(Kind::TokenCreated, facts, random);
    let entry = entry.with_field(FieldOpening::new("person", row.person.clone(), random));
    Ok((row, secret, entry))
}

/// The tokens of this node's users.
pub struct Tokens {
    node: Arc<Node>,
    idempotency: Arc<Idempotency>,
    places: Places<TokenId>,
}

impl Tokens {
    /// The tokens of this node.
    pub fn new(node: Arc<Node>, idempotency: Arc<Idempotency>) -> Self {
        let (all, per_token) = (limits::REQUESTS_IN_FLIGHT_MAX, limits::REQUESTS_PER_TOKEN_MAX);
        Self { node, idempotency, places: Places::new(all, per_token, Duration::ZERO, "requests with this token") }
    }

    /// A place for a request of a user, without waiting.
    pub async fn place(&self, user: &User) -> Result<Place, Error> {
        self.places.take(&user.token).await
    }

    /// Creates a token; its secret is returned only once.
    pub async fn create(
        &self,
        user: &User,
        new: &NewToken,
        once: Option<&IdempotencyKey>,
    ) -> Result<(TokenRow, Zeroizing<String>), Error> {
        let already_returned = |id: TokenId| {
            let reason = format!(
                "the token {id} was already created with this idempotency key, and its secret is not shown again"
            );
            Error::invalid("conflict", format!("{reason}; revoke it, and create another with a new key"))
        };
        let _alone = self.idempotency.alone(user, once).await?;
        if let Some(id) = self.idempotency.answered(user, once).await? {
            return Err(already_returned(id));
        }
        let (row, secret, entry) = mint(new, self.node.now(), self.node.random())?;
        let mut change = Change::new(entry).write(Write::InsertToken(row.clone()));
        change.writes.extend(self.idempotency.remember(user, once, &row.id));
        if let Err(error) = self.node.store().commit(change).await {
            return Err(already_returned(self.idempotency.answered_meanwhile(user, once, error).await?));
        }
        Ok((row, secret))
    }

    /// Revokes a token, unless it is the last administrator's: only administrators can create tokens.
    pub async fn revoke(&self, id: &TokenId) -> Result<(), Error> {
        let (rows, now) = (self.node.store().tokens().await?, self.node.now());
        let row =
            rows.iter().find(|row| row.id == *id).ok_or_else(|| Error::not_found(format!("there is no token {id}")))?;
        if row.revoked {
            return Ok(());
        }
        let facts = Facts { detail: details(json!({"token": id, "role": row.role})), ..Facts::default() };
        let mut change = Change::new(self.node.draft(Kind::TokenRevoked, facts)).write(Write::RevokeToken(id.clone()));
        if row.role == Role::Admin.name() {
            // A guard, since all administrators' tokens may be revoked at the same time.
            change = change.guard(Guard::OtherAdmin(id.clone(), now));
        }
        match self.node.store().commit(change).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict(_)) => self.not_revoked(id).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Why a token was not revoked, if it was not revoked in the meantime.
    async fn not_revoked(&self, id: &TokenId) -> Result<(), Error> {
        if self.node.store().tokens().await?.iter().any(|row| row.id == *id && row.revoked) {
            return Ok(());
        }
        let reason =
            "this is the last administrator's token, and only administrators create tokens: create another first";
        Err(Error::invalid("conflict", reason))
    }

    /// The user of a token, if it is known, not expired and not revoked.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<User>, Error> {
        if !secret.starts_with(PREFIX) || secret.len() > 100 {
            return Ok(None);
        }
        // The lookup by hash does not leak the secret through its timing.
        let row = self.node.store().token(&hash(secret)).await?;
        let good = row.filter(|row| !row.revoked && self.node.now() < row.expires);
        Ok(good.and_then(|row| {
            let role = Role::parse(&row.role)?;
            Some(User { token: row.id, role, person: row.person, enterprise: row.enterprise })
        }))
    }

    /// All tokens, without their hashes.
    pub async fn list(&self) -> Result<Vec<TokenRow>, Error> {
        Ok(self.node.store().tokens().await?)
    }

    /// Logs a request that the user's role does not permit.
    pub async fn refuse_role(&self, user: &User, needed: &[&str], asked: &str) -> Error {
        let facts = Facts {
            enterprise: user.enterprise.clone(),
            detail: details(json!({"token": user.token, "role": user.role, "asked": asked})),
            ..Facts::default()
        };
        let error = Error::forbidden(
            "role",
            format!(
                "this requires a token with the role {}; yours has the role {}",
                needed.join(" or "),
                user.role.name()
            ),
        );
        self.node.refuse_user(Kind::ManagementRefused, facts, error).await
    }
}
