//! Refusals of uploads that have not arrived completely. A server that closes a connection with unread data makes the
//! caller's system discard the response, so the rest of the body is read and discarded for a while after the response.

use crate::core::limits;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;

/// Middleware: lets bodies linger, a few at the same time.
pub async fn linger(State(permits): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Who waits for permission to send the body (RFC 9110 section 10.1.1) has not sent it.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    next.run(request.map(|body| Body::new(Lingering { body: Some(body), permits }))).await
}

/// A body whose unread rest is read in the background when it is dropped.
struct Lingering {
    body: Option<Body>,
    permits: Arc<Semaphore>,
}

impl http_body::Body for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (Some(body), Ok(runtime)) = (self.body.take(), tokio::runtime::Handle::try_current()) else { return };
        if let (false, Ok(permit)) = (body.is_end_stream(), self.permits.clone().try_acquire_owned()) {
            runtime.spawn(async move {
                let _permit = permit;
                let _ = tokio::time::timeout(limits::LINGER_TIME_MAX, discard(body)).await;
            });
        }
    }
}

async fn discard(mut body: Body) {
    let mut left = limits::LINGER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
