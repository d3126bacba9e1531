//! What a source is.

use super::{Publication, Schedule};
use crate::core::id::ConnectionName;
use crate::core::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source: where records come from, when, and what is said of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Definition {
    /// Where the records come from.
    pub input: Input,
    /// When: a crontab expression and a time zone, as in `0 2 * * * Asia/Shanghai`. Without it, a folder is watched, and
    /// other sources run on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Hours within which new content is expected; there is a warning after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::EXPECTED_HOURS_MAX))]
    pub expected_hours: Option<u32>,
    /// What is said of the records. Its `dataset` gets the versions; without it, the first run creates one.
    pub publication: Publication,
}

/// Where records come from. A connection is configured by who runs the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Input {
    /// Files that arrive in a folder: each becomes a version, oldest first.
    Folder {
        /// The folder.
        connection: ConnectionName,
        /// Names of the files, with `*` and `?`.
        files: Pattern,
    },
    /// An HTTP resource.
    Http {
        /// The server.
        connection: ConnectionName,
        /// Path and query, relative to the connection's URL.
        path: String,
        /// How the resource is divided into pages, if it is; its pages are JSON.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pages: Option<Pages>,
    },
    /// The rows of a query, each a record whose members are the columns, without those that are NULL.
    Query {
        /// The database.
        connection: ConnectionName,
        /// One SQL statement that reads.
        query: String,
    },
    /// Records that a program sends.
    Pushed {},
}

/// How a resource is divided into pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Pages {
    /// The header `Link` of a page names the next one (`rel="next"`, RFC 8288).
    Link {},
    /// A member of a page is the URL of the next one.
    Next {
        /// JSON pointer of the member.
        at: String,
    },
    /// A parameter of the query numbers the pages, until one has no records.
    Number {
        /// Name of the parameter.
        parameter: String,
        /// Number of the first page.
        #[serde(default = "one")]
        first: u32,
    },
    /// A parameter of the query is the number of records before the page, until one has no records.
    Offset {
        /// Name of the parameter.
        parameter: String,
    },
}

fn one() -> u32 {
    1
}

/// A pattern of file names: `*` stands for any characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern of names without folders.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = !text.is_empty() && text.len() <= limits::TEXT_CHARS_MAX && !text.contains(['/', '\0']);
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("`{text}` is not a pattern of file names such as *.csv"))
    }

    /// Whether a name fits. Hidden and temporary files never do.
    pub fn fits(&self, name: &str) -> bool {
        let temporary = [".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~"];
        !name.starts_with('.')
            && !name.starts_with("~$")
            && !temporary.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
            && fits(&self.0.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Goes back only to the last `*`, so the time is at most the product of the lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((star, from)) => {
                    (p, n) = (star + 1, from + 1);
                    back = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl Input {
    /// The connection that it uses.
    pub fn connection(&self) -> Option<&ConnectionName> {
        match self {
            Self::Folder { connection, .. } | Self::Http { connection, .. } | Self::Query { connection, .. } => {
                Some(connection)
            }
            Self::Pushed {} => None,
        }
    }

    /// Its kind, as the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::Http { .. } => "http",
            Self::Query { .. } => "query",
            Self::Pushed {} => "pushed",
        }
    }
}

impl Definition {
    /// Fails, saying what is wrong, if this cannot be meant.
    pub fn check(&self) -> Result<(), String> {
        let long = |what: &str, text: &str, max: usize| {
            (text.len() > max).then(|| format!("the {what} is longer than {max} bytes")).map_or(Ok(()), Err)
        };
        match &self.input {
            Input::Http { path, pages, .. } => {
                long("path", path, limits::SOURCE_PATH_BYTES_MAX)?;
                pages.as_ref().map_or(Ok(()), Pages::check)?;
                if pages.is_some() && self.publication.format != crate::ingest::Format::Json {
                    return Err("a resource with pages must have the format json".into());
                }
            }
            Input::Query { query, .. } => {
                long("query", query, limits::SOURCE_QUERY_BYTES_MAX)?;
                if query.trim().is_empty() {
                    return Err("the query is empty".into());
                }
                if self.publication.format != crate::ingest::Format::Ndjson {
                    return Err("the rows of a query have the format ndjson".into());
                }
            }
            Input::Pushed {} if self.schedule.is_some() => {
                return Err("records that are sent have no schedule: state `expectedHours`, for a warning".into());
            }
            Input::Folder { .. } | Input::Pushed {} => {}
        }
        if self.publication.skipped > 0 {
            return Err("a source leaves no records out".into());
        }
        match self.expected_hours {
            Some(hours) if !(1..=limits::EXPECTED_HOURS_MAX).contains(&hours) => {
                Err(format!("new content is expected every 1 to {} hours", limits::EXPECTED_HOURS_MAX))
            }
            _ => Ok(()),
        }
    }
}

impl Pages {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Link {} => Ok(()),
            Self::Next { at } => {
                let fits = at.starts_with('/') && at.len() <= limits::TEXT_CHARS_MAX;
                if fits { Ok(()) } else { Err(format!("`{at}` is not a JSON pointer, such as /next")) }
            }
            Self::Number { parameter, .. } | Self::Offset { parameter } => {
                let fits = (1..=64).contains(&parameter.len()) && parameter.bytes().all(|b| b.is_ascii_graphic());
                if fits { Ok(()) } else { Err(format!("`{parameter}` is not the name of a parameter")) }
            }
        }
    }
}
