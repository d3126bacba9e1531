//! Shared state of the handlers of the peer listener.

use crate::identity::x509::Presented;
use crate::services::Services;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// State of the handlers.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Services,
    /// Permits to read offered registers, which are large.
    pub register_permits: Arc<Semaphore>,
}

/// The connection of a request; the listener puts it into the request's extensions.
#[derive(Clone, Default)]
pub struct Connection {
    /// Client certificate, with proof of its key, if there is one.
    pub presented: Option<Arc<Presented>>,
    /// Remote address.
    pub address: Option<SocketAddr>,
}
