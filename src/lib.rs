//! crosspark: validated, signed, sealed datasets, exchanged between parks under policy, with evidence that anybody can
//! verify. ARCHITECTURE.md is the overview; each module below imports only modules above it.

pub mod core;
pub mod identity;
pub mod schema;
pub mod policy;
pub mod dataset;
pub mod mapping;
pub mod agreement;
pub mod negotiation;
pub mod transfer;
pub mod catalog;
pub mod audit;
// Modules above this line use no async runtime, file system, database or network.
pub mod durable;
pub mod keys;
pub mod ingest;
pub mod export;
pub mod source;
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
pub mod schemas;
pub mod discovery;
pub mod delivery;
pub mod contracts;
pub mod publishing;
pub mod sources;
pub mod subscriptions;
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
