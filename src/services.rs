//! Assembly of the use cases: each module gets exactly what it needs.

use crate::blob::{Blobs, Space};
use crate::contracts::{Approvals, Negotiations, Requests};
use crate::core::random::Random;
use crate::core::time::NodeClock;
use crate::delivery::{DataPlane, Downloads, ReceivedMax, TransferTokens, Transfers};
use crate::discovery::Discovery;
use crate::evidence::Evidence;
use crate::idempotency::Idempotency;
use crate::identity::key::PublicKey;
use crate::index::Index;
use crate::keys::Kek;
use crate::membership::Membership;
use crate::node::{DecisionMaker, Environment, Identity, Node, Peer, Quotas, Refusals, TrustState};
use crate::operations::{Clocks, Health, Outbox, Recovery, Tokens};
use crate::publishing::Publishing;
use crate::schema::SchemaRegistry;
use crate::schemas::Schemas;
use crate::sources::{Connections, Sources};
use crate::storage::{ReadOnlyMode, Store};
use crate::subscriptions::Subscriptions;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Storage of a node.
pub struct Stores {
    /// State, log and outbox.
    pub store: Arc<dyn Store>,
    /// Read-only mode, in which changes are refused.
    pub read_only: Arc<ReadOnlyMode>,
    /// Space of the disk.
    pub space: Arc<Space>,
    /// Sealed bytes of this node's datasets.
    pub published: Blobs,
    /// Sealed bytes of peers' datasets.
    pub received: Blobs,
    /// Search index of the peers' catalogs.
    pub index: Index,
}

/// The secrets of a node.
pub struct Secrets {
    /// Wraps all keys at rest.
    pub kek: Kek,
    /// Authenticates transfer tokens.
    pub token_key: Zeroizing<[u8; 32]>,
}

/// Ports to the outside world.
pub struct Ports {
    /// Clock.
    pub clock: Arc<NodeClock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Nodes of other members.
    pub peer: Arc<dyn Peer>,
    /// Decisions on negotiations and transfers.
    pub decisions: Arc<dyn DecisionMaker>,
}

/// Parts of a node.
pub struct Parts {
    /// Identity.
    pub identity: Identity,
    /// Trust at the start.
    pub trust: TrustState,
    /// All keys that ever signed checkpoints of its log.
    pub log_keys: Vec<PublicKey>,
    /// Storage.
    pub stores: Stores,
    /// Secrets.
    pub secrets: Secrets,
    /// Ports.
    pub ports: Ports,
    /// Schemas that need not be fetched.
    pub schemas: SchemaRegistry,
    /// Quota of log entries per member and minute.
    pub quotas: Quotas,
    /// What is kept of peers' datasets.
    pub received_max: ReceivedMax,
    /// Where sources read.
    pub connections: Connections,
}

/// Negotiations, approvals and requests.
#[derive(Clone)]
pub struct Contracts {
    /// Negotiations.
    pub negotiations: Arc<Negotiations>,
    /// Approvals.
    pub approvals: Arc<Approvals>,
    /// Requests.
    pub requests: Arc<Requests>,
}

/// Transfers in both roles.
#[derive(Clone)]
pub struct Delivery {
    /// Transfer processes.
    pub transfers: Arc<Transfers>,
    /// Provider's data plane.
    pub data_plane: Arc<DataPlane>,
    /// Consumer's downloads.
    pub downloads: Arc<Downloads>,
}

/// Operation of the node.
#[derive(Clone)]
pub struct Operations {
    /// Outgoing messages.
    pub outbox: Arc<Outbox>,
    /// Comparison of the log with what peers observed.
    pub recovery: Arc<Recovery>,
    /// State of the node.
    pub health: Arc<Health>,
    /// Clock.
    pub clocks: Arc<Clocks>,
    /// Tokens of the users.
    pub tokens: Arc<Tokens>,
}

