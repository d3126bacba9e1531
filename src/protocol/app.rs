//! Shared state of the handlers of the peer listener.

use crate::identity::x509::Presented;
use crate::node::Place;
use crate::services::Services;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// State of the handlers.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Services,
    /// Permits to read offered registers, which are large.
    pub register_permits: Arc<Semaphore>,
}

/// Whether the caller still waits for the response; the listener puts it into the request's extensions.
#[derive(Clone, Default)]
pub struct Presence(pub Option<watch::Receiver<()>>);

impl Presence {
    /// Completes when the caller has hung up.
    pub async fn gone(self) {
        match self.0 {
            Some(mut here) => while here.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }
}

/// What a request holds until its response is sent; a handler puts it into the response's extensions.
#[derive(Clone)]
pub struct Held(pub Arc<Place>);

/// The connection of a request; the listener puts it into the request's extensions.
#[derive(Clone, Default)]
pub struct Connection {
    /// Client certificate, with proof of its key, if there is one.
    pub presented: Option<Arc<Presented>>,
    /// Remote address.
    pub address: Option<SocketAddr>,
}
