//! The log, for this node's auditors.

use crate::core::limits;
use crate::management::app::App;
use crate::management::inputs::Query;
use crate::management::outputs::{Body, Plain};
use crate::management::paging::{ROWS, cursor, number, read_cursor};
use crate::management::problem::Problem;
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use crate::storage::EntryRow;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn auditor(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Auditor] }
}

pub fn add(routes: Routes) -> Routes {
    routes
        .get(auditor("/v1/audit/entries", "listEntries", "Lists entries of the log with their openings."), entries)
        .get(
            auditor("/v1/audit/checkpoint", "getCheckpoint", "Returns the newest checkpoint; empty before the first."),
            checkpoint,
        )
}

/// The query of the log's entries.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    /// Index of the first entry, if no cursor is given.
    #[schemars(with = "Option<u64>", range(max = i64::MAX))]
    from: Option<String>,
    /// `next` of the previous page.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]*$"))]
    after: Option<String>,
    /// Rows per page; 100 by default.
    #[schemars(with = "Option<usize>", range(min = 1, max = limits::PAGE_ROWS_MAX))]
    limit: Option<String>,
}

/// A page of entries.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EntryPage {
    /// Entries by index.
    entries: Vec<EntryRow>,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn entries(State(app): State<App>, Query(query): Query<EntriesQuery>) -> Result<Json<EntryPage>, Problem> {
    let from = match query.from {
        Some(from) => from.parse().ok().filter(|from| i64::try_from(*from).is_ok()),
        None => Some(0),
    };
    let from: u64 = from.ok_or_else(|| Error::invalid("query", "`from` must be the index of an entry"))?;
    let after = query.after.as_deref().map(read_cursor::<u64>).transpose()?;
    let from = after.unwrap_or(from).min(i64::MAX as u64);
    let limit = number(query.limit.as_deref(), "limit", ROWS, 1..=limits::PAGE_ROWS_MAX)?;
    let entries = app.services.evidence.entries(from, limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|last| cursor(last.index + 1));
    Ok(Json(EntryPage { entries, next }))
}

/// Counted refusals are logged first, so that the checkpoint covers them.
async fn checkpoint(State(app): State<App>) -> Result<Body<Plain>, Problem> {
    app.services.evidence.flush_counted_refusals().await;
    Ok(Body::text(app.services.evidence.checkpoint().await?.unwrap_or_default()))
}
