//! The alliance: registers and root documents, keys in quarantine, authentication of callers, and the checkpoints of
//! the peers' logs.

mod access;
mod history;
mod peer_logs;
mod quarantine;
mod register;
mod roots;

pub use register::{Members, QuarantinedKey};

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::node::{Node, Peer};
use crate::storage::Change;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Installs registers and root documents, and authenticates members.
pub struct Membership {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
    /// One catch-up at a time.
    fetching: tokio::sync::Mutex<()>,
    /// Members that recently had no usable newer register, and when they were asked.
    fruitless: Mutex<HashMap<ParticipantId, Timestamp>>,
    /// Digests of refused documents, each logged once.
    refused: Mutex<VecDeque<Digest>>,
    unstored: Mutex<Unstored>,
    /// Whether a peer or the alliance has confirmed since the start that the register is the newest.
    confirmed: AtomicBool,
    reach_checks: Semaphore,
}

/// Trusted registers and root documents that were received in read-only mode.
#[derive(Default)]
struct Unstored {
    changes: Vec<Change>,
    registers: BTreeMap<u64, String>,
}

impl Membership {
    /// Membership of this node; `peer` reaches the other members.
    pub fn new(node: Arc<Node>, peer: Arc<dyn Peer>) -> Self {
        Self {
            node,
            peer,
            fetching: tokio::sync::Mutex::new(()),
            fruitless: Mutex::default(),
            refused: Mutex::default(),
            unstored: Mutex::default(),
            confirmed: AtomicBool::new(false),
            reach_checks: Semaphore::new(limits::REACH_CHECKS_MAX),
        }
    }
}
