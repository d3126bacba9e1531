//! This node's catalog for its peers.

use super::Discovery;
use super::visibility::{audience_keys, offered, visible_offer};
use crate::audit::entry::{Facts, Kind};
use crate::catalog::{self, Filter, Offered, Part};
use crate::core::id::DatasetId;
use crate::core::limits;
use crate::node::{Counterparty, Error};
use serde_json::Value;

/// A page of the catalog.
pub struct CatalogPage {
    /// DCAT catalog.
    pub catalog: Value,
    /// Start of the next page.
    pub next: Option<PageStart>,
}

/// Start of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// After this dataset.
    After(DatasetId),
    /// After this catalog change.
    Since(u64),
}

impl Discovery {
    /// A page of the catalog visible to `to`. DSP 2025-1, "Catalog Request Message".
    pub async fn catalog(
        &self,
        to: &Counterparty,
        filter: &Filter,
        start: Option<&PageStart>,
    ) -> Result<CatalogPage, Error> {
        // Read first: changes during the request are then included in the peer's next incremental read.
        let change = self.node.store().last_change().await?;
        let since = match start {
            Some(PageStart::Since(since)) => Some(*since),
            _ => filter.since,
        };
        // A page that follows another one begins after it.
        let part = filter.part.filter(|_| start.is_none()).unwrap_or(Part { offset: 0, limit: usize::MAX });
        let (found, gone, next) = match since {
            Some(since) => self.changed_for(to, filter, since).await?,
            None => self.listed_for(to, filter, start, part).await?,
        };
        let mut catalog = catalog::to_dcat(self.node.me(), &self.dsp_endpoint(), &found);
        catalog["crosspark:change"] = change.into();
        if !gone.is_empty() {
            catalog["crosspark:withdrawn"] = serde_json::json!(gone);
        }
        Ok(CatalogPage { catalog, next })
    }

    /// The visible datasets in `part` of those after `start`; examines a limited number of rows.
    async fn listed_for(
        &self,
        to: &Counterparty,
        filter: &Filter,
        start: Option<&PageStart>,
        part: Part,
    ) -> Result<(Vec<Offered>, Vec<DatasetId>, Option<PageStart>), Error> {
        let keys = audience_keys(to);
        let mut after = match start {
            Some(PageStart::After(id)) => Some(id.clone()),
            _ => None,
        };
        let limit = part.limit.min(limits::CATALOG_PAGE_DATASETS);
        let (mut seen, mut skip): (Vec<Offered>, usize) = (Vec::new(), part.offset);
        for _ in 0..(limits::CATALOG_SCANNED_MAX + part.offset) / limits::CATALOG_PAGE_DATASETS {
            let rows = self.node.store().visible(&keys, after.as_ref(), limits::CATALOG_PAGE_DATASETS).await?;
            let last = rows.len() < limits::CATALOG_PAGE_DATASETS;
            for row in rows {
                if seen.len() == limit {
                    return Ok((seen, Vec::new(), after.map(PageStart::After)));
                }
                after = Some(row.dataset.clone());
                let found = visible_offer(row, to, self.node.now()).filter(|offered| filter.passes(offered));
                match found {
                    Some(_) if skip > 0 => skip -= 1,
                    found => seen.extend(found),
                }
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
        let rows = self.node.store().changes(&audience_keys(to), since, limits::CATALOG_PAGE_DATASETS).await?;
        let full = rows.len() == limits::CATALOG_PAGE_DATASETS;
        let next = rows.last().filter(|_| full).map(|last| PageStart::Since(last.change));
        let (mut seen, mut gone) = (Vec::new(), Vec::new());
        for row in rows {
            // A first version that is hidden was never visible to this member, so its withdrawal must not reveal it.
            let first = row.version.as_ref().is_some_and(|version| version.version == 1);
            match row.version.and_then(|version| visible_offer(version, to, self.node.now())) {
                Some(offered) => seen.extend(Some(offered).filter(|offered| filter.passes(offered))),
                None if first => {}
                None => gone.push(row.dataset),
            }
        }
        Ok((seen, gone, next))
    }

    /// A dataset visible to `to`. Unknown and hidden datasets get the same answer.
    pub async fn catalog_dataset(&self, to: &Counterparty, id: &DatasetId) -> Result<Value, Error> {
        let row = self.node.store().dataset(id).await?;
        match row.and_then(|row| visible_offer(row, to, self.node.now())) {
            Some(offered) => Ok(offered.to_dcat(&self.dsp_endpoint())),
            None => {
                let facts = Facts { dataset: Some(id.clone()), ..Facts::default() };
                let error = Error::not_found(format!("there is no dataset {id} for {}", to.participant));
                Err(self.node.refuse(to, Kind::AccessRefused, facts, error).await)
            }
        }
    }

    fn dsp_endpoint(&self) -> String {
        self.node.endpoint().join("/dsp/2025-1")
    }

    /// This node's own datasets.
    pub async fn own_datasets(&self, after: Option<&DatasetId>, limit: usize) -> Result<Vec<Offered>, Error> {
        let rows = self.node.store().datasets(after, limit).await?;
        let mut own: Vec<Offered> = rows.into_iter().map(offered).collect();
        self.mark_shared(&mut own);
        Ok(own)
    }
}
