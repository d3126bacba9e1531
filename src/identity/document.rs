//! Signed documents: JWS (RFC 7515) over canonical JSON (RFC 8785). FORMATS.md, "Signed documents".

use super::key::{PublicKey, SigningKey, base64url, from_base64url};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId};
use crate::core::json;
use crate::core::limits;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The only cryptographic suite: Ed25519, SHA-256, FLOE with AES-256-GCM, HPKE with X-Wing.
pub const SUITE: &str = "crosspark/1";

/// A kind of signed document.
pub trait Document: Serialize + DeserializeOwned {
    /// The `typ` of the protected header; unique to this kind.
    const TYP: &'static str;
    /// The `format` member of the payload.
    const FORMAT: &'static str;
    /// Maximum size of the encoded document in bytes.
    const BYTES_MAX: usize = limits::DOCUMENT_BYTES_MAX;

    /// The participant that must have signed: the `kid` must be one of its keys. Documents that several participants
    /// sign (agreements) return `None`, and their verifier checks the signers.
    fn author(&self) -> Option<&ParticipantId>;
}

/// Why a document is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The encoding or structure is invalid.
    #[error("not a valid {typ}: {reason}")]
    Malformed {
        /// The expected `typ`.
        typ: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The document requires an unknown feature.
    #[error("{typ} requires `{what}`, which this version of crosspark does not support; upgrade crosspark")]
    Unknown {
        /// The expected `typ`.
        typ: &'static str,
        /// The suite, format, algorithm or critical member.
        what: String,
    },
    /// The signing key is not valid for this document.
    #[error("{typ} is signed with {key}, which is not a valid key for it")]
    UnknownKey {
        /// The expected `typ`.
        typ: &'static str,
        /// The `kid`.
        key: KeyId,
    },
    /// The signature does not verify.
    #[error("the signature of {key} on this {typ} does not verify: it was altered or signed with another key")]
    BadSignature {
        /// The expected `typ`.
        typ: &'static str,
        /// The `kid`.
        key: KeyId,
    },
    /// The signing key does not belong to the named participant.
    #[error("{typ} names {named} but is signed with {key}")]
    WrongAuthor {
        /// The expected `typ`.
        typ: &'static str,
        /// The participant named in the document.
        named: ParticipantId,
        /// The `kid`.
        key: KeyId,
    },
}

/// The protected header, with exactly these three members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

/// A document that was signed by this process or verified.
#[derive(Debug, Clone)]
pub struct Signed<D> {
    jws: String,
    digest: Digest,
    signer: KeyId,
    body: D,
}

impl<D> Signed<D> {
    /// The compact serialisation.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// SHA-256 of the payload; further signatures do not change it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The `kid` of the signature.
    pub fn signer(&self) -> &KeyId {
        &self.signer
    }

    /// The document.
    pub fn body(&self) -> &D {
        &self.body
    }

    /// The document.
    pub fn into_body(self) -> D {
        self.body
    }
}

/// The canonical payload of `document`.
pub fn payload<D: Document>(document: &D) -> Vec<u8> {
    let mut members = members_of(document);
    members.insert("suite".into(), SUITE.into());
    members.insert("format".into(), D::FORMAT.into());
    members.entry("critical").or_insert_with(|| Value::Array(Vec::new()));
    json::to_canonical(&members)
}

/// SHA-256 of the canonical payload of `document`.
pub fn digest<D: Document>(document: &D) -> Digest {
    Digest::of(&payload(document))
}

fn members_of<D: Serialize>(document: &D) -> Map<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(members)) => members,
        _ => unreachable!("documents are structs with string keys"),
    }
}

/// Signs `document`.
pub fn sign<D: Document>(document: D, key: &SigningKey) -> Signed<D> {
    let payload = payload(&document);
    let (protected, signature) = sign_payload::<D>(&payload, key);
    let jws = format!("{protected}.{}.{signature}", base64url(&payload));
    Signed { jws, digest: Digest::of(&payload), signer: key.id().clone(), body: document }
}

