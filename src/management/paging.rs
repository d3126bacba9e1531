//! Pages of listings.

use crate::core::limits;
use crate::identity::key::{base64url, from_base64url};
use crate::node::Error;
use schemars::JsonSchema;
use serde::Deserialize;

/// Rows of a page unless the caller states another number.
pub const ROWS: usize = 100;

/// The query of a listing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// `next` of the previous page.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]*$"))]
    after: Option<String>,
    /// Rows per page; 100 by default.
    #[schemars(with = "Option<usize>", range(min = 1, max = limits::PAGE_ROWS_MAX))]
    limit: Option<String>,
}

impl Paging {
    /// Rows of the page.
    pub fn limit(&self) -> Result<usize, Error> {
        number(self.limit.as_deref(), "limit", ROWS, 1..=limits::PAGE_ROWS_MAX)
    }

    /// What the cursor holds.
    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Error> {
        self.after.as_deref().map(read_cursor).transpose()
    }
}

/// A number in the query, within its range.
pub fn number(
    text: Option<&str>,
    name: &str,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, Error> {
    let Some(text) = text else { return Ok(default) };
    let wrong =
        || Error::invalid("query", format!("`{name}` must be a number from {} to {}", range.start(), range.end()));
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// An opaque cursor.
pub fn cursor(position: impl std::fmt::Display) -> String {
    base64url(position.to_string().as_bytes())
}

/// The position in a cursor.
pub fn read_cursor<T: std::str::FromStr>(cursor: &str) -> Result<T, Error> {
    let text = from_base64url(cursor).and_then(|bytes| String::from_utf8(bytes).ok());
    let position = text.and_then(|text| text.parse().ok());
    position.ok_or_else(|| Error::invalid("query", "`after` is not a cursor of this listing"))
}
