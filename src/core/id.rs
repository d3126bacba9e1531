//! Identifiers: each a separate type with a private field and a validating constructor.

use super::limits::TEXT_CHARS_MAX;
use super::random::{self, Random};
use super::time::Timestamp;
use super::visible::{is_invisible, is_override};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// A text that is not a valid identifier of the expected kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a valid {kind}: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

fn refuse(kind: &'static str, text: &str, rule: &'static str) -> IdError {
    IdError { kind, text: text.chars().take(60).collect(), rule }
}

/// A regular expression for `did:web:HOST` with an optional port.
macro_rules! did {
    () => {
        r"did:web:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(%3A([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
    };
}

/// Everything that is encoded in a segment of a path: all but the unreserved and some other characters that a segment
/// may contain (RFC 3986 section 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b':')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-')
    .remove(b'@')
    .remove(b'=')
    .remove(b',');

/// Any text as a segment of a URL's path, or as a value in its query.
pub fn in_url(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, SEGMENT)
}

/// No control characters, no white space at the ends, no dot at the beginning, so that no id is a relative path.
const OPAQUE: &str = r"^[^\s\x00-\x1f\x7f-\x9f.]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";
/// Letters, digits and `:_-`.
const OWN: &str = r"^[A-Za-z0-9:_-]*$";
/// Lower-case letters, digits and `-_`.
const SHORT: &str = r"^[a-z0-9][a-z0-9_-]{0,63}$";
const PARTICIPANT: &str = concat!("^", did!(), "$");
const KEY: &str = concat!("^", did!(), "#key-(0|[1-9][0-9]{0,8})$");
const ORIGIN: &str = r"^[a-z0-9.-]+(%3A[1-9][0-9]*)?/log/[1-9][0-9]*$";
/// No control characters and directional overrides; no white space and invisible characters at the ends.
const TEXT: &str = concat!(
    r"^[^\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\xad\u180e\u200b-\u200f\u2060-\u2064\u3164\ufeff]",
    r"([^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*",
    r"[^\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\xad\u180e\u200b-\u200f\u2060-\u2064\u3164\ufeff])?$"
);

macro_rules! text_type {
    ($name:ident, $pattern:expr) => {
        string_schema!($name, {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX, "pattern": $pattern});

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier as a segment of a URL's path, or as a value in its query.
            pub fn in_url(&self) -> impl fmt::Display {
                utf8_percent_encode(&self.0, SEGMENT)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(D::Error::custom)
            }
        }
    };
}

/// Declares opaque identifiers; this program generates `urn:uuid:` and a UUID.
macro_rules! opaque_id {
    ($fits:expr, $pattern:expr, $rule:literal; $($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Parses ", $rule, ".")]
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if $fits(text) { Ok(Self(text.to_owned())) } else { Err(refuse($kind, text, concat!("expected ", $rule))) }
            }

            /// Generates `urn:uuid:` with a UUID that begins with the time (version 7, RFC 9562 section 5.7), so that
            /// new rows are adjacent in an index.
            pub fn generate_at(now: Timestamp, random: &dyn Random) -> Self {
                let ms = u64::try_from(now.ms()).unwrap_or(0);
                let uuid = uuid::Builder::from_unix_timestamp_millis(ms, &random::bytes(random)).into_uuid();
                Self(format!("urn:uuid:{uuid}"))
            }

            /// Generates `urn:uuid:` with a random UUID (version 4).
            pub fn generate(random: &dyn Random) -> Self {
                let uuid = uuid::Builder::from_random_bytes(random::bytes(random)).into_uuid();
                Self(format!("urn:uuid:{uuid}"))
            }
        }

        text_type!($name, $pattern);
    )*};
}

// Ids that other connectors choose, too.
opaque_id! {
    |text: &str| is_text(text) && !text.starts_with('.'), OPAQUE,
    "1 to 200 characters, no control characters, no white space at the ends, no dot at the beginning";
    /// A dataset; its versions have numbers.
    DatasetId = "dataset id";
    /// A contract negotiation or transfer process, as one party identifies it (`consumerPid`, `providerPid`).
    ProcessId = "process id";
    /// An offer: one policy for one dataset.
    OfferId = "offer id";
    /// An agreement.
    AgreementId = "agreement id";
}

// Ids that only this program generates; some are names of files.
opaque_id! {
    |text: &str| {
        (1..=TEXT_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b))
    }, OWN,
    "1 to 200 letters, digits and :_-";
    /// An entry of a node's log.
    EntryId = "entry id";
    /// A dataset that this node obtained from a peer.
    HoldingId = "holding id";
    /// A management token; the identifier, not the secret.
    TokenId = "token id";
    /// A message in the outbox.
    MessageId = "message id";
    /// A subscription to the versions of a peer's dataset.
    SubscriptionId = "subscription id";
}

/// Declares names that people choose, and type.
macro_rules! short_name {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses 1 to 64 lower-case letters, digits and `-_`, beginning with a letter or digit.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let fits = (1..=64).contains(&text.len())
                    && !text.starts_with(['-', '_'])
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
                let rule = "expected 1 to 64 lower-case letters, digits and -_, beginning with a letter or digit";
                if fits { Ok(Self(text.to_owned())) } else { Err(refuse($kind, text, rule)) }
            }
        }

        text_type!($name, SHORT);
    )*};
}

