//! The provider's data plane: sealed and plain data under a transfer token.

use super::DataPlane;
use super::evaluation::{ensure_not_withdrawn, state_code};
use super::facts::transition_facts;
use super::plain::Plain;
use crate::audit::entry::{Facts, Kind};
use crate::blob::{Blobs, name_of};
use crate::core::id::ProcessId;
use crate::negotiation::Role;
use crate::node::{Counterparty, Error};
use crate::transfer::{PULL, State};
use std::sync::Arc;

/// Data that may be served.
pub enum Data {
    /// Sealed data.
    Sealed(Sealed),
    /// Plain data.
    Plain(Box<Plain>),
}

/// Sealed bytes that may be served.
pub struct Sealed {
    /// File of the blob.
    pub file: std::fs::File,
    /// Size in bytes.
    pub size: u64,
}

impl DataPlane {
    /// The consumer of a transfer, if it is a connector that authenticates with tokens.
    pub async fn connector_of(&self, id: &ProcessId) -> Result<Option<Counterparty>, Error> {
        match self.node.store().transfer(id).await? {
            Some(transfer) => self.membership.token_connector(&transfer.peer),
            None => Ok(None),
        }
    }

    /// The data of a started transfer, for a valid token.
    pub async fn serve_data(
        self: &Arc<Self>,
        from: &Counterparty,
        id: &ProcessId,
        token: Option<&str>,
    ) -> Result<Data, Error> {
        let mut facts = Facts { process: Some(id.clone()), ..Facts::default() };
        match self.try_serve(from, id, token, &mut facts).await {
            Ok(served) => Ok(served),
            Err(error) => Err(self.node.refuse(from, Kind::DataRefused, facts, error).await),
        }
    }

    async fn try_serve(
        self: &Arc<Self>,
        from: &Counterparty,
        id: &ProcessId,
        token: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Data, Error> {
        // In read-only mode the local state may be outdated: nothing is served.
        self.node.ensure_writable()?;
        let transfer = self.node.store().transfer(id).await?;
        let transfer = transfer.filter(|t| t.peer == from.participant && t.role == Role::Provider);
        let transfer = transfer.ok_or_else(|| Error::not_found(format!("there is no transfer {id}")))?;
        let pins = self.node.trust().register.member(&from.participant).map(|member| member.pins(self.node.now()));
        let pins = pins.unwrap_or_default();
        if !token.is_some_and(|token| self.tokens.is_valid(token, &transfer, &pins, self.node.now())) {
            return Err(Error::forbidden("token", "the transfer token is missing, wrong or expired"));
        }
        let row = self.node.store().agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| Error::Internal("a transfer has no agreement".into()))?;
        *facts = transition_facts(&transfer, Role::Provider, Some(&row));
        if transfer.state != State::Started {
            return Err(Error::forbidden(
                state_code(transfer.state),
                format!("the transfer is {}, not STARTED", transfer.state.name()),
            ));
        }
        if !row.agreement.is_valid(self.node.now()) {
            return Err(Error::forbidden("agreement", "the agreement has ended"));
        }
        if transfer.format == PULL {
            return self.serve_plain(from, transfer, row, facts).await.map(|plain| Data::Plain(Box::new(plain)));
        }
        let manifest =
            row.agreement.manifest.ok_or_else(|| Error::Internal("the agreement names no manifest".into()))?;
        let version = self.node.store().version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version no longer exists"))?;
        ensure_not_withdrawn(&version)?;
        let file = self.published.read(&name_of(&version.blob));
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
