//! Transfer tokens: stateless, bound to the transfer, its consumer, the consumer's TLS key and an expiry.

use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::time::Timestamp;
use crate::identity::key::{base64url, from_base64url};
use crate::transfer::Transfer;
use ring::hmac;
use zeroize::Zeroizing;

/// Issues and checks transfer tokens.
pub struct TransferTokens(Zeroizing<[u8; 32]>);

impl TransferTokens {
    /// Authenticates tokens with `secret`.
    pub fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(secret)
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0[..])
    }

    /// The token of a started transfer. The provider does not store it, but derives it whenever it is needed.
    pub fn issue(&self, transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> String {
        let tag = hmac::sign(&self.key(), &message(transfer, to, pin, until));
        format!("{}.{}", until.ms(), base64url(tag.as_ref()))
    }

    /// Whether `token` is valid for the transfer's latest start and one of the consumer's TLS keys: the consumer may
    /// have changed its key since. Compares in constant time.
    pub fn is_valid(&self, token: &str, transfer: &Transfer, pins: &[Digest], now: Timestamp) -> bool {
        let parse = || {
            let (until, tag) = token.split_once('.')?;
            Some((Timestamp::from_ms(until.parse().ok()?), from_base64url(tag)?))
        };
        let Some((until, tag)) = parse() else { return false };
        let key = self.key();
        let genuine =
            |pin: &Digest| hmac::verify(&key, &message(&transfer.id, &transfer.peer, pin, until), &tag).is_ok();
        pins.iter().any(genuine) && now < until && transfer.token_until == Some(until)
    }
}

fn message(transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> Vec<u8> {
    format!("crosspark/transfer-token/v1\0{transfer}\0{to}\0{pin}\0{}", until.ms()).into_bytes()
}
