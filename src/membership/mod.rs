//! The alliance as this node sees it: registers and root documents, keys in quarantine, who a caller is, and what the
//! peers' logs looked like.

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
    /// Members that recently had no newer register, and when they were asked.
    fruitless: Mutex<HashMap<ParticipantId, Timestamp>>,
    /// Digests of documents whose refusal is logged.
    refused: Mutex<VecDeque<Digest>>,
    unstored: Mutex<Unstored>,
    /// Whether a peer or the alliance confirmed since the start that the register is the newest.
    confirmed: AtomicBool,
    reach_checks: Semaphore,
}

/// Registers and root documents that are trusted, and that read-only mode keeps from being stored.
#[derive(Default)]
struct Unstored {
    changes: Vec<Change>,
    registers: BTreeMap<u64, String>,
}

impl Membership {
    /// Of this node.
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
