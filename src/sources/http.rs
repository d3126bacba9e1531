//! Resources of HTTP servers. The server is configured; a source has only a path below its URL.

use super::pages;
use super::pipe::{self, Gone, Stopped};
use super::server::{Caller, shown, url_of};
use crate::config::Server;
use crate::net::in_words;
use crate::node::Error;
use crate::publishing::Arriving;
use crate::source::{Pages, Seen};
use http::StatusCode;
use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::Response;

/// What an HTTP source has.
pub enum Fetched {
    /// Records, and what tells them from later ones.
    Records(Arriving, Seen),
    /// The same as before.
    Unchanged,
}

/// Requests a resource, and reads it while it is published.
pub async fn open(
    server: &Server,
    path: &str,
    division: Option<&Pages>,
    at: &str,
    seen: &Seen,
) -> Result<Fetched, Error> {
    let url = url_of(server, path)?;
    let caller = Caller::new(server)?;
    if let Some(division) = division {
        let records = pages::open(caller, url, division.clone(), at.to_owned());
        return Ok(Fetched::Records(records, Seen::default()));
    }
    let response = caller.get(&url, &conditions(seen)).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(Fetched::Unchanged);
    }
    let text = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let seen = Seen { etag: text(ETAG), modified: text(LAST_MODIFIED), ..Seen::default() };
    let place = shown(&url);
    let records = pipe::records(move |mut pipe| async move {
        let done = body(response, &place, &mut pipe).await;
        (pipe, done)
    });
    Ok(Fetched::Records(records, seen))
}

async fn body(mut response: Response, place: &str, pipe: &mut pipe::Pipe) -> Result<(), Stopped> {
    let broken = |error: reqwest::Error| Stopped::Failed(format!("{place}: {}", in_words(&error)));
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        pipe.buffer().extend_from_slice(&piece);
        pipe.flush_if_full().await.map_err(|Gone| Stopped::Gone)?;
    }
    Ok(())
}

/// The conditions under which a response has content (RFC 9110 section 13.1).
fn conditions(seen: &Seen) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    let known = [(IF_NONE_MATCH, &seen.etag), (IF_MODIFIED_SINCE, &seen.modified)];
    for (name, value) in known {
        let value = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok());
        conditions.extend(value.map(|value| (name, value)));
    }
    conditions
}