short_name! {
    /// A source, from which a dataset's records come again and again.
    SourceName = "name of a source";
    /// A connection to a folder, server or database, in the node's configuration.
    ConnectionName = "name of a connection";
}

/// A participant: `did:web:HOST`. Only a name: it is never resolved to establish trust.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(String);

impl ParticipantId {
    /// Parses `did:web:` and a lower-case host name, optionally followed by `%3A` and a port.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let rule = "expected did:web: and a lower-case host name, as in did:web:park.example";
        let host = text.strip_prefix("did:web:").ok_or_else(|| refuse("participant", text, rule))?;
        let (name, port) = host.split_once("%3A").map_or((host, None), |(name, port)| (name, Some(port)));
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let port_fits = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == p));
        if name.len() <= 253 && name.split('.').all(label) && port_fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("participant", text, rule))
        }
    }

    /// The host part after `did:web:`, port included.
    pub fn host(&self) -> &str {
        &self.0["did:web:".len()..]
    }

    /// The identifier of this participant's key number `n`.
    pub fn key(&self, n: u32) -> KeyId {
        KeyId(format!("{}#key-{n}", self.0))
    }

    /// The origin of this participant's log after `recovery` recoveries; the first is `HOST/log/1`.
    pub fn log_origin(&self, recovery: u32) -> LogOrigin {
        LogOrigin(format!("{}/log/{}", self.host(), recovery + 1))
    }
}

text_type!(ParticipantId, PARTICIPANT);

/// A key of a participant: `did:web:HOST#key-N`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Parses `did:web:HOST#key-N`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let number = |n: &str| n.parse::<u32>().is_ok_and(|v| v.to_string() == n);
        match text.split_once("#key-") {
            Some((did, n)) if number(n) && ParticipantId::parse(did).is_ok() => Ok(Self(text.to_owned())),
            _ => Err(refuse("key id", text, "expected did:web:HOST#key-N")),
        }
    }

    /// The key number.
    pub fn number(&self) -> u32 {
        self.0.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }

    /// The participant that owns the key.
    pub fn participant(&self) -> ParticipantId {
        ParticipantId(self.0.split_once('#').map_or(self.0.as_str(), |(did, _)| did).to_owned())
    }
}

text_type!(KeyId, KEY);

/// The origin of a log (`HOST/log/N`): the first line of its checkpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOrigin(String);

impl LogOrigin {
    /// Parses `HOST/log/N`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let number = |n: &str| n.parse::<u32>().is_ok_and(|v| v > 0 && v.to_string() == n);
        match text.split_once("/log/") {
            Some((host, n)) if number(n) && ParticipantId::parse(&format!("did:web:{host}")).is_ok() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(refuse("log origin", text, "expected HOST/log/N")),
        }
    }
}

text_type!(LogOrigin, ORIGIN);

/// A short text entered by a person: a title, an enterprise, a person's name, a purpose, a reason.
/// 1 to 200 characters, no control characters, no space at either end. It is never modified.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(String);

impl Text {
    /// Accepts `text` unmodified, or rejects it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        (is_text(text) && is_readable(text)).then(|| Self(text.to_owned())).ok_or_else(|| {
            let rule =
                "1 to 200 characters, no control characters or directional overrides, nothing invisible at the ends";
            refuse("name or short text", text, rule)
        })
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= TEXT_CHARS_MAX
        && !text.chars().any(char::is_control)
        && text.trim() == text
}

/// Whether a text that people read shows something, and all of it in its order.
fn is_readable(text: &str) -> bool {
    !text.contains(is_override) && !text.starts_with(is_invisible) && !text.ends_with(is_invisible)
}

text_type!(Text, TEXT);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn participants() {
        for good in ["did:web:park-a.example", "did:web:localhost%3A8443", "did:web:a"] {
            assert!(ParticipantId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "did:web:",
            "did:web:Park.example",
            "did:key:z6",
            "did:web:a..b",
            "did:web:a:b",
            "did:web:a%3A0",
            "did:web:-a",
        ] {
            assert!(ParticipantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_origins() {
        let park = ParticipantId::parse("did:web:park.example").unwrap();
        assert_eq!(park.key(3).as_str(), "did:web:park.example#key-3");
        assert_eq!(KeyId::parse("did:web:park.example#key-3").unwrap().participant(), park);
        assert!(KeyId::parse("did:web:park.example#key-03").is_err());
        assert_eq!(LogOrigin::parse("park.example/log/1").unwrap(), park.log_origin(0));
        assert!(LogOrigin::parse("park.example/log/0").is_err());
    }

    #[test]
    fn opaque_ids() {
        for good in ["urn:uuid:6f1c", "a/b", "数据 1", "a%2fb", "YQ==:Yg==:1", "a..", "%2e%2e", "a?b#c"] {
            assert!(ProcessId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", " a", "a\n", "a\u{1b}[2J", &"a".repeat(201)] {
            assert!(ProcessId::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a/b", "..", "a.b", "数"] {
            assert!(HoldingId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever an id contains, it is one segment below the path of its URL, and comes back unchanged.
        #[test]
        fn an_id_is_one_segment(text in "\\PC{1,40}") {
            let Ok(id) = ProcessId::parse(&text) else { return Ok(()) };
            let url = url::Url::parse(&format!("https://a.example/x/{}/end", id.in_url())).unwrap();
            let segments: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 3);
            prop_assert_eq!(percent_encoding::percent_decode_str(segments[1]).decode_utf8().unwrap(), id.as_str());
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
