//! Requests to a configured server. Redirections are followed below its URL, and to public addresses without the configured
//! headers.

use super::secrets::{certificates, secret};
use crate::config::Server;
use crate::core::limits;
use crate::net::{check_public, in_words, public_client, server_client};
use crate::node::Error;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING};
use reqwest::{Client, Response};
use url::Url;

/// The URL of a resource: on the server, and below its URL.
pub fn url_of(server: &Server, path: &str) -> Result<Url, Error> {
    let refuse = |reason: String| Error::invalid("path", reason);
    // Servers read some of them as slashes.
    let plain = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
    if ["%2f", "%5c", "\\", "://"].iter().any(|part| plain.contains(part)) {
        return Err(refuse(format!("`{path}` must be a path below {}", server.url)));
    }
    let relative = path.trim_start_matches('/');
    let url = server.url.join(relative).map_err(|error| refuse(format!("`{path}`: {error}")))?;
    if is_below(&server.url, &url) { Ok(url) } else { Err(refuse(format!("`{path}` leads out of {}", server.url))) }
}

fn is_below(base: &Url, url: &Url) -> bool {
    let bare = url.username().is_empty() && url.password().is_none();
    bare && url.origin() == base.origin() && url.path().starts_with(base.path())
}

/// A server with its client and headers.
pub struct Caller {
    base: Url,
    client: Client,
    headers: HeaderMap,
}

impl Caller {
    /// Reads the secrets of a server.
    pub fn new(server: &Server) -> Result<Self, Error> {
        let ca = certificates(server.ca_file.as_deref())?;
        let client = server_client(ca.as_deref()).map_err(|error| Error::Unavailable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        let invalid = |name: &str| Error::Unavailable(format!("the value of the header {name} is not valid"));
        let name_of = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(name));
        for (name, value) in &server.headers {
            headers.insert(name_of(name)?, HeaderValue::from_str(value).map_err(|_| invalid(name))?);
        }
        for (name, file) in &server.secret_headers {
            let unfit = |_| Error::Unavailable(format!("{} does not hold the value of a header", file.display()));
            let mut value = HeaderValue::from_str(&secret(file)?).map_err(unfit)?;
            value.set_sensitive(true);
            headers.insert(name_of(name)?, value);
        }
        Ok(Self { base: server.url.clone(), client, headers })
    }

    /// Whether a URL is on this server, below its URL.
    pub fn serves(&self, url: &Url) -> bool {
        is_below(&self.base, url)
    }

    /// The status of a response to a GET of the server's URL, whatever it is.
    pub async fn status(&self) -> Result<StatusCode, Error> {
        let sent = self.client.get(self.base.clone()).headers(self.headers.clone()).send().await;
        let response = sent.map_err(|error| Error::Unavailable(format!("{}: {}", self.base, in_words(&error))))?;
        Ok(response.status())
    }

    /// The response to a GET, after redirections: 200, or 304 if `conditions` say what is known.
    pub async fn get(&self, url: &Url, conditions: &HeaderMap) -> Result<Response, Error> {
        let mut url = url.clone();
        for _ in 0..=limits::REDIRECTS_MAX {
            let request = if self.serves(&url) {
                self.client.get(url.clone()).headers(self.headers.clone()).headers(conditions.clone())
            } else {
                check_public(&url)
                    .map_err(|reason| Error::invalid("redirect", format!("{}: {reason}", shown(&url))))?;
                let client = public_client().map_err(|error| Error::Unavailable(error.to_string()))?;
                client.get(url.clone())
            };
            let sent = request.send().await;
            let response =
                sent.map_err(|error| Error::Unavailable(format!("{}: {}", shown(&url), in_words(&error))))?;
            let moved = [301, 302, 303, 307, 308].contains(&response.status().as_u16());
            let Some(location) = response.headers().get(LOCATION).filter(|_| moved) else {
                return checked(response, &url, conditions);
            };
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            let wrong = || Error::invalid("redirect", format!("{} redirects to what is not a URL", shown(&url)));
            url = next.filter(|next| matches!(next.scheme(), "http" | "https")).ok_or_else(wrong)?;
        }
        let max = limits::REDIRECTS_MAX;
        Err(Error::invalid("redirect", format!("{} redirects more than {max} times", shown(&self.base))))
    }
}

/// A URL without its query, which may hold secrets.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Fails unless the response is complete in itself and states its end.
fn checked(response: Response, url: &Url, conditions: &HeaderMap) -> Result<Response, Error> {
    let (status, place) = (response.status(), shown(url));
    if status == StatusCode::NOT_MODIFIED && !conditions.is_empty() {
        return Ok(response);
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Error::Unavailable(format!("{place}: the server answered {status}")));
    }
    if status != StatusCode::OK {
        let hint = if [401, 403].contains(&status.as_u16()) { "; check the connection's secret_headers" } else { "" };
        return Err(Error::invalid("response", format!("{place}: the server answered {status}{hint}")));
    }
    let headers = response.headers();
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Error::invalid("response", format!("{place}: the response is compressed without being asked to")));
    }
    // Otherwise a connection that breaks looks like the end (RFC 9112 section 8).
    if response.content_length().is_none() && !headers.contains_key(TRANSFER_ENCODING) {
        let reason = format!("{place}: the response does not state its length, so it may be incomplete");
        return Err(Error::invalid("response", reason));
    }
    Ok(response)
}
