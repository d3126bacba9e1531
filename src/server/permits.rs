//! Limits on connections and requests in flight, in total and per caller.

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whom a limit applies to: a member with a proven key, otherwise a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Pin of a member's TLS key.
    Key(Digest),
    /// A connector that proves itself by a token in each request.
    Connector(ParticipantId),
    /// IPv4 address, or IPv6 /64, since one caller usually controls the whole /64.
    Network(IpAddr),
}

impl Caller {
    /// The caller at an address.
    pub fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
            v4 => v4,
        })
    }
}

/// Counts permits by holder.
#[derive(Debug)]
pub struct Permits<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Clone for Permits<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Permits<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A permit, returned when it is dropped.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    permits: Permits<K>,
    of: K,
}

impl<K: Eq + Hash + Clone> Permits<K> {
    /// A permit for `of`, if it holds fewer than `max`.
    pub fn take(&self, of: &K, max: usize) -> Option<Permit<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Permit { permits: self.clone(), of: of.clone() })
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut counts = self.permits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// Requests in flight, from their head to the last byte of their response.
#[derive(Debug, Clone)]
pub struct InFlight {
    all: Arc<Semaphore>,
    /// Permits of unauthenticated callers, which must leave room for members.
    unauthenticated: Arc<Semaphore>,
    by_caller: Permits<Caller>,
    per_caller_max: usize,
}

/// Why a request gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// The caller has too many requests in flight: 429.
    Caller,
    /// All callers together have too many requests in flight: 503.
    Node,
}

/// Permit of a request in flight.
#[derive(Debug)]
pub struct InFlightPermit {
    _of: Permit<Caller>,
    _among_unauthenticated: Option<OwnedSemaphorePermit>,
    _in_all: OwnedSemaphorePermit,
}

impl InFlight {
    /// Limits in total, for all unauthenticated callers together, and per caller.
    pub fn new(max: usize, unauthenticated_max: usize, per_caller_max: usize) -> Self {
        let permits = |max: usize| Arc::new(Semaphore::new(max));
        Self {
            all: permits(max),
            unauthenticated: permits(unauthenticated_max),
            by_caller: Permits::default(),
            per_caller_max,
        }
    }

    /// A permit for a request.
    pub fn take(&self, caller: &Caller) -> Result<InFlightPermit, Overload> {
        let of = self.by_caller.take(caller, self.per_caller_max).ok_or(Overload::Caller)?;
        let unauthenticated = matches!(caller, Caller::Network(_));
        let unauthenticated = unauthenticated.then(|| self.unauthenticated.clone().try_acquire_owned()).transpose();
        let among_unauthenticated = unauthenticated.map_err(|_| Overload::Node)?;
        let in_all = self.all.clone().try_acquire_owned().map_err(|_| Overload::Node)?;
        Ok(InFlightPermit { _of: of, _among_unauthenticated: among_unauthenticated, _in_all: in_all })
    }
}

/// A response body that keeps `held` until it is sent or dropped.
pub struct GuardedBody<T> {
    body: Body,
    _held: T,
}

impl<T: Send + Unpin + 'static> GuardedBody<T> {
    /// Wraps `body`.
    pub fn body(body: Body, held: T) -> Body {
        Body::new(Self { body, _held: held }.boxed_unsync())
    }
}

impl<T: Unpin> HttpBody for GuardedBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let in_flight = InFlight::new(3, 3, 2);
        let (a, b) = (Caller::at([10, 0, 0, 1].into()), Caller::at([10, 0, 0, 2].into()));
        let first = in_flight.take(&a).unwrap();
        let second = in_flight.take(&a).unwrap();
        assert_eq!(in_flight.take(&a).unwrap_err(), Overload::Caller);
        let third = in_flight.take(&b).unwrap();
        assert_eq!(in_flight.take(&b).unwrap_err(), Overload::Node);
        drop(first);
        drop(in_flight.take(&b).unwrap());
        drop((second, third));
        assert!(in_flight.by_caller.0.lock().unwrap().is_empty());
    }

    #[test]
    fn unauthenticated_callers_leave_room_for_members() {
        let in_flight = InFlight::new(10, 1, 5);
        let unauthenticated = in_flight.take(&Caller::at([10, 0, 0, 1].into())).unwrap();
        assert_eq!(in_flight.take(&Caller::at([10, 0, 0, 2].into())).unwrap_err(), Overload::Node);
        assert!(in_flight.take(&Caller::Key(Digest::of(b"member"))).is_ok());
        let connector = ParticipantId::parse("did:web:edc.example").unwrap();
        assert!(in_flight.take(&Caller::Connector(connector)).is_ok());
        drop(unauthenticated);
        assert!(in_flight.take(&Caller::at([10, 0, 0, 2].into())).is_ok());
    }

    #[test]
    fn one_network_is_one_caller() {
        let of = |text: &str| Caller::at(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:1::5"), of("2001:db8:0:1:ffff::"));
        assert_ne!(of("2001:db8:0:1::5"), of("2001:db8:0:2::5"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