/// All use cases of a node.
#[derive(Clone)]
pub struct Services {
    /// Context.
    pub node: Arc<Node>,
    /// Log and promises.
    pub evidence: Arc<Evidence>,
    /// Registers, root documents, authentication.
    pub membership: Arc<Membership>,
    /// Schemas.
    pub schemas: Arc<Schemas>,
    /// Catalogs and search.
    pub discovery: Arc<Discovery>,
    /// Transfers.
    pub delivery: Delivery,
    /// Negotiations.
    pub contracts: Contracts,
    /// Publication and withdrawal.
    pub publishing: Arc<Publishing>,
    /// Sources of datasets.
    pub sources: Arc<Sources>,
    /// Subscriptions to peers' datasets.
    pub subscriptions: Arc<Subscriptions>,
    /// Outbox, recovery, health, tokens.
    pub operations: Operations,
}

impl Services {
    /// Assembles the use cases, without starting anything.
    pub fn new(parts: Parts) -> Self {
        let Parts { identity, trust, log_keys, stores, secrets, ports, schemas, quotas, received_max, connections } =
            parts;
        let Ports { clock, random, peer, decisions } = ports;
        let kek = Arc::new(secrets.kek);
        let tokens = Arc::new(TransferTokens::new(secrets.token_key.clone()));

        let refusals = Refusals::new(quotas);
        let environment = Environment { clock, random, space: stores.space };
        let node = Node::new(identity, trust, environment, stores.store, stores.read_only, refusals);
        let idempotency = Idempotency::new(node.clone(), secrets.token_key);
        let evidence = Arc::new(Evidence::new(node.clone()));
        let membership = Arc::new(Membership::new(node.clone(), peer.clone()));
        let schemas = Arc::new(Schemas::new(node.clone(), membership.clone(), peer.clone(), schemas));
        let discovery = Arc::new(Discovery::new(node.clone(), peer.clone(), stores.index));

        let data_plane =
            DataPlane::new(node.clone(), membership.clone(), kek.clone(), stores.published.clone(), tokens.clone());
        let downloads = Downloads::new(
            node.clone(),
            evidence.clone(),
            membership.clone(),
            peer.clone(),
            kek.clone(),
            stores.received,
            schemas.clone(),
            received_max,
        );
        let transfers = Transfers::new(node.clone(), decisions.clone(), kek.clone(), downloads.clone());

        let negotiations = Negotiations::new(node.clone(), decisions);
        let approvals = Arc::new(Approvals::new(node.clone(), negotiations.clone()));
        let requests = Arc::new(Requests::new(
            node.clone(),
            peer.clone(),
            idempotency.clone(),
            downloads.clone(),
            negotiations.clone(),
            transfers.clone(),
        ));
        let publishing = Publishing::new(
            node.clone(),
            idempotency.clone(),
            discovery.clone(),
            negotiations.clone(),
            transfers.clone(),
            schemas.clone(),
            kek,
            stores.published,
        );

        let sources = Sources::new(node.clone(), publishing.clone(), connections);
        let subscriptions = Subscriptions::new(node.clone(), discovery.clone(), requests.clone());

        let outbox =
            Outbox::new(node.clone(), evidence.clone(), peer.clone(), negotiations.clone(), transfers.clone(), tokens);
        let clocks = Arc::new(Clocks::new(node.clone(), peer.clone()));
        let recovery =
            Recovery::new(node.clone(), peer, membership.clone(), publishing.clone(), downloads.clone(), log_keys);
        let health = Health::new(node.clone(), downloads.clone(), subscriptions.clone());
        let tokens = Arc::new(Tokens::new(node.clone(), idempotency));

        Self {
            node,
            evidence,
            membership,
            schemas,
            discovery,
            delivery: Delivery { transfers, data_plane, downloads },
            contracts: Contracts { requests, negotiations, approvals },
            publishing,
            sources,
            subscriptions,
            operations: Operations { outbox, recovery, health, clocks, tokens },
        }
    }
}
