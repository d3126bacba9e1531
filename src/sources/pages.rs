//! Resources that are divided into pages: each is a JSON document with an array of records. The records are passed on as
//! they are written, one a line.

use super::pipe::{self, Pipe, Stopped, push_json};
use super::server::Caller;
use crate::core::digest::Digest;
use crate::core::limits;
use crate::net::in_words;
use crate::publishing::Arriving;
use crate::source::Pages;
use http::HeaderMap;
use http::header::LINK;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use url::Url;

/// Reads all pages, beginning with that at `url`; the records of a page are at the JSON pointer `at`.
pub fn open(caller: Caller, url: Url, division: Pages, at: String) -> Arriving {
    pipe::records(move |mut pipe| async move {
        let reader = Reader { caller, division, at };
        let done = reader.read(url, &mut pipe).await;
        (pipe, done)
    })
}

struct Reader {
    caller: Caller,
    division: Pages,
    at: String,
}

/// A page as it was received.
struct Page {
    text: Vec<u8>,
    link: Option<String>,
}

impl Reader {
    async fn read(&self, first: Url, pipe: &mut Pipe) -> Result<(), Stopped> {
        let (mut url, mut records, mut known) = (self.numbered(&first, 0, 0), 0, HashSet::new());
        for page in 0..limits::PAGES_MAX {
            let told = |reason: String| Stopped::Failed(format!("page {}: {reason}", page + 1));
            let received = self.page(&url).await.map_err(told)?;
            // By its address or, if the address always differs, by its content.
            let mark = match self.division {
                Pages::Link {} | Pages::Next { .. } => Digest::of(url.as_str().as_bytes()),
                Pages::Number { .. } | Pages::Offset { .. } => Digest::of(&received.text),
            };
            let rows = write(&received.text, &self.at, pipe).map_err(told)?;
            pipe.flush_if_full().await?;
            records += rows;
            let next = match &self.division {
                Pages::Number { .. } | Pages::Offset { .. } if rows == 0 => None,
                Pages::Number { .. } | Pages::Offset { .. } => Some(self.numbered(&first, page + 1, records)),
                Pages::Link {} => received.link.map(|link| self.follow(&url, &link)).transpose().map_err(told)?,
                Pages::Next { at } => {
                    let link = text_at(&received.text, at).map_err(told)?;
                    link.map(|link| self.follow(&url, &link)).transpose().map_err(told)?
                }
            };
            let Some(next) = next else { return Ok(()) };
            if !known.insert(mark) {
                return Err(told("it is the same as an earlier one, so the pages would never end".into()));
            }
            url = next;
        }
        Err(Stopped::Failed(format!("there are more than {} pages", limits::PAGES_MAX)))
    }

    /// The URL of a page that is asked for by number or offset.
    fn numbered(&self, first: &Url, page: u64, records: u64) -> Url {
        let (parameter, value) = match &self.division {
            Pages::Number { parameter, first } => (parameter, u64::from(*first) + page),
            Pages::Offset { parameter } => (parameter, records),
            Pages::Link {} | Pages::Next { .. } => return first.clone(),
        };
        let mut url = first.clone();
        url.query_pairs_mut().append_pair(parameter, &value.to_string());
        url
    }

    /// The URL of the next page, which must be below the server's: the request has its secrets.
    fn follow(&self, page: &Url, link: &str) -> Result<Url, String> {
        let next = page.join(link).map_err(|error| format!("the next page `{link}`: {error}"))?;
        if self.caller.serves(&next) { Ok(next) } else { Err("the next page is not below the connection's URL".into()) }
    }

    async fn page(&self, url: &Url) -> Result<Page, String> {
        let response = self.caller.get(url, &HeaderMap::new()).await;
        let mut response = response.map_err(|error| error.to_string())?;
        let links = response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let link = links.flat_map(next_of).next();
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| in_words(&error))? {
            text.extend_from_slice(&piece);
            if text.len() > limits::PAGE_BYTES_MAX {
                return Err(format!("it has more than {} MiB: ask for smaller pages", limits::PAGE_BYTES_MAX >> 20));
            }
        }
        Ok(Page { text, link })
    }
}

