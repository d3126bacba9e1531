//! Places for plain downloads, and a small cache of their indexes.

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::node::Places;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared state of all plain downloads.
pub struct Pulls {
    /// A slow reader cannot occupy all places.
    pub(super) places: Places<ParticipantId>,
    /// End offset of each frame's text, by blob; the newest last.
    indexes: Mutex<VecDeque<(Digest, Arc<Vec<u64>>)>>,
}

impl Default for Pulls {
    fn default() -> Self {
        let (all, per_member) = (limits::PULLS_MAX, limits::PULLS_PER_MEMBER_MAX);
        let places = Places::new(all, per_member, limits::PULL_WAIT_MAX, "plain downloads");
        Self { places, indexes: Mutex::default() }
    }
}

impl Pulls {
    pub(super) fn known(&self, blob: &Digest) -> Option<Arc<Vec<u64>>> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.iter().find(|(known, _)| known == blob).map(|(_, ends)| ends.clone())
    }

    pub(super) fn keep(&self, blob: Digest, ends: Arc<Vec<u64>>) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if indexes.len() == limits::PULL_INDEXES_MAX {
            indexes.pop_front();
        }
        indexes.push_back((blob, ends));
    }
}
