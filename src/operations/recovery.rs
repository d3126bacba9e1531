//! Comparison of this node's log with the checkpoints that its peers observed: a folder restored from a backup may hold
//! an older log. Then nothing is signed or changed any more, so that the log is not forked.

use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Facts, Kind};
use crate::core::id::ParticipantId;
use crate::delivery::Downloads;
use crate::identity::key::{KeyUse, PublicKey};
use crate::membership::Membership;
use crate::node::{Error, Node, Peer, details};
use crate::publishing::Publishing;
use crate::storage::Change;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Advice after an old folder was restored.
const ADVICE: &str = "nothing is changed or signed any more, so that the log is not forked. Restore a newer backup or \
    the original folder; if there is none, ask the alliance operator to remove this park and to admit a new node under \
    another id";

/// Evidence that this node's log is not the one that its peers observed.
#[derive(Debug, Clone)]
pub struct LogBehind {
    /// Reason for people.
    pub reason: String,
    /// Checkpoint that this folder never signed.
    pub note: String,
}

/// Compares this node's log with what its peers observed, and ends read-only mode.
pub struct Recovery {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
    membership: Arc<Membership>,
    publishing: Arc<Publishing>,
    downloads: Arc<Downloads>,
    /// Every key that ever signed checkpoints of this log.
    log_keys: Vec<PublicKey>,
    /// Whether unreferenced bytes are removed already.
    swept: AtomicBool,
}

impl Recovery {
    /// `log_keys` are all keys that ever signed checkpoints of this log.
    pub fn new(
        node: Arc<Node>,
        peer: Arc<dyn Peer>,
        membership: Arc<Membership>,
        publishing: Arc<Publishing>,
        downloads: Arc<Downloads>,
        log_keys: Vec<PublicKey>,
    ) -> Arc<Self> {
        Arc::new(Self { node, peer, membership, publishing, downloads, log_keys, swept: AtomicBool::new(false) })
    }

    /// Compares this log with the newest checkpoint of it that each active peer holds. Returns the peers without a
    /// usable answer within `time_max`, or evidence that this log is behind.
    pub async fn compare_log(&self, time_max: Duration) -> Result<Vec<ParticipantId>, LogBehind> {
        let trust = self.node.trust();
        let asked = trust.register.body().peers(self.node.me()).map(|member| async move {
            let seen = tokio::time::timeout(time_max, self.peer.observed_checkpoint(member)).await;
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
                        // The folder may be too old to know the key that signed it.
                        tracing::warn!(peer = %member.id, "a peer holds a checkpoint that no known key of this log signed");
                        silent.push(member.id.clone());
                    }
                },
            }
        }
        Ok(silent)
    }

    async fn compare_with(&self, holder: &str, seen: &Checkpoint, note: &str) -> Result<(), LogBehind> {
        // Every checkpoint is stored before it leaves this node.
        let stored = self.node.store().checkpoint_at(seen.size).await;
        let behind = |reason: String| LogBehind { reason, note: note.to_owned() };
        match stored {
            Ok(Some(stored)) if stored.starts_with(&seen.body()) => Ok(()),
            Ok(_) => Err(behind(format!(
                "{holder} holds a checkpoint of this log with {} entries that this folder never signed: the folder is \
                 outdated, or another copy of it was in use. {ADVICE}",
                seen.size
            ))),
            Err(error) => Err(behind(error.to_string())),
        }
    }

    /// Compares this log with a checkpoint that was found to be missing here earlier.
    pub async fn compare_with_observed(&self, note: &str) -> Result<(), LogBehind> {
        match self.own_checkpoint(note) {
            Some(seen) => self.compare_with("a peer that was asked earlier", &seen, note).await,
            None => Ok(()),
        }
    }

    /// Parses a checkpoint of this node's log, signed with a key in the folder or in the newest register.
    fn own_checkpoint(&self, note: &str) -> Option<Checkpoint> {
        let trust = self.node.trust();
        let listed = trust.register.member(self.node.me());
        let listed = listed.into_iter().flat_map(|member| &member.keys).filter(|key| key.usage == KeyUse::Log);
        let listed = listed.filter_map(|key| PublicKey::from_slice(&key.public.0));
        let keys: Vec<PublicKey> = self.log_keys.iter().copied().chain(listed).collect();
        Checkpoint::verify(note, self.node.origin(), &keys).ok()
    }

    /// Ends read-only mode, stores the registers and root documents received during it, and logs if the folder was
    /// `restored`.
    pub async fn begin_writing(&self, restored: bool) -> Result<(), Error> {
        // Only now is it certain that the database is current, so that unreferenced bytes can be recognised. Later, bytes
        // may belong to a publication in progress.
        if !self.swept.swap(true, Ordering::SeqCst) {
            self.sweep();
        }
        self.node.read_only().leave();
        self.membership.store_unstored().await?;
        if restored { self.resume_log().await } else { Ok(()) }
    }

    /// Lists the stored bytes, before anything new is stored, and removes the unreferenced ones meanwhile: a node with many
    /// datasets starts at once.
    fn sweep(&self) {
        let (published, received) = match (self.publishing.stored(), self.downloads.stored()) {
            (Ok(published), Ok(received)) => (published, received),
            (Err(error), _) | (_, Err(error)) => {
                return tracing::warn!(%error, "the stored sealed bytes could not be listed");
            }
        };
        let (publishing, downloads) = (self.publishing.clone(), self.downloads.clone());
        tokio::spawn(async move {
            let swept = async {
                publishing.sweep(published).await?;
                downloads.sweep(received).await
            };
            if let Err(error) = swept.await {
                tracing::warn!(%error, "unreferenced sealed bytes could not be removed");
            }
        });
    }

    async fn resume_log(&self) -> Result<(), Error> {
        let facts = Facts { detail: details(json!({"restored": true})), ..Facts::default() };
        self.node.store().commit(Change::new(self.node.draft(Kind::LogResumed, facts))).await?;
        Ok(())
    }
}
