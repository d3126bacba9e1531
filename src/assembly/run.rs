//! Running an assembled node: listeners, background work, graceful shutdown.

use super::assemble::Assembled;
use super::error::{AssemblyError, file_error};
use super::reload::{Reloader, follow_trust};
use super::{log_check, refresh};
use crate::core::limits;
use crate::net::server_config;
use crate::node::CountedRefusal;
use crate::server::{Rules, serve};
use crate::services::Services;
use crate::{management, protocol};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Binds `address`; connections are refused until [`listen`].
fn bind(address: SocketAddr) -> Result<TcpSocket, AssemblyError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.map_err(|error| file_error(Path::new(&format!("cannot listen on {address}")), error))
}

fn listen(socket: TcpSocket) -> Result<TcpListener, AssemblyError> {
    let listener = socket.listen(limits::CONNECTIONS_WAITING_MAX);
    listener.map_err(|error| file_error(Path::new("cannot listen"), error))
}

/// Rules of the peer listener.
fn peer_rules(services: &Services, acceptor: TlsAcceptor) -> Rules {
    let (counting, known, tokens) = (services.node.clone(), services.node.clone(), services.membership.clone());
    Rules {
        shed: Arc::new(move || counting.count_refusal(CountedRefusal::Shed)),
        tls: Some(acceptor),
        request_time_max: Some(limits::REQUEST_TIME_MAX),
        per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
        per_key_max: limits::CONNECTIONS_PER_MEMBER_MAX,
        in_flight_per_caller_max: limits::REQUESTS_PER_MEMBER_MAX,
        in_flight_unauthenticated_max: limits::REQUESTS_UNAUTHENTICATED_MAX,
        always: &[],
        connector: Arc::new(move |headers| tokens.connector_of(protocol::bearer_of(headers)?)),
        is_known: Arc::new(move |pin| known.trust().register.member_by_pin(pin, known.now()).is_some()),
        open: services.operations.health.peer_connections(),
    }
}

/// Rules of the management listener: its users belong to this park and share one address.
fn user_rules(peer_rules: &Rules) -> Rules {
    Rules {
        tls: None,
        connector: Arc::new(|_| None),
        request_time_max: None,
        per_address_max: limits::CONNECTIONS_MAX,
        in_flight_per_caller_max: limits::REQUESTS_IN_FLIGHT_MAX,
        in_flight_unauthenticated_max: limits::REQUESTS_IN_FLIGHT_MAX,
        always: &["/healthz", "/readyz", "/metrics"],
        open: Arc::default(),
        ..peer_rules.clone()
    }
}

impl Assembled {
    /// The handle that reloads configuration and keys while the node runs.
    pub fn reloader(&self) -> Reloader {
        let (services, active) = (self.services.clone(), self.active.clone());
        Reloader { services, active, config: Arc::new(self.config.clone()) }
    }

    /// Serves until `stop` becomes true, then finishes the requests in flight and signs a last checkpoint.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), AssemblyError> {
        // The ports are bound before the log is compared: a start that fails must not decide anything about a restored
        // folder. They listen only afterwards, so that no caller has to wait.
        let (peers, users) = (bind(self.config.peer.listen)?, bind(self.config.management.listen)?);
        log_check::compare_at_start(&self.services, &self.config.data).await;
        let (peers, users) = (listen(peers)?, listen(users)?);
        let services = self.services.clone();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(self.active.resolver.clone())?));
        let peer_rules = peer_rules(&services, acceptor);
        let user_rules = user_rules(&peer_rules);
        tracing::info!(
            participant = %self.config.participant, peers = %self.config.peer.listen,
            management = %self.config.management.listen, "ready"
        );
        let background = [
            tokio::spawn(log_check::work(services.clone(), self.config.data.clone())),
            tokio::spawn(refresh::refresh(services.clone(), self.active.alliance.clone())),
            tokio::spawn(follow_trust(services.clone(), self.active.clone())),
            tokio::spawn(refresh::keep_index(services.clone())),
            tokio::spawn(services.sources.clone().run()),
            tokio::spawn(refresh::keep_schemas(services.clone(), self.active.alliance.clone())),
            tokio::spawn({
                let membership = services.membership.clone();
                async move {
                    while let Some((peer, sequence)) = self.newer.recv().await {
                        membership.catch_up(&peer, sequence).await;
                    }
                }
            }),
        ];
        tokio::join!(
            serve(peers, protocol::router(services.clone()), peer_rules, stop.clone()),
            serve(users, management::router(services.clone(), stop.clone()), user_rules, stop),
        );
        background.iter().for_each(tokio::task::JoinHandle::abort);
        if let Err(error) = services.evidence.close().await {
            tracing::error!(%error, "the last checkpoint could not be signed");
        }
        tracing::info!("stopped");
        Ok(())
    }
}
