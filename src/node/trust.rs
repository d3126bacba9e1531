//! The basis of this node's trust: the chain of root documents, the newest register, and the keys in quarantine.

use super::Error;
use crate::core::id::ParticipantId;
use crate::core::time::Timestamp;
use crate::identity::document::DocumentError;
use crate::identity::register::{KeyName, Member, VerifiedRegister};
use crate::identity::root::RootChain;
use crate::storage::StoreError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// The trust of this node at one time.
#[derive(Debug)]
pub struct Trust {
    /// Chain of root documents.
    pub roots: RootChain,
    /// Newest register, without the keys in quarantine.
    pub register: VerifiedRegister,
    /// New keys that the old ones did not sign and no administrator has confirmed.
    pub quarantine: BTreeSet<KeyName>,
}

impl Trust {
    /// Fails when the register has expired: no decisions are made until a newer one is installed.
    pub fn ensure_current(&self, at: Timestamp) -> Result<(), StoreError> {
        if self.register.is_current(at) {
            return Ok(());
        }
        Err(StoreError::Unavailable("the register has expired; the alliance operator must renew it".into()))
    }

    /// The error of a document whose signature is not valid. A key in quarantine may be confirmed later.
    pub fn signature_error(&self, code: &'static str, error: &DocumentError) -> Error {
        match error {
            DocumentError::UnknownKey { key, .. } if self.quarantine.iter().any(|(held, _)| held == key) => {
                let reason =
                    "is in quarantine here until an administrator confirms its fingerprint; request again then";
                Error::invalid(code, format!("{key} {reason}"))
            }
            error => Error::invalid(code, error.to_string()),
        }
    }

    /// A member of the register.
    pub fn member(&self, id: &ParticipantId) -> Result<&Member, Error> {
        self.register.member(id).ok_or_else(|| {
            let sequence = self.register.body().sequence;
            let hint = "if it joined recently, install a newer register or configure an alliance URL";
            Error::not_found(format!("{id} is not a member in register {sequence}, the newest on this node; {hint}"))
        })
    }
}

/// The current trust, its subscribers, and the register's sequence for the HTTP client.
pub struct TrustState {
    current: watch::Sender<Arc<Trust>>,
    sequence: Arc<AtomicU64>,
}

impl TrustState {
    /// `trust` is the current trust. `sequence` always holds the sequence number of the current register.
    pub fn new(trust: Trust, sequence: Arc<AtomicU64>) -> Self {
        sequence.store(trust.register.body().sequence, Ordering::Relaxed);
        Self { current: watch::Sender::new(Arc::new(trust)), sequence }
    }

    pub(super) fn current(&self) -> Arc<Trust> {
        self.current.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Trust>> {
        self.current.subscribe()
    }

    pub(super) fn update(&self, next: impl FnOnce(&Trust) -> Option<Trust>) {
        self.current.send_if_modified(|trust| match next(trust) {
            Some(next) => {
                self.sequence.store(next.register.body().sequence, Ordering::Relaxed);
                *trust = Arc::new(next);
                true
            }
            None => false,
        });
    }
}
