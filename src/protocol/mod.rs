//! The Dataspace Protocol 2025-1 over HTTPS, and the crosspark data plane: wire messages, server routes, client.

mod app;
mod client;
mod dataplane;
mod guard;
mod linger;
mod routes;
mod wire;

pub use app::{Connection, Held, Presence};
pub use client::HttpPeer;
pub use guard::bearer_of;
pub use linger::linger;
pub use routes::router;
pub use wire::{BASE, Incoming, outgoing as wire_message};

/// Header of W3C Trace Context.
pub const TRACE_HEADER: &str = "traceparent";
/// Header in which both sides state the sequence number of their register.
pub const REGISTER_HEADER: &str = "crosspark-register";
/// Header with the statement of the member in whose namespace a served schema is.
pub const STATEMENT_HEADER: &str = "crosspark-statement";
