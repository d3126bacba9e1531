//! The operations, each declared beside its handler.

mod admin;
mod audit;
mod datasets;
mod open;
mod processes;
mod requests;
mod search;

use super::api::{Api, AppParts, Param, query};
use super::error::Problem;
use super::schema;
use crate::core::limits;
use crate::identity::key::{base64url, from_base64url};
use crate::node::Error;
use axum::response::Response;

type Answer = Result<Response, Problem>;

/// All of them.
pub fn all(api: Api, app: &AppParts) -> Api {
    let api = open::operations(api, app);
    let api = admin::operations(api, app);
    let api = datasets::operations(api, app);
    let api = requests::operations(api, app);
    let api = processes::operations(api, app);
    let api = search::operations(api, app);
    audit::operations(api, app)
}

/// The parameters of a listing.
fn paging() -> [Param; 2] {
    [
        query("after", schema::bytes(), "`next` of the page before."),
        query("limit", schema::number(1, limits::PAGE_ROWS_MAX as u64), "Rows of a page; 100 without."),
    ]
}

/// A listing's query.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    after: Option<String>,
    limit: Option<String>,
}

impl Paging {
    fn limit(&self) -> Result<usize, Error> {
        let Some(text) = &self.limit else { return Ok(100) };
        let max = limits::PAGE_ROWS_MAX;
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Error::invalid("query", format!("`limit` must be a number from 1 to {max}")))
    }

    /// What the cursor holds.
    fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Error> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let text = from_base64url(cursor).and_then(|bytes| String::from_utf8(bytes).ok());
        let place = text.and_then(|text| text.parse().ok());
        place.map(Some).ok_or_else(|| Error::invalid("query", "`after` is no cursor of this listing"))
    }
}

/// A cursor that says nothing to its bearer.
fn cursor(place: impl std::fmt::Display) -> String {
    base64url(place.to_string().as_bytes())
}
