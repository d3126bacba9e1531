//! The log, for this node's auditors.

use super::{Answer, Paging, cursor, paging};
use crate::management::api::{Api, App, AppParts, Operation, json_of, query, text_of};
use crate::management::extract::Params;
use crate::management::schema::{self, shared_as};
use crate::management::user::AUDITOR;
use crate::node::Error;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

pub fn operations(api: Api, app: &AppParts) -> Api {
    let page = json_of(schema::page("entries", shared_as("Entry")));
    let from = query("from", schema::number(0, i64::MAX as u64), "Index of the first entry, where no cursor is given.");
    api.add(
        Operation::get("/v1/audit/entries", "listEntries", "Entries of the log with their openings.", AUDITOR, page)
            .with(paging())
            .with([from]),
        get(entries),
        app,
    )
    .add(
        Operation::get(
            "/v1/audit/checkpoint",
            "checkpoint",
            "The newest checkpoint; empty before the first.",
            AUDITOR,
            text_of("text/plain"),
        ),
        get(checkpoint),
        app,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    from: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

async fn entries(State(app): State<App>, Params(query): Params<EntriesQuery>) -> Answer {
    let page = Paging { after: query.after, limit: query.limit };
    let from = match query.from {
        Some(from) => from.parse().ok().filter(|from| i64::try_from(*from).is_ok()),
        None => Some(0),
    };
    let from: u64 = from.ok_or_else(|| Error::invalid("query", "`from` must be the index of an entry"))?;
    let (from, limit) = (page.after::<u64>()?.unwrap_or(from).min(i64::MAX as u64), page.limit()?);
    let found = app.services.evidence.entries(from, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| cursor(last.index + 1));
    let mut answer = json!({"entries": found});
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(Json(answer).into_response())
}

/// The newest checkpoint; what was counted is written into the log first.
async fn checkpoint(State(app): State<App>) -> Answer {
    app.services.evidence.flush_counted_refusals().await;
    let note = app.services.evidence.checkpoint().await?;
    Ok(note.unwrap_or_default().into_response())
}