/// The targets with the relation `next` in a header `Link` (RFC 8288 section 3).
fn next_of(header: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let parameters = after.split('<').next().unwrap_or_default();
        let relations = parameters.split(';').filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel").then(|| value.to_owned())
        });
        if relations.into_iter().any(|all| all.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"))) {
            found.push(target.to_owned());
        }
        rest = after;
    }
    found
}

/// The part of a JSON text at a pointer (RFC 6901).
fn at<'a>(text: &'a [u8], pointer: &str) -> Result<Option<&'a RawValue>, String> {
    let not_json = |error: serde_json::Error| format!("it is not JSON: {error}");
    let mut part: &RawValue = serde_json::from_slice(text).map_err(not_json)?;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let found = if part.get().starts_with('{') {
            let mut members: BTreeMap<std::borrow::Cow<'_, str>, &RawValue> =
                serde_json::from_str(part.get()).map_err(not_json)?;
            members.remove(token.as_str())
        } else if part.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(part.get()).map_err(not_json)?;
            token.parse::<usize>().ok().and_then(|n| items.get(n).copied())
        } else {
            None
        };
        match found {
            Some(found) => part = found,
            None => return Ok(None),
        }
    }
    Ok(Some(part))
}

/// The text at a pointer; none if there is none, or it is null or empty.
fn text_at(page: &[u8], pointer: &str) -> Result<Option<String>, String> {
    let Some(part) = at(page, pointer)? else { return Ok(None) };
    let text: Option<String> =
        serde_json::from_str(part.get()).map_err(|_| format!("{pointer} is not the URL of a page"))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Writes the records of a page, one a line, and returns their number.
fn write(page: &[u8], pointer: &str, pipe: &mut Pipe) -> Result<u64, String> {
    let place = || if pointer.is_empty() { "at its top".to_owned() } else { format!("at {pointer}") };
    let missing = || format!("there is no array of records {}: its JSON pointer is given with --at", place());
    let part = at(page, pointer)?.ok_or_else(missing)?;
    let records: Vec<&RawValue> = serde_json::from_str(part.get()).map_err(|_| missing())?;
    for record in &records {
        push_json(pipe.buffer(), record.get());
        pipe.buffer().push(b'\n');
    }
    Ok(records.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages_in_headers() {
        for (header, expected) in [
            ("<https://a.example/x?page=2>; rel=\"next\"", vec!["https://a.example/x?page=2"]),
            ("</x?page=1>; rel=prev, </x?page=3>; rel=next", vec!["/x?page=3"]),
            ("<a>; title=\"b\"; rel=\"last next\", <c>; rel=\"first\"", vec!["a"]),
            ("<a>; rel=\"previous\"", vec![]),
            ("nothing", vec![]),
            ("<a; rel=next", vec![]),
        ] {
            assert_eq!(next_of(header), expected, "{header}");
        }
    }

    #[test]
    fn parts_of_a_page() {
        let page = br#"{"data": {"items": [{"a": 1.50}, {"a~b/c": "x"}]}, "next": null, "more": "/p?2", "n": 3}"#;
        let part = |pointer: &str| at(page, pointer).unwrap().map(RawValue::get);
        assert_eq!(part("/data/items/0"), Some(r#"{"a": 1.50}"#));
        assert_eq!(part("/data/items/1/a~0b~1c"), Some(r#""x""#));
        assert_eq!((part("/data/items/2"), part("/data/none"), part("/n/x")), (None, None, None));
        assert_eq!(text_at(page, "/more").unwrap().as_deref(), Some("/p?2"));
        assert_eq!((text_at(page, "/next").unwrap(), text_at(page, "/none").unwrap()), (None, None));
        assert!(text_at(page, "/n").is_err() && at(b"<html>", "").is_err());
    }
}
