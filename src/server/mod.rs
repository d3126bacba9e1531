//! Listeners: TLS, limits, graceful shutdown.

mod paced;
mod places;

use crate::core::digest::Digest;
use crate::core::limits;
use crate::identity::x509::Presented;
use crate::protocol::Connection;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use paced::Paced;
use places::{Caller, Flights, Full, Holding, Place, Places};
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

/// How one listener serves.
#[derive(Clone)]
pub struct Rules {
    /// TLS; plain without.
    pub tls: Option<TlsAcceptor>,
    /// Time for a request until its answer begins; none for listeners that take publications.
    pub request_time_max: Option<Duration>,
    /// Connections of one address (IPv6: of one /64) that no known key was proven for.
    pub per_address_max: usize,
    /// Connections with one client key.
    pub per_key_max: usize,
    /// Requests in flight of one caller.
    pub in_flight_per_caller_max: usize,
    /// Requests in flight of all callers together that have no known key.
    pub in_flight_strangers_max: usize,
    /// Whether a member has this key: anybody can make a key, and as many as they like.
    pub is_known: Arc<dyn Fn(&Digest) -> bool + Send + Sync>,
    /// Told of every connection or request that was turned away before any handler saw it.
    pub shed: Arc<dyn Fn() + Send + Sync>,
    /// Connections that are open, for whoever watches.
    pub open: Arc<AtomicU64>,
}

/// What all connections of one listener share.
#[derive(Clone)]
struct House {
    router: Router,
    rules: Rules,
    stop: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    keys: Places<Caller>,
    flights: Flights,
    scarcity: Arc<Scarcity>,
}

/// Tells connections without a request to make room, when places are few.
struct Scarcity {
    times: watch::Sender<u64>,
    told: Mutex<Instant>,
}

impl Scarcity {
    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() > limits::SCARCITY_EVERY {
            *told = Instant::now();
            self.times.send_modify(|times| *times += 1);
        }
    }
}

