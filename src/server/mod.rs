//! Listeners: TLS, limits, graceful shutdown.

mod write_timeout;
mod permits;

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::identity::x509::Presented;
use crate::protocol::{Connection, Held, Presence};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use permits::{Caller, GuardedBody, InFlight, Overload, Permit, Permits};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use write_timeout::WriteTimeout;

/// Finds the connector whose token a request carries.
pub type ConnectorOf = Arc<dyn Fn(&HeaderMap) -> Option<ParticipantId> + Send + Sync>;

/// Settings of one listener.
#[derive(Clone)]
pub struct Rules {
    /// TLS; plain HTTP if none.
    pub tls: Option<TlsAcceptor>,
    /// Time limit from a request to the start of its response; none for listeners that accept publications.
    pub request_time_max: Option<Duration>,
    /// Connections from one address (IPv6: one /64) without a proven key of a member.
    pub per_address_max: usize,
    /// Connections with one client key.
    pub per_key_max: usize,
    /// Requests in flight per caller.
    pub in_flight_per_caller_max: usize,
    /// Requests in flight of all unauthenticated callers together.
    pub in_flight_unauthenticated_max: usize,
    /// Paths that are served even if all other requests in flight are taken.
    pub always: &'static [&'static str],
    /// Whether this key is a member's. Keys alone are no basis for limits, since anyone can create any number of them.
    pub is_known: Arc<dyn Fn(&Digest) -> bool + Send + Sync>,
    /// The connector whose token a request carries, if any.
    pub connector: ConnectorOf,
    /// Called for every connection or request that is rejected before it reaches a handler.
    pub shed: Arc<dyn Fn() + Send + Sync>,
    /// Number of open connections, for metrics.
    pub open: Arc<AtomicU64>,
}

/// State shared by all connections of one listener.
#[derive(Clone)]
struct ListenerState {
    router: Router,
    rules: Rules,
    stop: watch::Receiver<bool>,
    permits: Arc<Semaphore>,
    keys: Permits<Caller>,
    in_flight: InFlight,
    /// Requests in flight for the paths that are always served.
    always: InFlight,
    idle_shedding: Arc<IdleShedding>,
}

/// Signals idle connections to close when few permits are left.
struct IdleShedding {
    times: watch::Sender<u64>,
    signalled: Mutex<Instant>,
}

impl IdleShedding {
    fn signal(&self) {
        let mut signalled = self.signalled.lock().unwrap_or_else(PoisonError::into_inner);
        if signalled.elapsed() > limits::IDLE_SHED_INTERVAL {
            *signalled = Instant::now();
            self.times.send_modify(|times| *times += 1);
        }
    }
}

