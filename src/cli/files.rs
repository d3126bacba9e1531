//! Files that people send each other: a wrong one is named, with the command that takes it.

use crate::identity::key::from_base64url;
use anyhow::Context;
use serde_json::Value;
use std::path::Path;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A park's request to become a member.
    JoinRequest,
    /// A member's request for new keys or a new certificate.
    Rotation,
    /// The operator's answer to a request.
    Welcome,
    /// A register.
    Register,
    /// A root document, or a proposal of one.
    Root,
}

impl Kind {
    const ALL: [Self; 5] = [Self::JoinRequest, Self::Rotation, Self::Welcome, Self::Register, Self::Root];

    /// The name of its format before the version, its name for people, and the commands that take it.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::JoinRequest => ("join", "a join request", "`crosspark alliance admit` (by the operator)"),
            Self::Rotation => ("rotation", "a rotation request", "`crosspark alliance rotate` (by the operator)"),
            Self::Welcome => ("welcome", "a welcome", "`crosspark node join` or `crosspark node renew`"),
            Self::Register => ("register", "a register", "`crosspark members install`"),
            Self::Root => ("root", "a root document", "`crosspark members install` or `crosspark alliance root`"),
        }
    }
}

/// Reads a file of one of these kinds. A file of another kind is refused.
pub fn read(path: &Path, wanted: &[Kind]) -> anyhow::Result<Vec<u8>> {
    let name = wanted.iter().map(|kind| kind.names().1).collect::<Vec<_>>().join(" or ");
    let bytes = std::fs::read(path).with_context(|| format!("{} ({name}) cannot be read", path.display()))?;
    match kind_of(&bytes) {
        Some(found) if wanted.contains(&found) => {}
        Some(found) => {
            let (_, other, command) = found.names();
            anyhow::bail!("{} is {other}, for {command}; expected {name}", path.display());
        }
        // Damaged documents are judged by who verifies them.
        None if bytes.trim_ascii_start().starts_with(b"{") || bytes.starts_with(b"ey") => {}
        None => anyhow::bail!("{} is not {name}", path.display()),
    }
    Ok(bytes)
}

/// The kind that a file claims to be.
fn kind_of(bytes: &[u8]) -> Option<Kind> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let document: Option<Value> = serde_json::from_str(text).ok();
    let payload = match &document {
        Some(document) => document.get("payload").and_then(Value::as_str),
        None => text.lines().next()?.split('.').nth(1),
    };
    let signed = payload.and_then(from_base64url).and_then(|payload| serde_json::from_slice::<Value>(&payload).ok());
    let format = signed.or(document)?.get("format")?.as_str()?.split('/').next()?.to_owned();
    Kind::ALL.into_iter().find(|kind| kind.names().0 == format)
}
