//! The tokens under which data is served, and sealed bytes.

use super::super::access::counterparty;
use super::super::refusal::Error;
use super::super::release::ensure_not_withdrawn;
use super::super::{Counterparty, Node};
use super::moved;
use super::pull::Plain;
use crate::audit::entry::{Facts, Kind};
use crate::blob::{Blobs, name_of};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::time::Timestamp;
use crate::identity::key::base64url;
use crate::identity::register::{Member, Proof};
use crate::keys::Cell;
use crate::negotiation::Role;
use crate::transfer::{PULL, State, Transfer};
use ring::hmac;
use std::sync::Arc;

/// Data that may be served.
pub enum Data {
    /// As it was sealed.
    Sealed(Sealed),
    /// Plain.
    Plain(Box<Plain>),
}

/// Sealed bytes that may be served.
pub struct Sealed {
    /// The blob.
    pub file: std::fs::File,
    /// Its size.
    pub size: u64,
}

impl Node {
    /// The token of a started transfer: it names its end, and is bound to the transfer, its consumer, and the consumer's
    /// TLS key. It stands nowhere; it is derived when it is sent and when it is checked.
    pub fn transfer_token(&self, transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.parts.token_key[..]);
        let tag = hmac::sign(&key, &token_text(transfer, to, pin, until));
        format!("{}.{}", until.ms(), base64url(tag.as_ref()))
    }

    fn token_is_good(&self, token: &str, transfer: &Transfer, from: &Counterparty) -> bool {
        let parse = |token: &str| {
            let (until, tag) = token.split_once('.')?;
            Some((Timestamp::from_ms(until.parse().ok()?), crate::identity::key::from_base64url(tag)?))
        };
        let Some((until, tag)) = parse(token) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.parts.token_key[..]);
        // Any of the member's keys will do: it may have changed to a new one since the token was made. Constant time.
        let genuine =
            |pin: &Digest| hmac::verify(&key, &token_text(&transfer.id, &from.participant, pin, until), &tag).is_ok();
        let pins = self.trust().register.member(&from.participant).map(|member| member.pins(self.now()));
        pins.is_some_and(|pins| pins.iter().any(genuine)) && self.now() < until && transfer.token_until == Some(until)
    }

    /// The connector that a transfer is for, if it proves itself by tokens: at the data plane the transfer's token is all
    /// that it shows, as its `Authorization` has no room for two.
    pub async fn connector_of(self: &Arc<Self>, id: &ProcessId) -> Result<Option<Counterparty>, Error> {
        let Some(transfer) = self.parts.store.transfer(id).await? else { return Ok(None) };
        let trust = self.trust();
        let member = trust.register.member(&transfer.peer);
        let by_token = |member: &&Member| member.connector.as_ref().is_some_and(|c| c.proof == Proof::Token);
        member
            .filter(by_token)
            .map(|member| self.on_a_current_register(counterparty(member, &trust), &trust))
            .transpose()
    }

    /// Provider: the data of a transfer, if its token is good and it is under way.
    pub async fn serve_data(
        self: &Arc<Self>,
        from: &Counterparty,
        id: &ProcessId,
        token: Option<&str>,
    ) -> Result<Data, Error> {
        let mut facts = Facts { process: Some(id.clone()), ..Facts::default() };
        match self.try_serve(from, id, token, &mut facts).await {
            Ok(served) => Ok(served),
            Err(error) => Err(self.refuse(from, Kind::DataRefused, facts, error).await),
        }
    }

    async fn try_serve(
        self: &Arc<Self>,
        from: &Counterparty,
        id: &ProcessId,
        token: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Data, Error> {
        // While the state here may be an old one, nothing is served by it.
        self.ensure_writable()?;
        let transfer = self.parts.store.transfer(id).await?;
        let transfer = transfer.filter(|t| t.peer == from.participant && t.role == Role::Provider);
        let transfer = transfer.ok_or_else(|| Error::not_found(format!("there is no transfer {id}")))?;
        if !token.is_some_and(|token| self.token_is_good(token, &transfer, from)) {
            return Err(Error::forbidden("token", "the transfer token is missing, wrong or expired"));
        }
        let row = self.parts.store.agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| Error::Internal("a transfer without agreement".into()))?;
        *facts = moved(&transfer, Role::Provider, Some(&row));
        if transfer.state != State::Started {
            return Err(Error::forbidden("state", format!("the transfer is {}", transfer.state.name())));
        }
        if !row.agreement.is_valid(self.now()) {
            return Err(Error::forbidden("agreement", "the agreement has ended"));
        }
        if transfer.format == PULL {
            return self.serve_plain(from, transfer, row, facts).await.map(|plain| Data::Plain(Box::new(plain)));
        }
        let manifest = row.agreement.manifest.ok_or_else(|| Error::Internal("no manifest".into()))?;
        let version = self.parts.store.version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version is gone"))?;
        ensure_not_withdrawn(&version)?;
        let file = self.parts.blobs.read(&name_of(&version.blob));
        let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
        Ok(Data::Sealed(Sealed { file, size: version.bytes }))
    }
}

impl Sealed {
    /// Reads a range.
    pub fn range(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        Blobs::range(&self.file, offset, length)
    }
}

fn token_text(transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> Vec<u8> {
    format!("crosspark/transfer-token/v1\0{transfer}\0{to}\0{pin}\0{}", until.ms()).into_bytes()
}

/// Where a consumer's copy of a token is wrapped.
pub fn token_cell(transfer: &ProcessId) -> Cell<'_> {
    Cell { table: "process", row: transfer.as_str(), column: "token" }
}
