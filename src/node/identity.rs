//! This node's identity.

use crate::core::id::{LogOrigin, ParticipantId};
use crate::identity::endpoint::Endpoint;
use crate::identity::key::SigningKey;
use std::sync::{Arc, PoisonError, RwLock};

/// This node's identity.
pub struct Identity {
    /// Participant id.
    pub participant: ParticipantId,
    /// Origin line of its log.
    pub origin: LogOrigin,
    /// Endpoint of its peer listener, as in the register.
    pub endpoint: Endpoint,
    /// Key that signs its documents.
    pub document_key: Arc<DocumentKey>,
}

/// The current document key; it changes while the node runs.
#[derive(Debug)]
pub struct DocumentKey(RwLock<Arc<SigningKey>>);

impl DocumentKey {
    /// `key` is the current key.
    pub fn new(key: SigningKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// The current key.
    pub fn current(&self) -> Arc<SigningKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, key: SigningKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}