/// Signs the exact payload of a document that another participant signed.
pub fn countersign<D: Document>(signed: &Signed<D>, key: &SigningKey) -> String {
    let encoded = signed.jws.split('.').nth(1).unwrap_or_default();
    let payload = from_base64url(encoded).unwrap_or_default();
    let (protected, signature) = sign_payload::<D>(&payload, key);
    format!("{protected}.{encoded}.{signature}")
}

fn sign_payload<D: Document>(payload: &[u8], key: &SigningKey) -> (String, String) {
    let header = Header { alg: "EdDSA".into(), kid: key.id().clone(), typ: D::TYP.into() };
    let protected = base64url(&json::to_canonical(&header));
    let signature = key.sign(format!("{protected}.{}", base64url(payload)).as_bytes());
    (protected, base64url(&signature))
}

/// Verifies a compact JWS. `keys` returns the key of a `kid` that is valid for this kind of document, if any.
pub fn verify<D: Document>(jws: &str, keys: impl Fn(&KeyId) -> Option<PublicKey>) -> Result<Signed<D>, DocumentError> {
    let malformed = |reason: &str| DocumentError::Malformed { typ: D::TYP, reason: reason.into() };
    if jws.len() > D::BYTES_MAX {
        return Err(malformed(&format!("longer than {} bytes", D::BYTES_MAX)));
    }
    let mut parts = jws.split('.');
    let (Some(protected), Some(encoded), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("a compact JWS has three parts"));
    };
    let signer = verify_signature::<D>(protected, encoded, signature, &keys)?;
    let payload = from_base64url(encoded).ok_or_else(|| malformed("the payload is not base64url"))?;
    let body = decode::<D>(&payload)?;
    if let Some(named) = body.author().filter(|named| **named != signer.participant()) {
        return Err(DocumentError::WrongAuthor { typ: D::TYP, named: named.clone(), key: signer });
    }
    Ok(Signed { jws: jws.to_owned(), digest: Digest::of(&payload), signer, body })
}

/// The unverified document in a compact JWS.
pub fn claimed<D: Document>(jws: &str) -> Result<D, DocumentError> {
    let malformed = || DocumentError::Malformed { typ: D::TYP, reason: "the payload is not base64url".into() };
    decode(&jws.split('.').nth(1).and_then(from_base64url).ok_or_else(malformed)?)
}

/// The unverified `kid` of a compact JWS, for callers that must look up the key first.
pub fn claimed_signer(jws: &str) -> Option<KeyId> {
    let header = from_base64url(jws.split('.').next()?)?;
    json::read::<Header>(&header).ok().map(|header| header.kid)
}

fn verify_signature<D: Document>(
    protected: &str,
    encoded: &str,
    signature: &str,
    keys: impl Fn(&KeyId) -> Option<PublicKey>,
) -> Result<KeyId, DocumentError> {
    let malformed = |reason: String| DocumentError::Malformed { typ: D::TYP, reason };
    let bytes = from_base64url(protected).ok_or_else(|| malformed("the header is not base64url".into()))?;
    let header: Header = json::read(&bytes).map_err(|error| malformed(format!("header: {error}")))?;
    if header.typ != D::TYP {
        return Err(malformed(format!("the typ is `{}`", header.typ.chars().take(60).collect::<String>())));
    }
    if header.alg != "EdDSA" {
        return Err(DocumentError::Unknown { typ: D::TYP, what: format!("alg {}", header.alg) });
    }
    let signature = from_base64url(signature).ok_or_else(|| malformed("the signature is not base64url".into()))?;
    let key = keys(&header.kid).ok_or_else(|| DocumentError::UnknownKey { typ: D::TYP, key: header.kid.clone() })?;
    if !key.verify(format!("{protected}.{encoded}").as_bytes(), &signature) {
        return Err(DocumentError::BadSignature { typ: D::TYP, key: header.kid });
    }
    Ok(header.kid)
}

