//! Addresses of members; they come from the register, never from a message.

use crate::core::limits;
use crate::core::string_schema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use url::Url;

/// An `https` URL without user, query or fragment, and without a trailing slash.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

string_schema!(Endpoint, {"type": "string", "pattern": "^https://"});

/// A text that is not a valid endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a valid endpoint: expected https://HOST[:PORT][/PATH] without user, query or fragment")]
pub struct EndpointError(String);

impl Endpoint {
    /// Parses a URL and removes trailing slashes.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError(text.chars().take(100).collect());
        let url = Url::parse(text).map_err(|_| error())?;
        let plain = url.scheme() == "https"
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        // Percent-encoding can lengthen the normal form, which is what is stored and parsed again.
        let normal = url.as_str().trim_end_matches('/');
        if plain && text.len() <= limits::ENDPOINT_BYTES_MAX && normal.len() <= limits::ENDPOINT_BYTES_MAX {
            Ok(Self(normal.to_owned()))
        } else {
            Err(error())
        }
    }

    /// The endpoint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> String {
        let url = Url::parse(&self.0).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    /// Appends `path`, which starts with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether `address` is this endpoint or below it. The part below must be plain path segments, which no server or
    /// client resolves to another path.
    pub fn covers(&self, address: &Endpoint) -> bool {
        match address.0.strip_prefix(&self.0) {
            Some("") => true,
            Some(rest) => rest.starts_with('/') && !rest.contains(['%', '\\']),
            None => false,
        }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_only_what_is_below() {
        let prefix = Endpoint::parse("https://a.example:8443/dsp/2025-1/").unwrap();
        for (address, expected) in [
            ("https://a.example:8443/dsp/2025-1", true),
            ("https://a.example:8443/dsp/2025-1/x", true),
            ("https://a.example:8443/dsp/2025-10", false),
            ("https://a.example:8443/dsp/2025-1/../../other", false),
            ("https://a.example:8443/dsp/2025-1/%2e%2e/other", false),
            ("https://a.example:8444/dsp/2025-1", false),
            ("https://a.example.evil.example/dsp/2025-1", false),
        ] {
            assert_eq!(prefix.covers(&Endpoint::parse(address).unwrap()), expected, "{address}");
        }
        for bad in
            ["http://a.example", "https://u@a.example", "https://a.example/?x", "a.example", "https://a.example#x"]
        {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
