//! Earlier registers: a signature is checked against the register that was current at its time.

use super::{Membership, Unstored};
use crate::core::id::KeyId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::key::PublicKey;
use crate::identity::register::VerifiedRegister;
use crate::node::Error;
use crate::storage::{Change, StoreError, Write};
use std::sync::{MutexGuard, PoisonError};

impl Membership {
    /// The document key `kid` in the register that was current at `at`: its member may have left since.
    pub async fn document_key_at(&self, kid: &KeyId, at: Timestamp) -> Option<PublicKey> {
        let trust = self.node.trust();
        if let Some(key) = trust.register.document_key(kid, at) {
            return Some(key);
        }
        for sequence in (1..trust.register.body().sequence).rev() {
            let register = self.earlier_register(sequence).await?;
            if register.body().issued <= at {
                return register.document_key(kid, at);
            }
        }
        None
    }

    /// The register with this sequence number, or the newest, JWS.
    pub async fn register(&self, sequence: Option<u64>) -> Result<String, Error> {
        match sequence {
            None => Ok(self.node.trust().register.jws().to_owned()),
            Some(sequence) => {
                // Stored registers are verified. Registers from before this node joined are missing.
                let found = self.stored_register(sequence).await?;
                found.ok_or_else(|| Error::not_found(format!("this node does not have the register {sequence}")))
            }
        }
    }

    /// A register by its sequence number, including those not stored yet.
    pub(super) async fn stored_register(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        let unstored = self.unstored().registers.get(&sequence).cloned();
        if unstored.is_some() { Ok(unstored) } else { self.node.store().register(sequence).await }
    }

    /// An earlier register without the keys in quarantine.
    async fn earlier_register(&self, sequence: u64) -> Option<VerifiedRegister> {
        let trust = self.node.trust();
        let jws = self.stored_register(sequence).await.ok()??;
        Some(VerifiedRegister::verify_in(&jws, &trust.roots).ok()?.without(&trust.quarantine))
    }

    fn unstored(&self) -> MutexGuard<'_, Unstored> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a register or root document. In read-only mode it is trusted but only kept in memory: suspensions must
    /// take effect, and a restored node needs the current members to compare its log with.
    pub(super) async fn commit_trust(&self, change: Change) -> Result<(), StoreError> {
        let Some(reason) = self.node.read_only().reason() else {
            return self.node.store().commit(change).await.map(drop);
        };
        let mut unstored = self.unstored();
        if unstored.changes.len() >= limits::PAGE_ROWS_MAX {
            return Err(StoreError::ReadOnly(reason));
        }
        for write in &change.writes {
            if let Write::InstallRegister { sequence, jws, .. } = write {
                unstored.registers.insert(*sequence, jws.clone());
            }
        }
        unstored.changes.push(change);
        Ok(())
    }

    /// Commits the registers and root documents that were received in read-only mode.
    pub async fn store_unstored(&self) -> Result<(), StoreError> {
        let unstored = std::mem::take(&mut *self.unstored());
        for change in unstored.changes {
            self.node.store().commit(change).await?;
        }
        Ok(())
    }
}