/// Accepts connections until `stop` becomes true, then lets requests in flight finish within
/// [`limits::DRAIN_TIME_MAX`].
pub async fn serve(listener: TcpListener, router: Router, rules: Rules, mut stop: watch::Receiver<bool>) {
    let silent = Arc::new(Semaphore::new(limits::CONNECTIONS_SILENT_MAX));
    let addresses = Permits::default();
    let state = ListenerState {
        router,
        permits: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)),
        in_flight: InFlight::new(
            limits::REQUESTS_IN_FLIGHT_MAX,
            rules.in_flight_unauthenticated_max,
            rules.in_flight_per_caller_max,
        ),
        always: InFlight::new(limits::REQUESTS_ALWAYS_MAX, limits::REQUESTS_ALWAYS_MAX, limits::REQUESTS_ALWAYS_MAX),
        rules,
        stop: stop.clone(),
        keys: Permits::default(),
        idle_shedding: Arc::new(IdleShedding { times: watch::Sender::new(0), signalled: Mutex::new(Instant::now()) }),
    };
    let mut connections = JoinSet::new();
    loop {
        // When all permits are taken, new connections wait in the kernel's queue.
        let next = async {
            let unread = silent.clone().acquire_owned().await;
            (unread, listener.accept().await)
        };
        let (unread, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(unread) = unread else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Probably out of file descriptors: a pause lets other connections finish.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(of_address) = addresses.take(&Caller::at(address.ip()), state.rules.per_address_max) else {
            (state.rules.shed)();
            continue;
        };
        let state = state.clone();
        connections.spawn(async move {
            state.rules.open.fetch_add(1, Ordering::Relaxed);
            if let Some(_permit) = first_byte(&stream, &state).await {
                drop(unread);
                connection(stream, address, of_address, &state).await;
            } else {
                (state.rules.shed)();
            }
            state.rules.open.fetch_sub(1, Ordering::Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("the time limit for shutdown has passed; the remaining connections are closed");
    }
}

/// Waits for the first byte from the peer and then for a permit.
async fn first_byte(stream: &TcpStream, state: &ListenerState) -> Option<OwnedSemaphorePermit> {
    let mut stop = state.stop.clone();
    let mut first = [0; 1];
    let said = tokio::select! {
        said = tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, stream.peek(&mut first)) => said,
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    if !matches!(said, Ok(Ok(1..))) {
        return None;
    }
    if state.permits.available_permits() < limits::CONNECTIONS_MAX / 4 {
        state.idle_shedding.signal();
    }
    let permit = state.permits.clone().acquire_owned();
    tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, permit).await.ok()?.ok()
}

async fn connection(stream: TcpStream, address: SocketAddr, permit: Permit<Caller>, state: &ListenerState) {
    // Small responses are sent without delay.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &state.rules.tls else {
        let about = Connection { presented: None, address: Some(address) };
        return requests(stream, Caller::at(address.ip()), about, state, permit).await;
    };
    match tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let presented = certificates.and_then(|der| Presented::parse(der).ok()).map(Arc::new);
            let known = presented.as_ref().map(|presented| presented.pin()).filter(|pin| (state.rules.is_known)(pin));
            // Connections of members are counted by key, others by address: several members may share one address.
            let (caller, permit) = match known {
                None => (Caller::at(address.ip()), Some(permit)),
                Some(pin) => {
                    drop(permit);
                    let member = Caller::Key(pin);
                    let permit = state.keys.take(&member, state.rules.per_key_max);
                    (member, permit)
                }
            };
            let Some(permit) = permit else {
                return (state.rules.shed)();
            };
            let about = Connection { presented, address: Some(address) };
            requests(stream, caller, about, state, permit).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            (state.rules.shed)();
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            (state.rules.shed)();
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    caller: Caller,
    about: Connection,
    state: &ListenerState,
    _permit: Permit<Caller>,
) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let (counted, serving, address) = (under_way.clone(), state.clone(), about.address);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(about.clone());
        let (state, caller, busy) = (serving.clone(), caller.clone(), Busy::new(&counted));
        async move { respond(&state, &caller, request.map(Body::new), busy).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIME_MAX)
        .max_headers(100)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream)), service);
    let mut serving = std::pin::pin!(serving);
    let (mut stop, mut scarce, opened) = (state.stop.clone(), state.idle_shedding.times.subscribe(), Instant::now());
    let room_needed = async {
        while scarce.changed().await.is_ok() {
            // A new connection gets this long to send its first request.
            if under_way.load(Ordering::SeqCst) == 0 && opened.elapsed() > limits::IDLE_SHED_INTERVAL {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = serving.as_mut() => return log_end(address, ended),
        () = room_needed => (state.rules.shed)(),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    log_end(address, serving.await);
}

/// Why a connection was closed, if not by the peer between two requests.
fn log_end(address: Option<SocketAddr>, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(?address, error = &error as &dyn std::error::Error, "connection closed");
    }
}

/// A request in flight on a connection, from its head to the last byte of its response.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn respond(
    state: &ListenerState,
    caller: &Caller,
    mut request: Request<Body>,
    busy: Busy,
) -> Result<Response<Body>, Infallible> {
    // Whoever watches the node must see that it is busy.
    let in_flight = if state.rules.always.contains(&request.uri().path()) { &state.always } else { &state.in_flight };
    // A connector that proves itself by a token has permits of its own, which a flood of other callers does not take.
    let unknown = matches!(caller, Caller::Network(_));
    let connector = if unknown { (state.rules.connector)(request.headers()) } else { None };
    let taken = in_flight.take(&connector.map_or_else(|| caller.clone(), Caller::Connector));
    let request_permit = match taken {
        Ok(request_permit) => Arc::new(request_permit),
        Err(full) => {
            (state.rules.shed)();
            return Ok(match full {
                Overload::Caller => turned_away(StatusCode::TOO_MANY_REQUESTS, "you have too many requests in flight"),
                Overload::Node => turned_away(StatusCode::SERVICE_UNAVAILABLE, "the node is overloaded"),
            });
        }
    };
    // The handler runs in a separate task: a disconnect or a timeout abandons the response, never the work between a
    // commit and its follow-up. The task keeps its permit until it ends.
    let (router, working) = (state.router.clone(), request_permit.clone());
    // Dropped with this future when the caller hangs up.
    let (_present, presence) = watch::channel(());
    request.extensions_mut().insert(Presence(Some(presence)));
    let work = tokio::spawn(async move {
        let answer = router.oneshot(request).await;
        drop(working);
        answer
    });
    let answer = match state.rules.request_time_max {
        Some(time_max) => tokio::time::timeout(time_max, work).await,
        None => Ok(work.await),
    };
    match answer {
        Ok(Ok(Ok(mut answer))) => {
            let held = answer.extensions_mut().remove::<Held>();
            Ok(answer.map(|body| GuardedBody::body(body, (request_permit, busy, held))))
        }
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(error)) => {
            tracing::error!(%error, "a request handler failed");
            Ok(turned_away(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        }
        Err(_) => {
            (state.rules.shed)();
            Ok(turned_away(StatusCode::REQUEST_TIMEOUT, "the request took too long"))
        }
    }
}

/// A problem document (RFC 9457) for a request that did not reach a handler or whose handler failed.
fn turned_away(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default().to_lowercase().replace(' ', "-");
    let problem = serde_json::json!({"title": title, "status": status.as_u16(), "detail": detail});
    let mut answer = Response::new(Body::from(problem.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from(limits::RETRY_AFTER_SECONDS));
    }
    answer
}