/// Parses a payload, which must be canonical, of this suite and format, and without unknown critical members.
fn decode<D: Document>(payload: &[u8]) -> Result<D, DocumentError> {
    let malformed = |reason: String| DocumentError::Malformed { typ: D::TYP, reason };
    let unknown = |what: String| DocumentError::Unknown { typ: D::TYP, what };
    let canonical = json::canonicalize(payload).map_err(|error| malformed(error.to_string()))?;
    if canonical != payload {
        return Err(malformed("the payload is not canonical JSON".into()));
    }
    let mut members: Map<String, Value> = json::read_trusted(payload).map_err(|error| malformed(error.to_string()))?;
    match members.remove("suite") {
        Some(Value::String(suite)) if suite == SUITE => {}
        other => return Err(unknown(format!("suite {}", other.unwrap_or_default()))),
    }
    match members.remove("format") {
        Some(Value::String(format)) if format == D::FORMAT => {}
        other => return Err(unknown(format!("format {}", other.unwrap_or_default()))),
    }
    let critical: Vec<String> = members
        .remove("critical")
        .and_then(|list| serde_json::from_value(list).ok())
        .ok_or_else(|| malformed("`critical` must be a list of member names".into()))?;
    let body: D = json::read_trusted(&json::to_canonical(&members)).map_err(|error| malformed(error.to_string()))?;
    let understood = members_of(&body);
    match critical.into_iter().find(|name| !understood.contains_key(name)) {
        Some(name) => Err(unknown(format!("member {name}"))),
        None => Ok(body),
    }
}

/// A document with several signatures: general JWS JSON serialisation (RFC 7515 section 7.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiSigned {
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    protected: String,
    signature: String,
}

impl MultiSigned {
    /// Signs `document` with each of `keys`.
    pub fn sign<D: Document>(document: &D, keys: &[&SigningKey]) -> Self {
        let payload = payload(document);
        let sign = |key: &&SigningKey| {
            let (protected, signature) = sign_payload::<D>(&payload, key);
            Signature { protected, signature }
        };
        Self { signatures: keys.iter().map(sign).collect(), payload: base64url(&payload) }
    }

    /// The same payload with further signatures; keys that have already signed are skipped.
    pub fn with_signatures<D: Document>(mut self, document: &D, keys: &[&SigningKey]) -> Self {
        for new in Self::sign(document, keys).signatures {
            if self.signatures.iter().all(|known| known.protected != new.protected) {
                self.signatures.push(new);
            }
        }
        self
    }

    /// Parses the JSON serialisation.
    pub fn parse<D: Document>(text: &[u8]) -> Result<Self, DocumentError> {
        let malformed = |reason: String| DocumentError::Malformed { typ: D::TYP, reason };
        if text.len() > D::BYTES_MAX {
            return Err(malformed(format!("longer than {} bytes", D::BYTES_MAX)));
        }
        json::read(text).map_err(|error| malformed(error.to_string()))
    }

    /// The unverified document and its digest, for documents that contain their own keys.
    pub fn claimed<D: Document>(&self) -> Result<(D, Digest), DocumentError> {
        let malformed = || DocumentError::Malformed { typ: D::TYP, reason: "the payload is not base64url".into() };
        let payload = from_base64url(&self.payload).ok_or_else(malformed)?;
        Ok((decode(&payload)?, Digest::of(&payload)))
    }

    /// The unverified `kid` of each signature.
    pub fn claimed_signers(&self) -> Vec<String> {
        let kid = |signature: &Signature| claimed_signer(&signature.protected).map(|kid| kid.to_string());
        self.signatures.iter().filter_map(kid).collect()
    }

