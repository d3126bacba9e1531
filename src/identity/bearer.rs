//! Bearer tokens of connectors without client certificates: JWT (RFC 7519) as a compact JWS with EdDSA (RFC 8037),
//! signed with a document key of the register, for one audience and a few minutes.

use super::key::{PublicKey, SigningKey, base64url, from_base64url};
use crate::core::id::{KeyId, ParticipantId};
use crate::core::json;
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Why a token is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bearer token is not accepted: {0}")]
pub struct BearerError(String);

/// A header with other members is rejected, as they could change its meaning.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    #[serde(default)]
    typ: Option<String>,
}

/// The claims that are checked; a NumericDate is in seconds and may have a fraction.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: ParticipantId,
    #[serde(default)]
    sub: Option<ParticipantId>,
    aud: Value,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

/// Whether the token of an `Authorization` header has the form of a JWT.
pub fn is_jwt(token: &str) -> bool {
    token.split('.').count() == 3
}

/// Verifies a token for `audience` and returns its issuer. `keys` returns the currently valid key of a `kid`, if any.
pub fn verify(
    token: &str,
    audience: &ParticipantId,
    now: Timestamp,
    keys: impl Fn(&KeyId) -> Option<PublicKey>,
) -> Result<ParticipantId, BearerError> {
    let refuse = |reason: &str| BearerError(reason.to_owned());
    if token.len() > limits::SMALL_DOCUMENT_BYTES_MAX {
        return Err(refuse("it is too long"));
    }
    let mut parts = token.split('.');
    let (Some(protected), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse("a JWT has three parts"));
    };
    let decode = |part: &str| from_base64url(part).ok_or_else(|| refuse("a part is not base64url"));
    let header: Header = json::read(&decode(protected)?).map_err(|error| BearerError(format!("header: {error}")))?;
    // The `typ` prevents signed documents of the same key from being accepted as tokens.
    if header.alg != "EdDSA" || header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(refuse("`alg` must be EdDSA, and `typ`, if present, must be JWT"));
    }
    let key = keys(&header.kid);
    let key = key.ok_or_else(|| BearerError(format!("the register has no valid document key {}", header.kid)))?;
    if !key.verify(format!("{protected}.{payload}").as_bytes(), &decode(signature)?) {
        return Err(refuse("its signature does not verify"));
    }
    let claims: Claims = json::read(&decode(payload)?).map_err(|error| BearerError(format!("claims: {error}")))?;
    let owner = header.kid.participant();
    if claims.iss != owner || claims.sub.is_some_and(|sub| sub != owner) {
        return Err(refuse("`iss` (and `sub`) must be the owner of the signing key"));
    }
    let for_us = |aud: &Value| aud.as_str() == Some(audience.as_str());
    if !for_us(&claims.aud) && !claims.aud.as_array().is_some_and(|list| list.iter().any(for_us)) {
        return Err(BearerError(format!("`aud` must be {audience}")));
    }
    let (now, skew) = (now.ms() as f64 / 1_000.0, limits::SKEW_MS_MAX as f64 / 1_000.0);
    let life = limits::BEARER_LIFE_SECONDS_MAX as f64;
    if claims.exp <= now || claims.exp > claims.iat.unwrap_or(now).min(now + skew) + life + skew {
        return Err(BearerError(format!("it has expired, or is valid for more than {life} seconds")));
    }
    if claims.nbf.into_iter().chain(claims.iat).any(|from| from > now + skew) {
        return Err(refuse("it is not valid yet"));
    }
    Ok(owner)
}

/// Creates this node's token for `audience`.
pub fn make(key: &SigningKey, audience: &ParticipantId, now: Timestamp) -> String {
    let me = key.id().participant();
    let (from, life) = (now.ms() / 1_000, limits::BEARER_LIFE_SECONDS_MAX);
    let header = Header { alg: "EdDSA".into(), kid: key.id().clone(), typ: Some("JWT".into()) };
    let claims = json!({"iss": me, "sub": me, "aud": audience, "iat": from, "exp": from + life});
    let signed = format!("{}.{}", base64url(&json::to_canonical(&header)), base64url(&json::to_canonical(&claims)));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", base64url(&signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn did(name: &str) -> ParticipantId {
        ParticipantId::parse(&format!("did:web:{name}.example")).unwrap()
    }

    fn token(header: Value, claims: Value, key: &SigningKey) -> String {
        let signed =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        format!("{signed}.{}", base64url(&key.sign(signed.as_bytes())))
    }

    #[test]
    fn who_when_and_for_whom() {
        let (a, b) = (did("a"), did("b"));
        let key = SigningKey::from_seed(a.key(2), &Zeroizing::new([7; 32]));
        let other = SigningKey::from_seed(a.key(2), &Zeroizing::new([8; 32]));
        let now = Timestamp::from_ms(1_000_000_000);
        let keys = |kid: &KeyId| (*kid == a.key(2)).then(|| key.public());
        assert_eq!(verify(&make(&key, &b, now), &b, now, keys), Ok(a.clone()));
        let header = json!({"alg": "EdDSA", "kid": a.key(2)});
        let claims = json!({"iss": a, "aud": b, "exp": 1_000_100});
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        let headed = |name: &str, value: Value| {
            let mut header = header.clone();
            header[name] = value;
            header
        };
        for (what, token, good) in [
            ("only required claims", token(header.clone(), claims.clone(), &key), true),
            ("several audiences", token(header.clone(), with("aud", json!(["x", b])), &key), true),
            ("a fraction", token(header.clone(), with("iat", json!(1_000_000.5)), &key), true),
            ("unknown claims", token(header.clone(), with("scope", json!("x")), &key), true),
            ("another's key", token(header.clone(), claims.clone(), &other), false),
            ("no key", token(headed("kid", json!(a.key(3))), claims.clone(), &key), false),
            ("no algorithm", token(headed("alg", json!("none")), claims.clone(), &key), false),
            ("critical", token(headed("crit", json!(["x"])), claims.clone(), &key), false),
            ("a document", token(headed("typ", json!("crosspark-claim+jws")), claims.clone(), &key), false),
            ("another issuer", token(header.clone(), with("iss", json!(b)), &key), false),
            ("another subject", token(header.clone(), with("sub", json!(b)), &key), false),
            ("another audience", token(header.clone(), with("aud", json!(a)), &key), false),
            ("expired", token(header.clone(), with("exp", json!(1_000_000)), &key), false),
            ("valid too long", token(header.clone(), with("exp", json!(1_003_600)), &key), false),
            ("without end", token(header.clone(), with("exp", json!(1e300)), &key), false),
            ("not valid yet", token(header.clone(), with("nbf", json!(1_000_090)), &key), false),
            ("garbage", "a.b.c".into(), false),
            ("two parts", "a.b".into(), false),
        ] {
            assert_eq!(verify(&token, &b, now, keys).is_ok(), good, "{what}");
        }
    }
}
