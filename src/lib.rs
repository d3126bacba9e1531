//! crosspark: validated, signed, sealed datasets, exchanged between parks under policy, with evidence that needs
//! nobody's word. ARCHITECTURE.md is the map; the order of the modules below is the order of who may import whom.

pub mod core;
pub mod identity;
pub mod schema;
pub mod policy;
pub mod dataset;
pub mod agreement;
pub mod negotiation;
pub mod transfer;
pub mod catalog;
pub mod audit;
// Above this line nothing knows a runtime, a file system, a database or the network.
pub mod durable;
pub mod keys;
pub mod ingest;
pub mod storage;
pub mod index;
pub mod blob;
pub mod config;
pub mod telemetry;
pub mod net;
pub mod node;
pub mod idempotency;
pub mod evidence;
pub mod membership;
pub mod discovery;
pub mod delivery;
pub mod contracts;
pub mod publishing;
pub mod operations;
pub mod services;
pub mod protocol;
pub mod management;
pub mod server;
pub mod alliance;
pub mod assembly;
pub mod enrol;
pub mod backup;
pub mod cli;