    /// The keys whose signatures verify. An invalid signature or two by the same key are errors, and so is an unknown
    /// key unless `lenient` (a successor root document is checked against two sets of keys).
    pub fn signers<D: Document>(
        &self,
        keys: impl Fn(&KeyId) -> Option<PublicKey>,
        lenient: bool,
    ) -> Result<Vec<KeyId>, DocumentError> {
        let mut signers: Vec<KeyId> = Vec::new();
        for Signature { protected, signature } in self.signatures.iter().take(limits::NOTE_SIGNATURES_MAX) {
            match verify_signature::<D>(protected, &self.payload, signature, &keys) {
                Ok(key) if !signers.contains(&key) => signers.push(key),
                Ok(key) => {
                    let reason = format!("two signatures by {key}");
                    return Err(DocumentError::Malformed { typ: D::TYP, reason });
                }
                Err(DocumentError::UnknownKey { .. }) if lenient => {}
                Err(error) => return Err(error),
            }
        }
        Ok(signers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note {
        by: ParticipantId,
        text: String,
    }

    impl Document for Note {
        const TYP: &'static str = "crosspark-note+jws";
        const FORMAT: &'static str = "note/1";
        fn author(&self) -> Option<&ParticipantId> {
            Some(&self.by)
        }
    }

    fn key(did: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(ParticipantId::parse(did).unwrap().key(1), &Zeroizing::new([seed; 32]))
    }

    fn note(did: &str) -> Note {
        Note { by: ParticipantId::parse(did).unwrap(), text: "ä".into() }
    }

    /// Signs an arbitrary payload, as an attacker with a valid key could.
    fn forge(header: &str, payload: &str, key: &SigningKey) -> String {
        let (protected, encoded) = (base64url(header.as_bytes()), base64url(payload.as_bytes()));
        let signature = key.sign(format!("{protected}.{encoded}").as_bytes());
        format!("{protected}.{encoded}.{}", base64url(&signature))
    }

    #[test]
    fn round_trip_and_every_altered_character_is_found() {
        let key = key("did:web:a.example", 1);
        let signed = sign(note("did:web:a.example"), &key);
        let keys = |kid: &KeyId| (kid == key.id()).then(|| key.public());
        assert_eq!(verify::<Note>(signed.jws(), keys).unwrap().body(), signed.body());
        for at in 0..signed.jws().len() {
            let mut altered = signed.jws().as_bytes().to_vec();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert!(verify::<Note>(std::str::from_utf8(&altered).unwrap(), keys).is_err(), "{at}");
        }
        for end in 0..signed.jws().len() {
            assert!(verify::<Note>(&signed.jws()[..end], keys).is_err());
        }
    }

    #[test]
    fn what_is_not_exactly_so_is_refused() {
        let key = key("did:web:a.example", 1);
        let keys = |kid: &KeyId| (kid.participant() == key.id().participant()).then(|| key.public());
        let header = r#"{"alg":"EdDSA","kid":"did:web:a.example#key-1","typ":"crosspark-note+jws"}"#;
        let body = r#"{"by":"did:web:a.example","critical":[],"format":"note/1","suite":"crosspark/1","text":"x"}"#;
        assert!(verify::<Note>(&forge(header, body, &key), keys).is_ok());
        let cases = [
            (header.replace("note+", "root+"), body.to_owned(), "the typ is"),
            (header.replace("EdDSA", "none"), body.to_owned(), "alg none"),
            (header.replace("{", r#"{"crit":["b64"],"#), body.to_owned(), "crit"),
            (header.to_owned(), body.replace("[]", r#"["later"]"#), "member later"),
            (header.to_owned(), body.replace("note/1", "note/2"), "note/2"),
            (header.to_owned(), body.replace("crosspark/1", "crosspark/2"), "suite"),
            (header.to_owned(), body.replace(",\"suite", ", \"suite"), "canonical"),
            (header.to_owned(), body.replace("did:web:a.", "did:web:b."), "names did:web:b.example"),
            (header.to_owned(), body.replace("\"text\"", "\"critical\":[],\"text\""), "appears twice"),
        ];
        for (header, body, part) in cases {
            let error = verify::<Note>(&forge(&header, &body, &key), keys).unwrap_err().to_string();
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn several_signatures() {
        let (a, b, outsider) = (key("did:web:a.example", 1), key("did:web:b.example", 2), key("did:web:c.example", 3));
        let keys = |kid: &KeyId| [&a, &b].into_iter().find(|key| key.id() == kid).map(|key| key.public());
        let signed = MultiSigned::sign(&note("did:web:a.example"), &[&a, &b, &outsider]);
        assert!(matches!(signed.signers::<Note>(keys, false), Err(DocumentError::UnknownKey { .. })));
        assert_eq!(signed.signers::<Note>(keys, true).unwrap().len(), 2);
        let twice = MultiSigned::sign(&note("did:web:a.example"), &[&a, &a]);
        assert!(twice.signers::<Note>(keys, true).is_err());
    }
}
