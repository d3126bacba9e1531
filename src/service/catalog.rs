//! The catalog: what a peer may see here, and what this node may see at a peer.

use super::refusal::Error;
use super::{Counterparty, Node};
use crate::audit::entry;
use crate::catalog::{self, Offered};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::limits;
use crate::dataset::manifest::Manifest;
use crate::identity::document;
use crate::policy::{Channel, Decision, Facts, Policy};
use crate::storage::VersionRow;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Datasets on one page of the catalog.
const PAGE: usize = 100;

impl Node {
    /// What the policy of a stored offer says of a peer before purpose and person are known.
    fn visible(&self, row: &VersionRow, to: &Counterparty) -> bool {
        let (recipient, groups, now) = (&to.participant, &to.groups, self.now());
        let facts = Facts { recipient, groups, purpose: None, now, used: 0, channel: None, approved: false };
        // A policy that this version no longer understands shows nothing.
        Policy::from_value(&row.policy).is_ok_and(|policy| !matches!(policy.evaluate(&facts), Decision::Refused { .. }))
    }

    /// A page of the catalog as `to` may see it, as DCAT, and where the next one begins.
    pub async fn catalog(
        &self,
        to: &Counterparty,
        after: Option<&DatasetId>,
    ) -> Result<(Value, Option<DatasetId>), Error> {
        let mut seen: Vec<Offered> = Vec::new();
        let mut after = after.cloned();
        loop {
            let rows = self.parts.store.datasets(after.as_ref(), limits::PAGE_ROWS_MAX).await?;
            let last = rows.len() < limits::PAGE_ROWS_MAX;
            for row in rows {
                if seen.len() == PAGE {
                    return Ok((catalog::to_dcat(self.me(), &self.dsp_endpoint(), &seen), after));
                }
                after = Some(row.dataset.clone());
                if self.visible(&row, to) {
                    seen.push(offered(row));
                }
            }
            if last {
                return Ok((catalog::to_dcat(self.me(), &self.dsp_endpoint(), &seen), None));
            }
        }
    }

    /// One dataset as `to` may see it. Unknown and hidden look alike.
    pub async fn catalog_dataset(self: &Arc<Self>, to: &Counterparty, id: &DatasetId) -> Result<Value, Error> {
        let row = self.parts.store.dataset(id).await?;
        match row.filter(|row| self.visible(row, to)) {
            Some(row) => Ok(offered(row).to_dcat(&self.dsp_endpoint())),
            None => {
                let facts = entry::Facts { dataset: Some(id.clone()), ..entry::Facts::default() };
                let error = Error::not_found(format!("there is no dataset {id} for {}", to.participant));
                Err(self.refuse(to, entry::Kind::AccessRefused, facts, error).await)
            }
        }
    }

    fn dsp_endpoint(&self) -> String {
        self.parts.endpoint.join("/dsp/2025-1")
    }

    /// A manifest, to those who have an agreement on it or may see its offer.
    pub async fn manifest_for(self: &Arc<Self>, to: &Counterparty, digest: &Digest) -> Result<String, Error> {
        let row = self.parts.store.version_by_manifest(digest).await?;
        if let Some(row) = row {
            let agreed = self.parts.store.has_agreement_on(&to.participant, digest).await?;
            if agreed || self.visible(&row, to) {
                return self.manifest_as_signed_now(&row).await;
            }
        }
        let facts =
            entry::Facts { detail: super::refusal::detail("manifest", digest.to_string()), ..entry::Facts::default() };
        let error = Error::not_found(format!("there is no manifest {digest} for {}", to.participant));
        Err(self.refuse(to, entry::Kind::AccessRefused, facts, error).await)
    }

    /// A version's manifest under a document key that others believe: once the key that signed it has ended, the present
    /// one signs the very payload, so that its digest and every agreement on it stay. trust.md, "The log".
    pub(super) async fn manifest_as_signed_now(&self, row: &VersionRow) -> Result<String, Error> {
        let unknown =
            || Error::Internal(format!("the manifest {} is signed with no key of this node", row.manifest_digest));
        let signer = document::claimed_signer(&row.manifest).ok_or_else(unknown)?;
        if self.own_key(&signer).is_some() {
            return Ok(row.manifest.clone());
        }
        let then = self.document_key_then(&signer, row.published).await;
        let signed = document::verify::<Manifest>(&row.manifest, |kid| then.filter(|_| *kid == signer));
        let signed = signed.map_err(|error| Error::Internal(error.to_string()))?;
        if signed.digest() != row.manifest_digest {
            return Err(unknown());
        }
        Ok(document::countersign(&signed, &self.document_key()))
    }

    /// This node's own datasets.
    pub async fn own_datasets(&self, after: Option<&DatasetId>, limit: usize) -> Result<Vec<Offered>, Error> {
        let rows = self.parts.store.datasets(after, limit).await?;
        Ok(rows.into_iter().map(offered).collect())
    }

    /// What a peer offers to this node. Datasets of other connectors that we do not understand are left out, counted.
    pub async fn peer_catalog(&self, peer: &ParticipantId) -> Result<(Vec<Offered>, usize), Error> {
        let trust = self.trust();
        let member = trust.member(peer)?;
        let catalog = self.parts.peer.catalog(member).await.map_err(|error| peer_error(peer, &error))?;
        let datasets = catalog.get("dataset").and_then(Value::as_array).cloned().unwrap_or_default();
        let read: Vec<Offered> = datasets.iter().filter_map(|dataset| Offered::from_dcat(dataset).ok()).collect();
        let unknown = datasets.len() - read.len();
        Ok((read, unknown))
    }
}

/// A peer's answer as an error of this node's user.
pub fn peer_error(peer: &ParticipantId, error: &super::ports::PeerError) -> Error {
    match error {
        super::ports::PeerError::Refused { .. } if !error.is_passing() => {
            Error::invalid("peer", format!("{peer} {error}"))
        }
        _ => Error::Unavailable(format!("{peer} {error}")),
    }
}

fn offered(row: VersionRow) -> Offered {
    let policy = Policy::from_value(&row.policy).ok();
    let permissions = policy.iter().flat_map(Policy::permissions);
    let channels: BTreeSet<Channel> = permissions.flat_map(|permission| permission.channels()).collect();
    Offered {
        formats: channels.into_iter().map(|channel| channel.name().to_owned()).collect(),
        dataset: row.dataset,
        title: row.title,
        description: row.description,
        offer: row.offer,
        policy: row.policy,
        version: row.version,
        manifest: row.manifest_digest,
        schema: row.schema,
        records: row.records,
        bytes: row.bytes,
        published: row.published,
    }
}
