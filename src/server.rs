//! Listeners: TLS, limits, graceful shutdown.

use crate::core::limits;
use crate::identity::x509::Presented;
use crate::protocol::Connection;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// How one listener serves.
#[derive(Clone)]
pub struct Rules {
    /// TLS; plain without.
    pub tls: Option<TlsAcceptor>,
    /// Time for a request until its answer begins; none for listeners that take publications.
    pub request_time_max: Option<Duration>,
    /// Connections of one address (IPv6: of one /64).
    pub per_address_max: usize,
    /// Told of every connection or request that was turned away before any handler saw it.
    pub shed: Arc<dyn Fn() + Send + Sync>,
}

/// Counts connections by address; the guard gives its place back.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn take(&self, address: IpAddr, max: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Accepts connections until `stop` turns true, then lets requests in flight finish within
/// [`limits::DRAIN_TIME_MAX`].
pub async fn serve(listener: TcpListener, router: Router, rules: Rules, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let addresses = Addresses::default();
    let mut connections = JoinSet::new();
    loop {
        // A full house waits in the kernel's queue.
        let next = async {
            let permit = places.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(permit) = permit else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, say: a pause lets others finish.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = addresses.take(network(address.ip()), rules.per_address_max) else {
            (rules.shed)();
            continue;
        };
        let (router, rules, stop) = (router.clone(), rules.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, address, router, rules, stop).await;
            drop((permit, place));
        });
        while connections.try_join_next().is_some() {}
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("connections were cut after the time for finishing was over");
    }
}

/// What counts as one address: in IPv6, whoever has one has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, router: Router, rules: Rules, stop: watch::Receiver<bool>) {
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &rules.tls else {
        let about = Connection { presented: None, address: Some(address) };
        return requests(stream, router, about, rules, stop).await;
    };
    match tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let presented = certificates.and_then(|der| Presented::parse(der).ok()).map(Arc::new);
            let about = Connection { presented, address: Some(address) };
            requests(stream, router, about, rules.clone(), stop).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            (rules.shed)();
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            (rules.shed)();
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    about: Connection,
    rules: Rules,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(about.clone());
        let (router, shed) = (router.clone(), rules.shed.clone());
        async move { respond(router, request.map(Body::new), rules.request_time_max, shed.as_ref()).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIME_MAX)
        .max_headers(100)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn respond(
    router: Router,
    request: Request<Body>,
    time_max: Option<Duration>,
    shed: &(dyn Fn() + Send + Sync),
) -> Result<Response<Body>, Infallible> {
    // A task of its own: a caller that hangs up, or a time that is over, abandons the answer and never the work
    // between a commit and what follows it.
    let work = tokio::spawn(router.oneshot(request));
    let answer = match time_max {
        Some(time_max) => tokio::time::timeout(time_max, work).await,
        None => Ok(work.await),
    };
    match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::error!(%error, "a request's handler failed");
            let mut failed = Response::new(Body::from("internal error"));
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(failed)
        }
        Err(_) => {
            shed();
            let mut late = Response::new(Body::from("the request took too long"));
            *late.status_mut() = StatusCode::REQUEST_TIMEOUT;
            Ok(late)
        }
    }
}
