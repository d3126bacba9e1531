//! Searching what all peers let this node see.

use super::{Answer, cursor};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::identity::key::from_base64url;
use crate::index::{Fresh, Query, Sort};
use crate::management::api::{Api, App, AppParts, Operation, json_of, query};
use crate::management::extract::Params;
use crate::management::schema::{self, by_name, count, flag, list, object, one_of, or_null, shared_as, text, time};
use crate::management::user::{ADMIN, REQUESTER};
use crate::node::Error;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

pub fn operations(api: Api, app: &AppParts) -> Api {
    let hit = object(&[
        ("participant", schema::participant()),
        ("seen", time()),
        ("stale_since", or_null(time())),
        ("offered", shared_as("Dataset")),
    ]);
    let value = object(&[("value", text()), ("count", count())]);
    let words = || json!({"type": "string", "maxLength": limits::SEARCH_CHARS_MAX});
    let mut page = schema::page("datasets", hit);
    for (name, schema) in [("total", count()), ("more", flag()), ("facets", by_name(list(value)))] {
        page["properties"][name] = schema;
    }
    let fresh: Vec<&str> = Fresh::ALL.map(Fresh::name).to_vec();
    api.add(
        Operation::get(
            "/v1/search",
            "search",
            "Searches what all peers let this node see: words (Chinese, too), facets, order.",
            REQUESTER | ADMIN,
            json_of(page),
        )
        .with([
            query("q", words(), "Words; all must be there."),
            query("park", schema::participant(), "Only of this park."),
            query("schema", words(), "Only under the schema with this `$id`."),
            query("theme", words(), "Only of this sector."),
            query("fresh", one_of(&fresh), "Not older than this."),
            query("sort", one_of(&["relevance", "newest", "title"]), "Order; `relevance` without."),
            query("after", schema::bytes(), "`next` of the page before."),
            query("limit", schema::number(1, limits::PAGE_ROWS_MAX as u64), "Rows of a page; 20 without."),
        ]),
        get(search),
        app,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    #[serde(default)]
    q: String,
    park: Option<ParticipantId>,
    schema: Option<String>,
    theme: Option<String>,
    fresh: Option<Fresh>,
    #[serde(default)]
    sort: Sort,
    after: Option<String>,
    limit: Option<String>,
}

fn number(
    text: Option<&str>,
    usual: usize,
    range: std::ops::RangeInclusive<usize>,
    name: &str,
) -> Result<usize, Error> {
    let Some(text) = text else { return Ok(usual) };
    let wrong = || Error::invalid("query", format!("`{name}` must be from {} to {}", range.start(), range.end()));
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

async fn search(State(app): State<App>, Params(wanted): Params<SearchQuery>) -> Answer {
    let after = match &wanted.after {
        None => None,
        Some(cursor) => {
            let text = from_base64url(cursor).and_then(|bytes| String::from_utf8(bytes).ok());
            Some(text.ok_or_else(|| Error::invalid("query", "`after` is no cursor of this listing"))?)
        }
    };
    let offset = number(after.as_deref(), 0, 0..=limits::SEARCH_OFFSET_MAX, "after")?;
    let limit = number(wanted.limit.as_deref(), 20, 1..=limits::PAGE_ROWS_MAX, "limit")?;
    let query = Query {
        words: wanted.q,
        park: wanted.park,
        schema: wanted.schema,
        theme: wanted.theme,
        fresh: wanted.fresh,
        sort: wanted.sort,
        offset,
        limit,
    };
    let page = app.services.discovery.search(query).await?;
    let reached = offset + page.datasets.len();
    let goes_on = page.datasets.len() == limit && reached <= limits::SEARCH_OFFSET_MAX;
    let mut answer = serde_json::to_value(&page).map_err(|error| Error::Internal(error.to_string()))?;
    if goes_on {
        answer["next"] = cursor(reached).into();
    }
    Ok(Json(answer).into_response())
}
