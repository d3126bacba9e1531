//! Trace ids: one id for all work that a request causes, at both parks. It travels in the `traceparent` header (W3C
//! Trace Context, level 1) and appears on every log line. It serves diagnosis and is not evidence.

use super::random::{self, Random};
use serde::{Deserialize, Serialize};
use std::fmt;

/// 16 bytes, not all zero; written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(#[serde(with = "hex::serde")] [u8; 16]);

string_schema!(TraceId, {"type": "string", "pattern": "^[0-9a-f]{32}$"});

impl TraceId {
    /// Generates a random trace id.
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = random::bytes::<16>(random);
        bytes[0] |= 1;
        Self(bytes)
    }

    /// Parses a `traceparent` header: `VERSION-TRACE-PARENT-FLAGS`; additional fields of later versions are ignored
    /// (W3C Trace Context, section 3.2.4).
    pub fn from_header(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let fits = version.len() == 2 && parent.len() == 16 && flags.len() == 2 && version != "ff";
        let alone = version != "00" || parts.next().is_none();
        if !fits
            || !alone
            || ![version, trace, parent, flags].into_iter().all(lower)
            || parent.bytes().all(|b| b == b'0')
        {
            return None;
        }
        let bytes: [u8; 16] = hex::decode(trace).ok()?.try_into().ok()?;
        bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
    }

    /// Formats a `traceparent` header for an outgoing request, with a random parent id.
    pub fn to_header(self, random: &dyn Random) -> String {
        let mut parent = random::bytes::<8>(random);
        parent[0] |= 1;
        format!("00-{self}-{}-01", hex::encode(parent))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::random::SystemRandomness;

    #[test]
    fn headers() {
        let id = TraceId::generate(&SystemRandomness::new());
        assert_eq!(TraceId::from_header(&id.to_header(&SystemRandomness::new())), Some(id));
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceId::from_header(good).unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(TraceId::from_header(&format!("{}-more", good.replacen("00", "01", 1))).is_some());
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
        ] {
            assert_eq!(TraceId::from_header(bad), None, "{bad}");
        }
    }
}
