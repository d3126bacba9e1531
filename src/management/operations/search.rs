//! Search in the catalogs of all peers.

use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::index::{Facets, Hit, MaxAge, Query as IndexQuery, Sort};
use crate::management::app::App;
use crate::management::inputs::Query;
use crate::management::paging::{cursor, number, read_cursor};
use crate::management::problem::Problem;
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, UserRole};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Results of a page unless the caller states another number.
const RESULTS: usize = 20;

pub fn add(routes: Routes) -> Routes {
    let operation = Operation {
        path: "/v1/search",
        id: "searchDatasets",
        summary: "Searches the catalogs of all peers: words (also Chinese), facets, order.",
        roles: &[UserRole::Requester, UserRole::Admin],
    };
    routes.get(operation, search)
}

/// A search.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SearchQuery {
    /// Words, all of which must occur.
    #[serde(default)]
    #[schemars(length(max = limits::SEARCH_CHARS_MAX))]
    q: String,
    /// Only datasets of this park.
    park: Option<ParticipantId>,
    /// Only datasets under the schema with this `$id`.
    #[schemars(length(max = limits::SEARCH_CHARS_MAX))]
    schema: Option<String>,
    /// Only datasets of this sector.
    #[schemars(length(max = limits::SEARCH_CHARS_MAX))]
    theme: Option<String>,
    /// Only datasets of at most this age.
    max_age: Option<MaxAge>,
    /// Order of the results.
    #[serde(default)]
    sort: Sort,
    /// `next` of the previous page.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]*$"))]
    after: Option<String>,
    /// Results per page; 20 by default.
    #[schemars(with = "Option<usize>", range(min = 1, max = limits::PAGE_ROWS_MAX))]
    limit: Option<String>,
}

/// A page of results.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ResultPage {
    /// Results in the requested order.
    datasets: Vec<Hit>,
    /// Number of results; at most what is counted.
    total: usize,
    /// Whether there are more results than are counted.
    more: bool,
    /// Counted results by facet value.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<crate::index::Facet>>")]
    facets: Facets,
    /// Cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn search(State(app): State<App>, Query(query): Query<SearchQuery>) -> Result<Json<ResultPage>, Problem> {
    let offset = query.after.as_deref().map(read_cursor::<usize>).transpose()?.unwrap_or(0);
    let offset_max = limits::SEARCH_OFFSET_MAX;
    if offset > offset_max {
        return Err(Error::invalid("query", format!("a search shows at most its first {offset_max} results")).into());
    }
    let limit = number(query.limit.as_deref(), "limit", RESULTS, 1..=limits::PAGE_ROWS_MAX)?;
    let page = app
        .services
        .discovery
        .search(IndexQuery {
            words: query.q,
            park: query.park,
            schema: query.schema,
            theme: query.theme,
            max_age: query.max_age,
            sort: query.sort,
            offset,
            limit,
        })
        .await?;
    let reached = offset + page.datasets.len();
    let next = (page.datasets.len() == limit && reached <= offset_max).then(|| cursor(reached));
    Ok(Json(ResultPage { datasets: page.datasets, total: page.total, more: page.more, facets: page.facets, next }))
}
