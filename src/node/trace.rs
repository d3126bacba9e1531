//! The trace that the present task belongs to: set where work begins, found wherever it calls a peer or sends a message.

use crate::core::trace::TraceId;
use std::future::Future;
use tracing::Instrument;

tokio::task_local! {
    static TRACE: TraceId;
}

/// The trace of the present task.
pub fn current() -> Option<TraceId> {
    TRACE.try_with(|trace| *trace).ok()
}

/// Does `work` as part of `trace`; its log lines carry the id.
pub async fn within<T>(trace: Option<TraceId>, work: impl Future<Output = T>) -> T {
    match trace {
        Some(trace) => TRACE.scope(trace, work.instrument(tracing::error_span!("", %trace))).await,
        None => work.await,
    }
}
