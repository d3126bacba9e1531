//! Whether this node's log is the one that others saw: a folder that was put back from a backup may be behind. Then nothing
//! more is signed and nothing is changed. trust.md, "The log".

use super::ports::PeerError;
use super::refusal::Error;
use super::{Counterparty, Node};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::identity::key::{KeyUse, PublicKey};
use crate::identity::register::{Member, Status};
use crate::storage::{Change, Gate};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What must be done by whoever put an old folder back.
const ADVICE: &str = "nothing is changed or signed any more, so that no history is forked. Restore a newer backup or the \
    original folder; if there is none, ask the alliance operator to suspend this park and to admit a new node";

impl Node {
    /// Whether changes are taken.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Compares this log with the newest checkpoint of it that each active peer holds. The peers that did not answer in
    /// `time_max`; or why this log is not whole.
    pub async fn compare_log(&self, time_max: Duration) -> Result<Vec<ParticipantId>, String> {
        let trust = self.trust();
        let others = trust.register.body().members.iter();
        let others = others.filter(|member| member.id != self.parts.me && member.status == Status::Active);
        let asked = others.map(|member| async move {
            let seen = tokio::time::timeout(time_max, self.parts.peer.seen(member)).await;
            (member, seen.ok().and_then(Result::ok))
        });
        let mut silent = Vec::new();
        for (member, seen) in futures_util::future::join_all(asked).await {
            match seen {
                None => silent.push(member.id.clone()),
                Some(None) => {}
                Some(Some(note)) => self.compare_with(member, &note).await?,
            }
        }
        Ok(silent)
    }

    async fn compare_with(&self, peer: &Member, note: &str) -> Result<(), String> {
        let Some(seen) = self.own_checkpoint(note).await else {
            // Nothing that this log signed: it says nothing about it.
            tracing::warn!(peer = %peer.id, "a peer holds a checkpoint of this log that no key of it signed");
            return Ok(());
        };
        // Every checkpoint that ever left this node was stored first.
        let stored = self.parts.store.checkpoint_at(seen.size).await.map_err(|error| error.to_string())?;
        if stored.is_some_and(|stored| stored.starts_with(&seen.body())) {
            return Ok(());
        }
        Err(format!(
            "{} holds a checkpoint of this log with {} entries that this folder never signed: the folder is older than \
             what others saw, or another. {ADVICE}",
            peer.id, seen.size
        ))
    }

    /// A checkpoint of this node's log, if any of the keys signed it that it ever had.
    async fn own_checkpoint(&self, note: &str) -> Option<Checkpoint> {
        let mut sequence = self.trust().register.body().sequence;
        let verify = |keys: &[PublicKey]| Checkpoint::verify(note, &self.parts.origin, keys).ok();
        let listed = |member: Option<&Member>| -> Vec<PublicKey> {
            let all = member.into_iter().flat_map(|member| &member.keys).filter(|key| key.usage == KeyUse::Log);
            all.filter_map(|key| PublicKey::from_slice(&key.public.0)).collect()
        };
        let mut keys = listed(self.trust().register.member(&self.parts.me));
        loop {
            if let Some(checkpoint) = verify(&keys) {
                return Some(checkpoint);
            }
            sequence = sequence.checked_sub(1).filter(|sequence| *sequence > 0)?;
            keys = listed(self.past_register(sequence).await?.member(&self.parts.me));
        }
    }

    /// The log of a restored folder was compared with every active peer's: the node goes on, and says so in its log.
    pub async fn resume_log(&self) -> Result<(), Error> {
        let facts = Facts { detail: super::object(json!({"restored": true})), ..Facts::default() };
        self.parts.store.commit(Change::new(self.draft(Kind::LogResumed, facts))).await?;
        Ok(())
    }

    /// Looks at every active peer's newest checkpoint and keeps it, so that each can be told what others saw of it.
    pub async fn see_checkpoints(&self) {
        let trust = self.trust();
        for member in &trust.register.body().members {
            if member.id != self.parts.me && member.status == Status::Active {
                let _ = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.see_checkpoint(member)).await;
            }
        }
    }

    /// Dials a member back, at its endpoint in the register: for its own diagnosis.
    pub async fn reach(self: &Arc<Self>, from: &Counterparty) -> Result<Result<(), PeerError>, Error> {
        self.take_quota(&from.participant)?;
        let trust = self.trust();
        Ok(self.parts.peer.reach(trust.member(&from.participant)?).await)
    }

    /// The newest checkpoint of `participant`'s log that this node holds.
    pub async fn seen_of(&self, participant: &ParticipantId) -> Result<Option<String>, Error> {
        Ok(self.parts.store.peer_checkpoint(participant).await?)
    }
}
