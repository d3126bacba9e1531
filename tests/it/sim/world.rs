//! The simulated world: two parks, their disks, and their users.

use super::faults::{Chance, Controller, Life, Plan, Strikes};
use super::peer::{Lie, NetworkFaults, SimPeer};
use crate::harness::{Alliance, ENTERPRISE, Park, records, research};
use axum::Router;
use crosspark::assembly;
use crosspark::audit::check::{Check, Held, Row};
use crosspark::audit::checkpoint::Checkpoint;
use crosspark::audit::entry::{Draft, Facts, Kind};
use crosspark::blob::{Blobs, Space};
use crosspark::contracts::RequestStage;
use crosspark::core::id::{DatasetId, ParticipantId, ProcessId, Text, TokenId};
use crosspark::core::json;
use crosspark::core::time::{Clock, NodeClock, SystemClock, Timestamp};
use crosspark::dataset::quality::Detail;
use crosspark::idempotency::IdempotencyKey;
use crosspark::identity::key::KeyUse;
use crosspark::identity::register::VerifiedRegister;
use crosspark::identity::root::RootChain;
use crosspark::identity::x509::Presented;
use crosspark::index::Index;
use crosspark::ingest::Format;
use crosspark::node::{DecisionMaker, DocumentKey, Identity, PolicyDecides, Quotas, Trust, TrustState, User, UserRole};
use crosspark::protocol::{self, Connection};
use crosspark::publishing::Origin;
use crosspark::schema::{self, SchemaRegistry};
use crosspark::services::{Parts, Ports, Secrets, Services, Stores};
use crosspark::source::Publication;
use crosspark::storage::interceptor::Intercepted;
use crosspark::storage::memory::{Disk, MemoryStore};
use crosspark::storage::{Change, HoldingState, Maintenance, Store, Write};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub const A: usize = 0;
pub const B: usize = 1;

/// Created once, with the real program: an alliance, two parks with their keys, and a dataset published by park A.
struct Template {
    _alliance: Alliance,
    parks: [Park; 2],
    register: String,
    next_register: String,
    made: Timestamp,
    blobs: tempfile::TempDir,
    disks: [Disk; 2],
    dataset: OnceLock<DatasetId>,
}

static TEMPLATE: OnceLock<Arc<Template>> = OnceLock::new();

fn template() -> Arc<Template> {
    TEMPLATE.get_or_init(make_template).clone()
}

/// Creates the template of all worlds; must not be called from within a runtime.
pub fn prepare() {
    template();
}

