//! The trace id of the current task: set where work begins, used for calls to peers and outgoing messages.

use crate::core::trace::TraceId;
use std::future::Future;
use tracing::Instrument;

tokio::task_local! {
    static TRACE: TraceId;
}

/// The trace id of the current task.
pub fn current() -> Option<TraceId> {
    TRACE.try_with(|trace| *trace).ok()
}

/// Runs `work` with this trace id; its log lines carry the id.
pub async fn within<T>(trace: Option<TraceId>, work: impl Future<Output = T>) -> T {
    match trace {
        Some(trace) => TRACE.scope(trace, work.instrument(tracing::error_span!("", %trace))).await,
        None => work.await,
    }
}
