//! Refusals of uploads that have not arrived completely. A server that closes a connection with unread data makes the
//! caller's system discard the response, so the rest of the body is read and discarded for a while after the response.

use crate::core::limits;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Middleware: lets bodies linger.
pub async fn linger(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(Lingering(Some(body))))).await
}

/// A body whose unread rest is read in the background when it is dropped.
struct Lingering(Option<Body>);

impl http_body::Body for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (Some(body), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        if !body.is_end_stream() {
            runtime.spawn(tokio::time::timeout(limits::LINGER_TIME_MAX, discard(body)));
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