fn make_template() -> Arc<Template> {
    let alliance = Alliance::new();
    let parks = alliance.parks(["park-a", "park-b"]);
    let register = alliance.register();
    alliance.command("renew", &parks[A]);
    let template = Arc::new(Template {
        register,
        next_register: alliance.register(),
        _alliance: alliance,
        parks,
        made: SystemClock.now(),
        blobs: tempfile::tempdir().unwrap(),
        disks: [Disk::default(), Disk::default()],
        dataset: OnceLock::new(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let dataset = runtime.block_on(async {
        for park in [A, B] {
            let register = VerifiedRegister::verify(&template.register, &root(&template)).unwrap();
            let (sequence, digest) = (register.body().sequence, register.digest());
            let write = Write::InstallRegister { sequence, digest, jws: template.register.clone() };
            let entry = Draft::new(Kind::RegisterInstalled, Facts::default(), &Chance::new(9));
            let store = open(&template, &template.disks[park], park, NodeClock::of_system());
            store.commit(Change::new(entry).write(write)).await.unwrap();
        }
        let disks = [template.disks[A].clone(), template.disks[B].clone()];
        let world = World::of(template.clone(), disks, 0, [Plan::Never, Plan::Never], 0, None);
        world.start(A).await;
        let dataset = world.publish().await.unwrap();
        copy_files(&world.received(A).join("own"), template.blobs.path());
        dataset
    });
    template.dataset.set(dataset).unwrap();
    template
}

fn root(template: &Template) -> crosspark::identity::root::VerifiedRoot {
    assembly::load_root(&template.parks[A].folder).unwrap()
}

fn open(template: &Template, disk: &Disk, park: usize, clock: Arc<NodeClock>) -> Arc<dyn Store> {
    let park = &template.parks[park];
    let key = assembly::signing_key(&park.folder, KeyUse::Log, &park.kek()).unwrap();
    let id: ParticipantId = park.id.parse().unwrap();
    Arc::new(MemoryStore::open(disk, id.log_origin(0), Arc::new(key), clock))
}

fn publication() -> Publication {
    Publication {
        title: Text::parse("Sample").unwrap(),
        description: String::new(),
        schema: "urn:crosspark:schema:economic-indicator".into(),
        policy: research(),
        format: Format::Ndjson,
        reading: Default::default(),
        mapping: None,
        dataset: None,
        about: Default::default(),
        quality: Detail::Bounds,
        skipped: 0,
    }
}

pub fn user() -> User {
    let text = |text: &str| Text::parse(text).unwrap();
    User {
        token: TokenId::parse("urn:uuid:user").unwrap(),
        role: UserRole::Requester,
        person: text("Li Hua"),
        enterprise: Some(text(ENTERPRISE)),
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Virtual time from tokio's paused clock.
struct VirtualClock(Timestamp, tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.plus_ms(self.1.elapsed().as_millis() as i64)
    }
}

/// The nodes that can currently be reached.
#[derive(Default)]
pub struct Net(Mutex<HashMap<ParticipantId, (Router, Arc<Life>)>>);

impl Net {
    fn put(&self, id: ParticipantId, router: Router, life: Arc<Life>) {
        self.0.lock().unwrap().insert(id, (router, life));
    }

    pub fn reach(&self, to: &ParticipantId) -> Option<(Router, Arc<Life>)> {
        self.0.lock().unwrap().get(to).filter(|(_, life)| !life.is_over()).cloned()
    }
}

struct Site {
    disk: Disk,
    received: tempfile::TempDir,
    controller: Arc<Controller>,
    random: Arc<Chance>,
    about: Connection,
}

/// A node and its current run.
type Alive = (Services, Arc<Life>);

/// The world of one seed.
pub struct World {
    template: Arc<Template>,
    clocks: [Arc<NodeClock>; 2],
    chance: Chance,
    net: Arc<Net>,
    faults: Arc<NetworkFaults>,
    sites: [Site; 2],
    alive: Mutex<[Option<Alive>; 2]>,
    decisions: OnceLock<Arc<dyn DecisionMaker>>,
}

impl World {
    /// A world with the write faults in `plans` and `network_faults` network faults.
    pub fn new(seed: u64, plans: [Plan; 2], network_faults: u32) -> Arc<Self> {
        let template = template();
        let disks = [template.disks[A].copy(), template.disks[B].copy()];
        Self::of(template, disks, seed, plans, network_faults, None)
    }

    /// A world without other faults, in which the provider's data plane sends wrong bytes.
    pub fn of_lies(lie: Lie) -> Arc<Self> {
        let template = template();
        let disks = [template.disks[A].copy(), template.disks[B].copy()];
        Self::of(template, disks, 1, [Plan::Never, Plan::Never], 0, Some(lie))
    }

    fn of(
        template: Arc<Template>,
        disks: [Disk; 2],
        seed: u64,
        plans: [Plan; 2],
        network_faults: u32,
        lie: Option<Lie>,
    ) -> Arc<Self> {
        let chance = Chance::new(seed);
        let mut of = template.parks.iter().zip(disks);
        let sites = plans.map(|plan| {
            let (park, disk) = of.next().unwrap();
            let received = tempfile::tempdir().unwrap();
            copy_files(template.blobs.path(), &received.path().join("own"));
            let pem = std::fs::read(park.folder.join("tls.pem")).unwrap();
            let der = CertificateDer::from_pem_slice(&pem).unwrap();
            Site {
                disk,
                received,
                controller: Arc::new(Controller { plan, writes: AtomicU32::new(0) }),
                random: Arc::new(Chance::new(chance.next())),
                about: Connection { presented: Some(Arc::new(Presented::parse(&der).unwrap())), address: None },
            }
        });
        let faults = NetworkFaults { lie, chance: Chance::new(chance.next()), left: AtomicU32::new(network_faults) };
        drop(of);
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(template.made, tokio::time::Instant::now()));
        Arc::new(Self {
            clocks: [(), ()].map(|()| Arc::new(NodeClock::new(clock.clone()))),
            template,
            chance,
            net: Arc::default(),
            faults: Arc::new(faults),
            sites,
            alive: Mutex::new([None, None]),
            decisions: OnceLock::new(),
        })
    }

    /// Replaces the decision maker of both parks; must be called before any node starts.
    pub fn decided_by(&self, who: Arc<dyn DecisionMaker>) {
        assert!(self.decisions.set(who).is_ok(), "must be called once, before any node starts");
    }

    /// Sends a message of park `from` to the DSP routes of the other park; returns the status.
    pub async fn send(&self, from: usize, path: &str, body: &Value) -> Option<u16> {
        SimPeer::deliver_raw(&self.net, &self.sites[from].about, &self.id(1 - from), path, body).await
    }

    /// The successor of the register that all nodes start with.
    pub fn next_register(&self) -> &str {
        &self.template.next_register
    }

    /// Waits until the node of a park runs, and returns it.
    pub async fn living(&self, park: usize) -> Services {
        loop {
            if let Some(node) = self.node(park) {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn dataset(&self) -> &DatasetId {
        self.template.dataset.get().unwrap()
    }

    pub fn id(&self, park: usize) -> ParticipantId {
        self.template.parks[park].id.parse().unwrap()
    }

    /// The store on a park's disk, whether its node runs or not.
    pub fn store(&self, park: usize) -> Arc<dyn Store> {
        open(&self.template, &self.sites[park].disk, park, self.clocks[park].clone())
    }

    pub fn node(&self, park: usize) -> Option<Services> {
        let alive = self.alive.lock().unwrap();
        alive[park].as_ref().filter(|(_, life)| !life.is_over()).map(|(node, _)| node.clone())
    }

    pub fn writes(&self, park: usize) -> u32 {
        self.sites[park].controller.writes.load(Ordering::SeqCst)
    }

    pub fn received(&self, park: usize) -> &Path {
        self.sites[park].received.path()
    }

    fn assemble(&self, park: usize, life: &Arc<Life>) -> Services {
        let (site, made) = (&self.sites[park], &self.template.parks[park]);
        let strikes = Strikes { controller: site.controller.clone(), life: life.clone() };
        let root = root(&self.template);
        let endpoint: crosspark::identity::endpoint::Endpoint = made.endpoint.parse().unwrap();
        let peer = SimPeer {
            own: endpoint.clone(),
            about: site.about.clone(),
            net: self.net.clone(),
            faults: self.faults.clone(),
            life: life.clone(),
        };
        let trust = Trust {
            register: VerifiedRegister::verify(&self.template.register, &root).unwrap(),
            roots: RootChain::new(root),
            quarantine: Default::default(),
        };
        let space = Arc::new(Space::new(site.received.path(), 0));
        Services::new(Parts {
            identity: Identity {
                participant: self.id(park),
                origin: self.id(park).log_origin(0),
                endpoint,
                document_key: Arc::new(DocumentKey::new(made.document_key())),
            },
            trust: TrustState::new(trust, Arc::default()),
            log_keys: Vec::new(),
            stores: Stores {
                store: Arc::new(Intercepted::new(self.store(park), strikes)),
                read_only: Arc::default(),
                space: space.clone(),
                published: Blobs::open(&site.received.path().join("own"), &space).unwrap(),
                received: Blobs::open(&site.received.path().join("received"), &space).unwrap(),
                index: Index::in_memory().unwrap(),
            },
            secrets: Secrets { kek: made.kek(), token_key: made.kek().token_key().clone() },
            ports: Ports {
                clock: self.clocks[park].clone(),
                random: site.random.clone(),
                peer: Arc::new(peer),
                decisions: self.decisions.get_or_init(|| Arc::new(PolicyDecides)).clone(),
            },
            schemas: SchemaRegistry::new(schema::built_in()),
            quotas: Quotas { writes_per_minute: 12_000, bytes_per_day: 1 << 30 },
            received_max: Default::default(),
            connections: Default::default(),
        })
    }

    /// Starts a node, and restarts it some time after each crash.
    pub async fn start(self: &Arc<Self>, park: usize) {
        let life = self.begin(park).await;
        let world = self.clone();
        tokio::spawn(async move {
            let mut life = life;
            loop {
                life.over().await;
                let pause = Duration::from_millis(10 + world.chance.below(20_000));
                tokio::time::sleep(pause).await;
                life = world.begin(park).await;
            }
        });
    }

    async fn begin(&self, park: usize) -> Arc<Life> {
        let life = Arc::new(Life::default());
        let node = self.assemble(park, &life);
        node.publishing.sweep(node.publishing.stored().unwrap()).await.unwrap();
        node.delivery.downloads.sweep(node.delivery.downloads.stored().unwrap()).await.unwrap();
        tokio::spawn(node.operations.outbox.clone().run());
        self.net.put(self.id(park), protocol::router(node.clone()), life.clone());
        self.alive.lock().unwrap()[park] = Some((node, life.clone()));
        life
    }

    pub async fn publish(&self) -> Result<DatasetId, crosspark::node::Error> {
        let source = std::io::Cursor::new(records(300).into_bytes());
        let published =
            self.node(A).unwrap().publishing.publish(&user(), publication(), Origin::Upload(None), source).await;
        published.map(|published| published.dataset)
    }

    /// Publishes a few records under a policy.
    pub async fn publish_under(&self, policy: Value) -> DatasetId {
        let source = std::io::Cursor::new(records(2).into_bytes());
        let publication = Publication { policy, ..publication() };
        self.living(A)
            .await
            .publishing
            .publish(&user(), publication, Origin::Upload(None), source)
            .await
            .unwrap()
            .dataset
    }

    pub async fn publish_once(&self, node: &Services, once: &IdempotencyKey) -> Result<(), crosspark::node::Error> {
        let source = std::io::Cursor::new(records(10).into_bytes());
        node.publishing.publish(&user(), publication(), Origin::Upload(Some(once)), source).await.map(drop)
    }

    /// Stops a node and waits until it runs again.
    pub async fn restart(&self, park: usize) {
        if let Some((_, life)) = self.alive.lock().unwrap()[park].as_ref() {
            life.end();
        }
        self.living(park).await;
    }

    /// Requests the dataset at park B until the request is stored, as a person or program would: after an error or a
    /// timeout, it first checks whether the request exists.
    pub async fn request(&self) -> ProcessId {
        let purpose = Text::parse("research").unwrap();
        loop {
            if let Some(own) = self.store(B).requests(&enterprise(), None, 1).await.unwrap().pop() {
                return own.id;
            }
            if let Some(node) = self.node(B) {
                let (user, provider) = (user(), self.id(A));
                let asked = node.contracts.requests.request(&user, &provider, self.dataset(), &purpose, None);
                let _ = tokio::time::timeout(Duration::from_secs(90), asked).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until no process is open and the outboxes are empty; returns the result of the request.
    pub async fn settle(&self, request: &ProcessId) -> (RequestStage, Option<String>) {
        for _ in 0..40_000 {
            let mut quiet = true;
            for park in [A, B] {
                let store = self.store(park);
                let (negotiations, transfers) = store.open_processes().await.unwrap();
                let (_, waiting) = store.outbox_next(self.clocks[park].now()).await.unwrap();
                quiet &= negotiations.is_empty() && transfers.is_empty() && waiting == 0;
            }
            if quiet && let Some(node) = self.node(B) {
                let view = node.contracts.requests.view(&user(), request).await.unwrap();
                return (view.stage, view.reason);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("processes or messages are still pending");
    }

    /// Checks the final state, which must not depend on the faults.
    pub async fn check(&self, delivered: u64) {
        let counted = |entries: &[Value], kind: &str| entries.iter().filter(|e| e["kind"] == kind).count() as u64;
        let (of_a, of_b) = (self.log(A).await, self.log(B).await);
        assert_eq!(counted(&of_a, "key.released"), delivered, "released");
        assert_eq!(counted(&of_a, "receipt.received"), delivered, "receipts");
        assert_eq!(counted(&of_b, "dataset.received"), delivered, "received");
        let agreements = of_a.iter().filter(|e| e["detail"]["state"] == "FINALIZED").count() as u64;
        assert_eq!(agreements, delivered, "agreements");
        for holding in self.store(B).holdings(100).await.unwrap() {
            assert_eq!(holding.state, HoldingState::Verified, "{:?}", holding.reason);
            let used = self.store(A).agreement(&holding.agreement).await.unwrap().unwrap().used;
            assert_eq!(used, 1, "counted once");
        }
        let kept = std::fs::read_dir(self.received(B).join("received")).unwrap().count() as u64;
        assert_eq!(kept, delivered + 1, "one file for each delivery, and the folder of parts");
        let parts = std::fs::read_dir(self.received(B).join("received/parts")).unwrap().count();
        assert_eq!(parts, 0, "leftover parts");
    }

    /// The entries of a park's log, verified against its checkpoint.
    pub async fn log(&self, park: usize) -> Vec<Value> {
        let (store, origin) = (self.store(park), self.id(park).log_origin(0));
        store.maintain(vec![Maintenance::Checkpoint]).await.unwrap();
        let note = store.checkpoint().await.unwrap().unwrap();
        let folder = &self.template.parks[park];
        let key = assembly::signing_key(&folder.folder, KeyUse::Log, &folder.kek()).unwrap();
        let checkpoint = Checkpoint::verify(&note, &origin, &[key.public()]).unwrap();
        let mut check = Check::new(origin, vec![Held { checkpoint, source: "own".into() }]);
        let rows = store.entries(0, 10_000).await.unwrap();
        for row in &rows {
            let id = row.entry["id"].as_str().unwrap().to_owned();
            let (leaf, salt) = (row.leaf.as_bytes().to_vec(), row.salt.to_vec());
            let body = json::to_canonical(&row.entry);
            check.row(&Row { index: row.index, id, leaf, salt, body, fields: row.fields.clone() });
        }
        let report = check.finish();
        assert!(report.is_good() && report.covered == report.entries, "{report:?}");
        rows.into_iter().map(|row| row.entry).collect()
    }
}

/// The enterprise of [`user`].
pub fn enterprise() -> Text {
    Text::parse(ENTERPRISE).unwrap()
}
