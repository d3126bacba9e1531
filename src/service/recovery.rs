//! Whether this node's log is the one that others saw: a folder that was put back from a backup may be behind. Then nothing
//! more is signed and nothing is changed. trust.md, "The log".

use super::ports::PeerError;
use super::refusal::Error;
use super::{Counterparty, Node};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Facts, Kind};
use crate::core::id::ParticipantId;
use crate::identity::key::{KeyUse, PublicKey};
use crate::storage::{Change, ReadOnlyMode, StoreError};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What must be done by whoever put an old folder back.
const ADVICE: &str = "nothing is changed or signed any more, so that no history is forked. Restore a newer backup or the \
    original folder; if there is none, ask the alliance operator to suspend this park and to admit a new node";

/// What shows that this log is not the one that others saw.
#[derive(Debug, Clone)]
pub struct LogBehind {
    /// For people.
    pub reason: String,
    /// The checkpoint that this folder never signed.
    pub note: String,
}

impl Node {
    /// Whether changes are taken.
    pub fn read_only(&self) -> &ReadOnlyMode {
        &self.parts.read_only
    }

    /// Nothing is served or answered by a state that may be an old one.
    pub(super) fn ensure_writable(&self) -> Result<(), Error> {
        self.parts.read_only.reason().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason).into()))
    }

    /// Whether anybody had this node's register, or a newer one that it took, since the start.
    pub fn is_register_confirmed(&self) -> bool {
        self.register_confirmed.load(Ordering::Relaxed)
    }

    /// Compares this log with the newest checkpoint of it that each active peer holds. The peers that did not answer in
    /// `time_max`; or what shows that this log is not whole.
    pub async fn compare_log(&self, time_max: Duration) -> Result<Vec<ParticipantId>, LogBehind> {
        let trust = self.trust();
        let asked = trust.register.body().peers(&self.parts.me).map(|member| async move {
            let seen = tokio::time::timeout(time_max, self.parts.peer.seen(member)).await;
            (member, seen.ok().and_then(Result::ok))
        });
        let mut silent = Vec::new();
        for (member, seen) in futures_util::future::join_all(asked).await {
            match seen {
                None => silent.push(member.id.clone()),
                Some(None) => {}
                Some(Some(note)) => match self.own_checkpoint(&note) {
                    Some(seen) => self.compare_with(member.id.as_str(), &seen, &note).await?,
                    None => {
                        // Nothing that a known key of this log signed. A folder that is old may not know the key yet.
                        tracing::warn!(peer = %member.id, "a peer holds a checkpoint that no known key of this log signed");
                        silent.push(member.id.clone());
                    }
                },
            }
        }
        Ok(silent)
    }

    async fn compare_with(&self, holder: &str, seen: &Checkpoint, note: &str) -> Result<(), LogBehind> {
        // Every checkpoint that ever left this node was stored first.
        let stored = self.parts.store.checkpoint_at(seen.size).await;
        let behind = |reason: String| LogBehind { reason, note: note.to_owned() };
        match stored {
            Ok(Some(stored)) if stored.starts_with(&seen.body()) => Ok(()),
            Ok(_) => Err(behind(format!(
                "{holder} holds a checkpoint of this log with {} entries that this folder never signed: the folder is older \
                 than what others saw, or another. {ADVICE}",
                seen.size
            ))),
            Err(error) => Err(behind(error.to_string())),
        }
    }

    /// Compares this log with a checkpoint of it that was seen before, and found to be missing here.
    pub async fn compare_with_seen(&self, note: &str) -> Result<(), LogBehind> {
        match self.own_checkpoint(note) {
            Some(seen) => self.compare_with("a peer that was asked earlier", &seen, note).await,
            None => Ok(()),
        }
    }

    /// A checkpoint of this node's log, if a key signed it that the folder holds or the newest register lists.
    fn own_checkpoint(&self, note: &str) -> Option<Checkpoint> {
        let trust = self.trust();
        let listed = trust.register.member(&self.parts.me);
        let listed = listed.into_iter().flat_map(|member| &member.keys).filter(|key| key.usage == KeyUse::Log);
        let listed = listed.filter_map(|key| PublicKey::from_slice(&key.public.0));
        let keys: Vec<PublicKey> = self.parts.log_keys.iter().copied().chain(listed).collect();
        Checkpoint::verify(note, &self.parts.origin, &keys).ok()
    }

    /// Opens the gate, stores what was only believed so far, and where the folder was `restored` says so in the log.
    pub async fn begin_writing(&self, restored: bool) -> Result<(), Error> {
        // Only what is sure to be this log's state may say which sealed bytes nobody refers to; nothing is published yet.
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "sealed bytes that nothing refers to could not be removed yet");
        }
        self.parts.read_only.leave();
        self.commit_believed().await?;
        if restored { self.resume_log().await } else { Ok(()) }
    }

    async fn resume_log(&self) -> Result<(), Error> {
        let facts = Facts { detail: super::object(json!({"restored": true})), ..Facts::default() };
        self.parts.store.commit(Change::new(self.draft(Kind::LogResumed, facts))).await?;
        Ok(())
    }

    /// Dials a member back, at its endpoint in the register: for its own diagnosis.
    pub async fn reach(self: &Arc<Self>, from: &Counterparty) -> Result<Result<(), PeerError>, Error> {
        self.charge_quota(&from.participant)?;
        let _place = self.reaching.try_acquire().map_err(|_| Error::TooMany)?;
        let trust = self.trust();
        Ok(self.parts.peer.reach(trust.member(&from.participant)?).await)
    }
}
