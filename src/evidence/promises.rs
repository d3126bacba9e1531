//! Promises: signed statements that an entry is in the signer's log. Every logged answer to a member carries one.

use super::Evidence;
use crate::audit::promise::Promise;
use crate::core::id::ParticipantId;
use crate::identity::document;
use crate::storage::{Logged, Maintenance};

impl Evidence {
    /// This node's promise to `to` that an entry is in its log, JWS.
    pub fn promise(&self, to: &ParticipantId, logged: &Logged) -> String {
        let promise = Promise {
            origin: self.node.origin().clone(),
            participant: self.node.me().clone(),
            to: to.clone(),
            entry: logged.id.clone(),
            leaf: logged.leaf,
        };
        document::sign(promise, &self.node.document_key()).jws().to_owned()
    }

    /// Stores a peer's promise if that peer signed it, for this node, about its own log.
    pub async fn store_promise(&self, from: &ParticipantId, jws: Option<String>) {
        let Some(jws) = jws else { return };
        let (trust, now) = (self.node.trust(), self.node.now());
        let verified = document::verify::<Promise>(&jws, |kid| trust.register.document_key(kid, now));
        match verified {
            Ok(promise)
                if promise.body().participant == *from
                    && promise.body().to == *self.node.me()
                    && promise.body().origin == from.log_origin(0) =>
            {
                let entry = promise.body().entry.clone();
                let task = Maintenance::Promise { participant: from.clone(), entry, jws };
                if let Err(error) = self.node.store().maintain(vec![task]).await {
                    tracing::warn!(%error, peer = %from, "a peer's promise could not be stored");
                }
            }
            Ok(_) => tracing::warn!(peer = %from, "a peer's promise names other parties or another log"),
            Err(error) => tracing::warn!(%error, peer = %from, "a peer's promise does not verify"),
        }
    }
}
