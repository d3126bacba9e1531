//! The catalog: what a peer may see here, and what this node may see at a peer.

use super::refusal::Error;
use super::{Counterparty, Node};
use crate::audit::entry;
use crate::catalog::{self, Filter, Offered};
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::limits;
use crate::dataset::manifest::Manifest;
use crate::identity::document;
use crate::policy::{Channel, Decision, EVERYBODY, Facts, Policy};
use crate::storage::VersionRow;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A page of the catalog.
pub struct CatalogPage {
    /// As DCAT.
    pub catalog: Value,
    /// Where the next one begins.
    pub next: Option<PageStart>,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// After this dataset.
    After(DatasetId),
    /// After this change.
    Since(u64),
}

/// What may be looked up for a member, before its policies are asked: at most so many groups.
const KEYS_MAX: usize = 100;

fn keys_of(to: &Counterparty) -> Vec<String> {
    let groups = to.groups.iter().map(|group| format!("g:{group}"));
    let own = [EVERYBODY.to_owned(), format!("p:{}", to.participant)];
    own.into_iter().chain(groups).take(KEYS_MAX).collect()
}

impl Node {
    /// A stored offer as a peer may see it before purpose and person are known; none if it may not see it at all.
    fn seen_by(&self, row: VersionRow, to: &Counterparty) -> Option<Offered> {
        let (recipient, groups, now) = (&to.participant, &to.groups, self.now());
        let facts = Facts { recipient, groups, purpose: None, now, used: 0, channel: None, approved: false };
        // A policy that this version no longer understands shows nothing.
        let said = Policy::from_value(&row.policy).ok()?.evaluate(&facts);
        let (listed, mut offered) = (row.about.listed, offered(row));
        if let Decision::Refused { reason, .. } = said {
            offered.refused = Some(reason);
        }
        (offered.refused.is_none() || listed).then_some(offered)
    }

    /// A page of the catalog as `to` may see it. DSP 2025-1, "Catalog Request Message".
    pub async fn catalog(
        &self,
        to: &Counterparty,
        filter: &Filter,
        start: Option<&PageStart>,
    ) -> Result<CatalogPage, Error> {
        // Taken before anything is read: what changes meanwhile is read again next time.
        let change = self.parts.store.last_change().await?;
        let since = match start {
            Some(PageStart::Since(since)) => Some(*since),
            _ => filter.since,
        };
        let (found, gone, next) = match since {
            Some(since) => self.changed_for(to, filter, since).await?,
            None => self.listed_for(to, filter, start).await?,
        };
        let mut catalog = catalog::to_dcat(self.me(), &self.dsp_endpoint(), &found);
        catalog["crosspark:change"] = change.into();
        if !gone.is_empty() {
            catalog["crosspark:withdrawn"] = serde_json::json!(gone);
        }
        Ok(CatalogPage { catalog, next })
    }

    async fn listed_for(
        &self,
        to: &Counterparty,
        filter: &Filter,
        start: Option<&PageStart>,
    ) -> Result<(Vec<Offered>, Vec<DatasetId>, Option<PageStart>), Error> {
        let keys = keys_of(to);
        let mut after = match start {
            Some(PageStart::After(id)) => Some(id.clone()),
            _ => None,
        };
        let mut seen: Vec<Offered> = Vec::new();
        for _ in 0..limits::CATALOG_SCANNED_MAX / limits::CATALOG_PAGE_DATASETS {
            let rows = self.parts.store.visible(&keys, after.as_ref(), limits::CATALOG_PAGE_DATASETS).await?;
            let last = rows.len() < limits::CATALOG_PAGE_DATASETS;
            for row in rows {
                if seen.len() == limits::CATALOG_PAGE_DATASETS {
                    return Ok((seen, Vec::new(), after.map(PageStart::After)));
                }
                after = Some(row.dataset.clone());
                seen.extend(self.seen_by(row, to).filter(|offered| filter.passes(offered)));
            }
            if last {
                return Ok((seen, Vec::new(), None));
            }
        }
        Ok((seen, Vec::new(), after.map(PageStart::After)))
    }

    async fn changed_for(
        &self,
        to: &Counterparty,
        filter: &Filter,
        since: u64,
    ) -> Result<(Vec<Offered>, Vec<DatasetId>, Option<PageStart>), Error> {
        let rows = self.parts.store.changes(&keys_of(to), since, limits::CATALOG_PAGE_DATASETS).await?;
        let full = rows.len() == limits::CATALOG_PAGE_DATASETS;
        let next = rows.last().filter(|_| full).map(|last| PageStart::Since(last.change));
        let (mut seen, mut gone) = (Vec::new(), Vec::new());
        for row in rows {
            // What nobody in this place could ever see is not named.
            let first = row.version.as_ref().is_some_and(|version| version.version == 1);
            match row.version.and_then(|version| self.seen_by(version, to)) {
                Some(offered) => seen.extend(Some(offered).filter(|offered| filter.passes(offered))),
                None if first => {}
                None => gone.push(row.dataset),
            }
        }
        Ok((seen, gone, next))
    }

    /// One dataset as `to` may see it. Unknown and hidden look alike.
    pub async fn catalog_dataset(self: &Arc<Self>, to: &Counterparty, id: &DatasetId) -> Result<Value, Error> {
        let row = self.parts.store.dataset(id).await?;
        match row.and_then(|row| self.seen_by(row, to)) {
            Some(offered) => Ok(offered.to_dcat(&self.dsp_endpoint())),
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
            let seen = || self.seen_by(row.clone(), to).is_some_and(|offered| offered.refused.is_none());
            if agreed || seen() {
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

    /// What a peer offers to this node, read now. Datasets that are not understood are left out, counted.
    pub async fn peer_catalog(&self, peer: &ParticipantId) -> Result<(Vec<Offered>, usize), Error> {
        let trust = self.trust();
        let member = trust.member(peer)?;
        let (mut read, mut unknown, mut next) = (Vec::new(), 0, None);
        for _ in 0..limits::CATALOG_PAGES_MAX {
            let page = self.parts.peer.catalog(member, None, next.as_deref()).await;
            let page = page.map_err(|error| peer_error(peer, &error))?;
            let datasets = page.body.get("dataset").and_then(Value::as_array);
            for dataset in datasets.into_iter().flatten() {
                match Offered::from_dcat(dataset) {
                    Ok(offered) => read.push(offered),
                    Err(_) => unknown += 1,
                }
            }
            next = page.next.filter(|_| read.len() + unknown < limits::CATALOG_DATASETS_MAX);
            if next.is_none() {
                break;
            }
        }
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
        version: Some(row.version),
        manifest: Some(row.manifest_digest),
        schema: Some(row.schema),
        records: Some(row.records),
        bytes: Some(row.bytes),
        published: Some(row.published),
        about: row.about,
        refused: None,
    }
}
