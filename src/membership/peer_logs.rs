//! Checkpoints of the peers' logs, stored and compared so that a peer cannot rewrite its log unnoticed.

use super::Membership;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::identity::key::KeyUse;
use crate::identity::register::Member;
use crate::node::{Error, details};
use crate::storage::{Change, Maintenance};
use serde_json::json;

impl Membership {
    /// Fetches and stores every active peer's newest checkpoint, so that peers can compare their logs with it.
    pub async fn observe_checkpoints(&self) {
        let trust = self.node.trust();
        for member in trust.register.body().peers(self.node.me()) {
            let _ = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.observe_checkpoint(member)).await;
        }
    }

    /// The provider's newest checkpoint, verified and stored. A smaller one never replaces an earlier one.
    pub async fn observe_checkpoint(&self, provider: &Member) -> Option<String> {
        let now = self.node.now();
        let keys: Vec<_> = provider.keys_for(KeyUse::Log, now).map(|(_, key)| key).collect();
        let origin = provider.id.log_origin(0);
        let verify = |note: &str| Checkpoint::verify(note, &origin, &keys);
        let known = self.node.store().peer_checkpoint(&provider.id).await.ok().flatten();
        let known = known.and_then(|note| verify(&note).ok().map(|checkpoint| (checkpoint, note)));
        let fetched = self.peer.checkpoint(provider).await.ok();
        let fetched = fetched.and_then(|note| verify(&note).ok().map(|checkpoint| (checkpoint, note)));
        match (known, fetched) {
            (Some((old, note)), Some((new, other))) if old.size == new.size && old.root != new.root => {
                self.alarm(provider, "the peer signed two different logs of the same size", new.size, &[note, other])
                    .await;
                None
            }
            (Some((old, note)), Some((new, other))) if new.size < old.size => {
                self.alarm(provider, "the peer's log became shorter", new.size, &[note.clone(), other]).await;
                Some(note)
            }
            (_, Some((new, note))) => {
                let (participant, size) = (provider.id.clone(), new.size);
                let task = Maintenance::PeerCheckpoint { participant, size, note: note.clone() };
                if let Err(error) = self.node.store().maintain(vec![task]).await {
                    tracing::warn!(%error, "a peer's checkpoint could not be stored");
                }
                Some(note)
            }
            (known, None) => known.map(|(_, note)| note),
        }
    }

    /// Logs contradicting checkpoints: both notes are evidence.
    async fn alarm(&self, peer: &Member, what: &str, size: u64, notes: &[String]) {
        tracing::error!(peer = %peer.id, size, what, "ALARM: a peer's checkpoints contradict each other");
        let facts = Facts {
            parties: vec![peer.id.clone()],
            detail: details(json!({"alarm": what, "checkpoints": notes})),
            ..Facts::default()
        };
        let logged = self.node.store().commit(Change::new(self.node.draft(Kind::PeerAlarm, facts))).await;
        let kept = notes.last().map(|note| Maintenance::PeerCheckpoint {
            participant: peer.id.clone(),
            size,
            note: note.clone(),
        });
        let kept = self.node.store().maintain(kept.into_iter().collect()).await;
        if let Err(error) = logged.map(drop).and(kept) {
            tracing::error!(%error, "the alarm could not be logged");
        }
    }

    /// The newest checkpoint of `participant`'s log that this node holds.
    pub async fn observed_checkpoint(&self, participant: &ParticipantId) -> Result<Option<String>, Error> {
        Ok(self.node.store().peer_checkpoint(participant).await?)
    }
}
