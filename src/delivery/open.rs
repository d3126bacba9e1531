//! Opening delivered datasets for users of this node. The log entry is committed before the first byte of plaintext is
//! returned.

use super::Downloads;
use super::downloads::key_cell;
use super::facts::token_cell;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::id::{AgreementId, ProcessId};
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::Package;
use crate::identity::document::{self, Signed};
use crate::identity::register::Status;
use crate::negotiation::Subject;
use crate::node::{Error, PlainData, User, details};
use crate::schema::Schema;
use crate::storage::{Change, Holding};
use crate::transfer::Transfer;
use serde_json::{Value, json};
use std::fs::File;

/// A delivered dataset, opened.
pub enum Opened {
    /// A verified dataset in this node's storage.
    Kept(Box<(Package<File>, Holding)>),
    /// Plain data streamed from the provider.
    Plain(PlainData),
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

impl Downloads {
    /// Opens a verified dataset.
    pub async fn open(&self, user: &User, subject: &Subject, holding: Holding) -> Result<Opened, Error> {
        let wrapped = holding
            .wrapped_key
            .as_deref()
            .ok_or_else(|| Error::not_found("the data key of this dataset was destroyed"))?;
        let key = self.kek.unwrap(key_cell(&holding.id), wrapped).map_err(internal)?;
        let key = DataKey::from_slice(&key).ok_or_else(|| internal("a stored data key does not have 32 bytes"))?;
        let manifest = self.manifest_of(&holding).await?;
        let file = self.received.read(holding.id.as_str());
        let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
        let package = Package::open(file, &key, manifest.body()).map_err(internal)?;
        let detail = json!({"holding": holding.id, "token": user.token});
        self.log_opening(user, subject, &holding.transfer, &holding.agreement, detail).await?;
        Ok(Opened::Kept(Box::new((package, holding))))
    }

    /// Streams plain data from the provider; this node does not store it.
    pub async fn open_plain(&self, user: &User, subject: &Subject, transfer: Transfer) -> Result<Opened, Error> {
        let trust = self.node.trust();
        let provider = trust.member(&transfer.peer)?;
        let address = transfer.data.clone().ok_or_else(|| internal("a transfer has no data address"))?;
        // The register may have changed since the address was accepted.
        if !provider.has_data_at(&address) || provider.status != Status::Active {
            let reason =
                format!("the register no longer lists {address} for {}, or the member is suspended", provider.id);
            return Err(Error::forbidden("register", reason));
        }
        let token = match &transfer.wrapped_token {
            Some(wrapped) => {
                let token = self.kek.unwrap(token_cell(&transfer.id), wrapped).map_err(internal)?;
                Some(String::from_utf8(token.to_vec()).map_err(internal)?)
            }
            None => None,
        };
        let detail = json!({"plain": true, "token": user.token});
        self.log_opening(user, subject, &transfer.id, &transfer.agreement, detail).await?;
        let pulled = self.peer.pull(provider, &address, token.as_deref()).await;
        pulled.map(Opened::Plain).map_err(|error| error.for_user(&transfer.peer))
    }

    /// The schema of a holding's records.
    pub async fn schema_of(&self, holding: &Holding) -> Result<Schema, Error> {
        let digest = self.manifest_of(holding).await?.body().schema.digest;
        // It was vouched for when the dataset was received.
        let known = self.schemas.get(&digest).await?;
        known
            .map(|compiled| compiled.schema.clone())
            .ok_or_else(|| Error::not_found("this node does not know the schema of the dataset"))
    }

    /// The manifest of a holding, verified against the register that was current when the holding was last updated.
    pub async fn manifest_of(&self, holding: &Holding) -> Result<Signed<Manifest>, Error> {
        let signer = document::claimed_signer(&holding.manifest).ok_or_else(|| internal("a manifest has no signer"))?;
        let key = self.membership.document_key_at(&signer, holding.updated).await;
        document::verify::<Manifest>(&holding.manifest, |kid| key.filter(|_| *kid == signer)).map_err(internal)
    }

    async fn log_opening(
        &self,
        user: &User,
        subject: &Subject,
        transfer: &ProcessId,
        agreement: &AgreementId,
        detail: Value,
    ) -> Result<(), Error> {
        let facts = Facts {
            parties: Vec::new(),
            dataset: Some(subject.dataset.clone()),
            process: Some(transfer.clone()),
            agreement: Some(agreement.clone()),
            enterprise: user.enterprise.clone(),
            purpose: subject.purpose.clone(),
            detail: details(detail),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let entry = self.node.draft(Kind::DatasetOpened, facts).with_field(person);
        self.node.store().commit(Change::new(entry)).await?;
        Ok(())
    }
}
