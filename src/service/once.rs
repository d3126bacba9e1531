//! Creations that happen once however often they are asked for: an idempotency key, its request's digest and the answer
//! are committed with what was created.

use super::refusal::Error;
use super::{Node, Published, User};
use crate::core::digest::{Digest, KeyedHasher};
use crate::core::limits;
use crate::storage::{IdempotencyRow, StoreError, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};

/// A request that its user marked with a key.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    key: String,
    request: Digest,
}

impl IdempotencyKey {
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

/// A source of records, and the digest of what was read of it.
pub struct Tee<R> {
    source: R,
    hasher: Option<KeyedHasher>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

impl IdempotencyKey {
    /// The same mark for a request whose records were read through `tee`.
    pub(super) fn with_records<R>(&self, tee: Tee<R>) -> Self {
        let records = tee.hasher.map(|hasher| hasher.finish().to_string()).unwrap_or_default();
        let request = Digest::labelled("crosspark/once/v1", &[self.request.as_bytes(), records.as_bytes()]);
        Self { key: self.key.clone(), request }
    }
}

impl Node {
    /// The publication that the same request made before: the records are read to the end and compared, too.
    pub(super) async fn published_before(
        &self,
        user: &User,
        once: Option<&IdempotencyKey>,
        source: impl Read + Send + 'static,
    ) -> Result<Result<Published, impl Read + Send + 'static>, Error> {
        let Some(once) = once else { return Ok(Err(source)) };
        if self.parts.store.once(&user.token, &once.key).await?.is_none() {
            return Ok(Err(source));
        }
        let mut tee = self.tee(source, true);
        let read = tokio::task::spawn_blocking(move || io::copy(&mut tee, &mut io::sink()).map(|_| tee));
        let read = read.await.map_err(|error| Error::Internal(error.to_string()))?;
        let tee = read.map_err(|error| Error::invalid("source", error.to_string()))?;
        let published = self.answered(user, Some(&once.with_records(tee))).await?;
        // It was there a moment ago, and is kept for a week.
        published
            .map(Ok)
            .ok_or_else(|| Error::Unavailable("the earlier publication was just forgotten; try again".into()))
    }

    /// Reads `source` and takes a digest of it, if it is `wanted`. It is keyed: nobody who has the database can confirm a
    /// guess.
    pub(super) fn tee<R: Read>(&self, source: R, wanted: bool) -> Tee<R> {
        Tee { source, hasher: wanted.then(|| KeyedHasher::new(&self.parts.token_key, "crosspark/once/v1")) }
    }

    /// The answer that the same request got before; another request under the same key is refused.
    pub async fn answered<T: DeserializeOwned>(
        &self,
        user: &User,
        once: Option<&IdempotencyKey>,
    ) -> Result<Option<T>, Error> {
        let Some(once) = once else { return Ok(None) };
        let Some(known) = self.parts.store.once(&user.token, &once.key).await? else { return Ok(None) };
        if known.request != once.request {
            return Err(Error::invalid("idempotency-key", "another request was made with this idempotency key"));
        }
        serde_json::from_str(&known.answer).map(Some).map_err(|error| Error::Internal(error.to_string()))
    }

    /// What makes the next request with this key find `answer`.
    pub(super) fn remember(
        &self,
        user: &User,
        once: Option<&IdempotencyKey>,
        answer: &impl Serialize,
    ) -> Option<Write> {
        let once = once?;
        let answer = serde_json::to_string(answer).unwrap_or_default();
        let (token, key, at) = (user.token.clone(), once.key.clone(), self.now());
        Some(Write::IdempotencyKey(IdempotencyRow { token, key, request: once.request, answer, at }))
    }

    /// The answer after a commit that failed: perhaps the same request was at work twice at once.
    pub(super) async fn answered_meanwhile<T: DeserializeOwned>(
        &self,
        user: &User,
        once: Option<&IdempotencyKey>,
        error: StoreError,
    ) -> Result<T, Error> {
        match self.answered(user, once).await? {
            Some(answer) if error == StoreError::Conflict("the idempotency key") => Ok(answer),
            _ => Err(error.into()),
        }
    }
}
