//! The users of this node and their roles.

use crate::core::id::{Text, TokenId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user may do. No role includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Manages tokens, registers and keys in quarantine.
    Admin,
    /// Publishes datasets and approves requests for them.
    Publisher,
    /// Finds, requests and fetches datasets.
    Requester,
    /// Reads the log.
    Auditor,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Publisher, Self::Requester, Self::Auditor];

    /// The name used in the API, the database and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Publisher => "publisher",
            Self::Requester => "requester",
            Self::Auditor => "auditor",
        }
    }

    /// The role with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A user, identified by the bearer token of a request.
#[derive(Debug, Clone)]
pub struct User {
    /// Token id.
    pub token: TokenId,
    /// Role of the token.
    pub role: Role,
    /// Person who holds the token.
    pub person: Text,
    /// Enterprise on whose behalf the person acts.
    pub enterprise: Option<Text>,
}
