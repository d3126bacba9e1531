//! Idempotency keys: the key, the digest of its request and the answer are committed together with the created object,
//! so that a repeated request gets the first answer.

use crate::core::digest::{Digest, HashingReader, KeyedHasher};
use crate::core::id::TokenId;
use crate::core::limits;
use crate::node::{Error, Node, Place, Places, User};
use crate::storage::{Conflict, IdempotencyRow, StoreError, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Label of the digests of requests, which are stored.
const LABEL: &str = "crosspark/once/v1";

/// A user's idempotency key and the digest of its request.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    key: String,
    request: Digest,
}

impl IdempotencyKey {
    /// `key`, 1 to 128 visible ASCII characters, for the request that consists of `parts`.
    pub fn new(key: &str, parts: &[&[u8]]) -> Result<Self, Error> {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        if !(1..=max).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                "header",
                format!("an idempotency key must have 1 to {max} visible ASCII characters"),
            ));
        }
        Ok(Self { key: key.to_owned(), request: Digest::labelled(LABEL, parts) })
    }

    /// The same key for a request whose records were read through `hashing`.
    pub fn with_records<R>(&self, hashing: HashingReader<R>) -> Self {
        let records = hashing.finish().map(|digest| digest.to_string()).unwrap_or_default();
        let request = Digest::labelled(LABEL, &[self.request.as_bytes(), records.as_bytes()]);
        Self { key: self.key.clone(), request }
    }
}

/// Stores answers by idempotency key.
pub struct Idempotency {
    node: Arc<Node>,
    secret: Zeroizing<[u8; 32]>,
    /// One place for each key: the same request at the same time waits for the answer of the first one.
    alone: Places<(TokenId, String)>,
}

impl Idempotency {
    /// Digests of records are keyed by `secret`, so that a copied database does not confirm guesses.
    pub fn new(node: Arc<Node>, secret: Zeroizing<[u8; 32]>) -> Arc<Self> {
        let wait_max = limits::PEER_ANSWER_TIME_MAX;
        let alone = Places::new(limits::REQUESTS_IN_FLIGHT_MAX, 1, wait_max, "requests with one idempotency key");
        Arc::new(Self { node, secret, alone })
    }

    /// Held while the first request with a key is carried out.
    pub async fn alone(&self, user: &User, key: Option<&IdempotencyKey>) -> Result<Option<Place>, Error> {
        match key {
            Some(key) => self.alone.take(&(user.token.clone(), key.key.clone())).await.map(Some),
            None => Ok(None),
        }
    }

    /// Wraps `source`, which is hashed if `wanted`.
    pub fn hashing<R: Read>(&self, source: R, wanted: bool) -> HashingReader<R> {
        HashingReader::new(source, wanted.then(|| KeyedHasher::new(&self.secret, LABEL)))
    }

    /// Whether the user's key was used before.
    pub async fn is_known(&self, user: &User, key: &IdempotencyKey) -> Result<bool, Error> {
        Ok(self.node.store().idempotent_request(&user.token, &key.key).await?.is_some())
    }

    /// The earlier answer to the same request; another request with the same key is refused.
    pub async fn answered<T: DeserializeOwned>(
        &self,
        user: &User,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<T>, Error> {
        let Some(key) = key else { return Ok(None) };
        let Some(known) = self.node.store().idempotent_request(&user.token, &key.key).await? else { return Ok(None) };
        if known.request != key.request {
            return Err(Error::invalid("idempotency-key", "this idempotency key was used for another request"));
        }
        serde_json::from_str(&known.answer).map(Some).map_err(|error| Error::Internal(error.to_string()))
    }

    /// The write that stores `answer` for the next request with this key.
    pub fn remember(&self, user: &User, key: Option<&IdempotencyKey>, answer: &impl Serialize) -> Option<Write> {
        let IdempotencyKey { key, request } = key?.clone();
        let answer = serde_json::to_string(answer).unwrap_or_default();
        Some(Write::IdempotencyKey(IdempotencyRow {
            token: user.token.clone(),
            key,
            request,
            answer,
            at: self.node.now(),
        }))
    }

    /// The answer after a failed commit: the same request may have been carried out concurrently.
    pub async fn answered_meanwhile<T: DeserializeOwned>(
        &self,
        user: &User,
        key: Option<&IdempotencyKey>,
        error: StoreError,
    ) -> Result<T, Error> {
        match self.answered(user, key).await? {
            Some(answer) if error == StoreError::Conflict(Conflict::IdempotencyKey) => Ok(answer),
            _ => Err(error.into()),
        }
    }
}
