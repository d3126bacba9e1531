//! Creations that happen once however often they are asked for: an idempotency key, its request's digest and the answer
//! are committed with what was created.

use super::refusal::Error;
use super::{Node, User};
use crate::core::digest::Digest;
use crate::core::limits;
use crate::storage::{OnceRow, StoreError, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request that its user marked with a key.
#[derive(Debug, Clone)]
pub struct Once {
    key: String,
    request: Digest,
}

impl Once {
    /// Marks the request with `parts` by `key`: 1 to 128 visible ASCII characters.
    pub fn new(key: &str, parts: &[&[u8]]) -> Result<Self, Error> {
        let fits =
            (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
            let reason = format!("an idempotency key has 1 to {max} visible ASCII characters");
            return Err(Error::invalid("header", reason));
        }
        Ok(Self { key: key.to_owned(), request: Digest::labelled("crosspark/once/v1", parts) })
    }
}

impl Node {
    /// The answer that the same request got before; another request under the same key is refused.
    pub async fn answered<T: DeserializeOwned>(&self, user: &User, once: Option<&Once>) -> Result<Option<T>, Error> {
        let Some(once) = once else { return Ok(None) };
        let Some(known) = self.parts.store.once(&user.token, &once.key).await? else { return Ok(None) };
        if known.request != once.request {
            return Err(Error::invalid("idempotency-key", "another request was made with this idempotency key"));
        }
        serde_json::from_str(&known.answer).map(Some).map_err(|error| Error::Internal(error.to_string()))
    }

    /// What makes the next request with this key find `answer`.
    pub(super) fn remember(&self, user: &User, once: Option<&Once>, answer: &impl Serialize) -> Option<Write> {
        let once = once?;
        let answer = serde_json::to_string(answer).unwrap_or_default();
        let (token, key, at) = (user.token.clone(), once.key.clone(), self.now());
        Some(Write::Once(OnceRow { token, key, request: once.request, answer, at }))
    }

    /// The answer after a commit that failed: perhaps the same request was at work twice at once.
    pub(super) async fn answered_meanwhile<T: DeserializeOwned>(
        &self,
        user: &User,
        once: Option<&Once>,
        error: StoreError,
    ) -> Result<T, Error> {
        match self.answered(user, once).await? {
            Some(answer) if error == StoreError::Conflict("the idempotency key") => Ok(answer),
            _ => Err(error.into()),
        }
    }
}