/// Accepts connections until `stop` turns true, then lets requests in flight finish within
/// [`limits::DRAIN_TIME_MAX`].
pub async fn serve(listener: TcpListener, router: Router, rules: Rules, mut stop: watch::Receiver<bool>) {
    let silent = Arc::new(Semaphore::new(limits::SILENT_CONNECTIONS_MAX));
    let addresses = Places::default();
    let house = House {
        router,
        places: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)),
        flights: Flights::new(
            limits::REQUESTS_IN_FLIGHT_MAX,
            rules.in_flight_strangers_max,
            rules.in_flight_per_caller_max,
        ),
        rules,
        stop: stop.clone(),
        keys: Places::default(),
        scarcity: Arc::new(Scarcity { times: watch::Sender::new(0), told: Mutex::new(Instant::now()) }),
    };
    let mut connections = JoinSet::new();
    loop {
        // A full house waits in the kernel's queue.
        let next = async {
            let permit = silent.clone().acquire_owned().await;
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
        let Some(place) = addresses.take(&Caller::at(address.ip()), house.rules.per_address_max) else {
            (house.rules.shed)();
            continue;
        };
        let house = house.clone();
        connections.spawn(async move {
            house.rules.open.fetch_add(1, Ordering::Relaxed);
            if let Some(_place) = speaks(&stream, &house).await {
                drop(permit);
                connection(stream, address, place, &house).await;
            } else {
                (house.rules.shed)();
            }
            house.rules.open.fetch_sub(1, Ordering::Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("connections were cut after the time for finishing was over");
    }
}

/// Waits until the other end says something, and then for a place.
async fn speaks(stream: &TcpStream, house: &House) -> Option<OwnedSemaphorePermit> {
    let mut stop = house.stop.clone();
    let mut first = [0; 1];
    let said = tokio::select! {
        said = tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, stream.peek(&mut first)) => said,
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    if !matches!(said, Ok(Ok(1..))) {
        return None;
    }
    if house.places.available_permits() < limits::CONNECTIONS_MAX / 4 {
        house.scarcity.tell();
    }
    let place = house.places.clone().acquire_owned();
    tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, place).await.ok()?.ok()
}

async fn connection(stream: TcpStream, address: SocketAddr, place: Place<Caller>, house: &House) {
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &house.rules.tls else {
        let about = Connection { presented: None, address: Some(address) };
        return requests(stream, Caller::at(address.ip()), about, house, place).await;
    };
    match tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let presented = certificates.and_then(|der| Presented::parse(der).ok()).map(Arc::new);
            let known = presented.as_ref().map(|presented| presented.pin()).filter(|pin| (house.rules.is_known)(pin));
            // A member's connections are counted by its key, those of strangers by their address: several members may be
            // behind one address.
            let (caller, place) = match known {
                None => (Caller::at(address.ip()), Some(place)),
                Some(pin) => {
                    drop(place);
                    let member = Caller::Key(pin);
                    let place = house.keys.take(&member, house.rules.per_key_max);
                    (member, place)
                }
            };
            let Some(place) = place else {
                return (house.rules.shed)();
            };
            let about = Connection { presented, address: Some(address) };
            requests(stream, caller, about, house, place).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            (house.rules.shed)();
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            (house.rules.shed)();
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    caller: Caller,
    about: Connection,
    house: &House,
    _place: Place<Caller>,
) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let (counted, serving) = (under_way.clone(), house.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(about.clone());
        let (house, caller, busy) = (serving.clone(), caller.clone(), Busy::new(&counted));
        async move { respond(&house, &caller, request.map(Body::new), busy).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIME_MAX)
        .max_headers(100)
        .serve_connection(TokioIo::new(Paced::new(stream)), service);
    let mut serving = std::pin::pin!(serving);
    let (mut stop, mut scarce, opened) = (house.stop.clone(), house.scarcity.times.subscribe(), Instant::now());
    let room_needed = async {
        while scarce.changed().await.is_ok() {
            // A newcomer gets the time to say what it wants.
            if under_way.load(Ordering::SeqCst) == 0 && opened.elapsed() > limits::SCARCITY_EVERY {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        _ = serving.as_mut() => return,
        () = room_needed => (house.rules.shed)(),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

/// A request of a connection, from its head to the last byte of its answer.
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
    house: &House,
    caller: &Caller,
    request: Request<Body>,
    busy: Busy,
) -> Result<Response<Body>, Infallible> {
    let flight = match house.flights.take(caller) {
        Ok(flight) => Arc::new(flight),
        Err(full) => {
            (house.rules.shed)();
            return Ok(match full {
                Full::Caller => turned_away(StatusCode::TOO_MANY_REQUESTS, "you have too many requests in flight"),
                Full::House => turned_away(StatusCode::SERVICE_UNAVAILABLE, "the node is busy"),
            });
        }
    };
    // A task of its own: a caller that hangs up, or a time that is over, abandons the answer and never the work
    // between a commit and what follows it. As long as there is work, it has its place.
    let (router, working) = (house.router.clone(), flight.clone());
    let work = tokio::spawn(async move {
        let answer = router.oneshot(request).await;
        drop(working);
        answer
    });
    let answer = match house.rules.request_time_max {
        Some(time_max) => tokio::time::timeout(time_max, work).await,
        None => Ok(work.await),
    };
    match answer {
        Ok(Ok(Ok(answer))) => Ok(answer.map(|body| Holding::body(body, (flight, busy)))),
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(error)) => {
            tracing::error!(%error, "a request's handler failed");
            Ok(turned_away(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        }
        Err(_) => {
            (house.rules.shed)();
            Ok(turned_away(StatusCode::REQUEST_TIMEOUT, "the request took too long"))
        }
    }
}

/// An answer that no handler made (RFC 9457).
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
