//! The peers' catalogs: read into a search index, incrementally where the peer reports changes, and searched in it.

use super::Discovery;
use crate::catalog::Offered;
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::json::{self, ld};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::{Member, Status};
use crate::index::{Batch, Cursor, IndexError, Page, Query};
use crate::node::Error;
use futures_util::StreamExt as _;
use serde_json::Value;

fn unavailable(error: IndexError) -> Error {
    Error::Unavailable(error.to_string())
}

impl Discovery {
    /// Updates the index from the catalogs of all active members, and removes those of others.
    pub async fn refresh_index(&self) {
        let trust = self.node.trust();
        // Peers refuse a suspended member.
        let active = trust.register.member(self.node.me()).is_some_and(|member| member.status == Status::Active);
        let other = |member: &&Member| member.id != *self.node.me() && member.status == Status::Active;
        let peers: Vec<Member> = trust.register.body().members.iter().filter(other).cloned().collect();
        if !active {
            return;
        }
        if let Err(error) = self.index.keep_only(peers.iter().map(|peer| peer.id.clone()).collect()).await {
            tracing::warn!(%error, "the catalogs of former members could not be removed from the search index");
        }
        // Concurrent, so that a slow peer does not delay the others.
        futures_util::stream::iter(&peers)
            .for_each_concurrent(limits::CATALOG_READS_MAX, |peer| async move {
                let read = tokio::time::timeout(limits::CATALOG_READ_TIME_MAX, self.read_catalog(peer)).await;
                let problem = match read {
                    Ok(Ok(())) => return,
                    Ok(Err(problem)) => problem,
                    Err(_) => "reading the catalog took too long".to_owned(),
                };
                tracing::debug!(peer = %peer.id, problem, "a peer's catalog could not be read");
                if let Err(error) = self.index.away(&peer.id, &problem, self.node.now()).await {
                    tracing::warn!(%error, "a failed catalog read could not be recorded in the search index");
                }
            })
            .await;
    }

    /// Removes a dataset that its provider withdrew from the index, before its catalog is read again.
    pub async fn forget(&self, peer: &ParticipantId, dataset: &DatasetId) {
        let gone = Batch { put: Vec::new(), gone: vec![dataset.clone()] };
        if let Err(error) = self.index.take(peer, gone, self.node.now()).await {
            tracing::warn!(%error, %peer, %dataset, "a withdrawn dataset could not be removed from the search index");
        }
    }

    /// Reads one catalog: the changes since the last read, or everything if this node's groups changed, the last full
    /// read is too old, or the peer does not report changes.
    async fn read_catalog(&self, peer: &Member) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (index, refresh) = (&self.index, self.node.now());
        let groups = self.rights();
        let before = index.cursor(&peer.id).await.map_err(|error| text(&error))?;
        // Time constraints of policies change a dataset's visibility without a reported change.
        let recent = |whole: Timestamp| refresh < whole.plus_ms(limits::CATALOG_FULL_REFRESH_MS);
        let before = before.filter(|cursor| cursor.groups == groups && recent(cursor.whole));
        let whole = before.as_ref().map_or(refresh, |cursor| cursor.whole);
        let since = before.and_then(|cursor| cursor.change).filter(|_| peer.connector.is_none());
        let (mut next, mut change) = (None::<String>, None);
        for n in 0..limits::CATALOG_PAGES_MAX {
            let page = self.peer.catalog(peer, since, next.as_deref()).await.map_err(|error| text(&error))?;
            if n == 0 {
                // Changes while the pages are read are included in the next read.
                change = page.body.get("crosspark:change").and_then(Value::as_u64);
            }
            let listed = ld::elements(page.body.get("dataset"));
            let mut put: Vec<Offered> = listed.filter_map(|dataset| Offered::from_dcat(dataset).ok()).collect();
            put.retain(|offered| json::to_canonical(offered).len() <= limits::INDEXED_DATASET_BYTES_MAX);
            let gone = page.body.get("crosspark:withdrawn").and_then(Value::as_array);
            let gone = gone.into_iter().flatten().take(limits::CATALOG_SCANNED_MAX);
            let gone = gone.filter_map(|id| DatasetId::parse(id.as_str()?).ok()).collect();
            let room = index.take(&peer.id, Batch { put, gone }, refresh).await.map_err(|error| text(&error))?;
            next = page.next.filter(|_| room);
            if next.is_none() {
                break;
            }
        }
        let whole = if since.is_none() { refresh } else { whole };
        index.complete(&peer.id, Cursor { change, groups, whole }, refresh).await.map_err(|error| text(&error))
    }

    /// This node's groups in the register, which determine the datasets that it can see.
    fn rights(&self) -> String {
        let trust = self.node.trust();
        let member = trust.register.member(self.node.me());
        member.map(|member| member.groups.iter().map(|g| g.as_str()).collect::<Vec<_>>().join("\n")).unwrap_or_default()
    }

    /// Searches the indexed catalogs.
    pub async fn search(&self, query: Query) -> Result<Page, Error> {
        let max = limits::SEARCH_CHARS_MAX;
        let texts = [Some(&query.words), query.schema.as_ref(), query.theme.as_ref()];
        if texts.into_iter().flatten().any(|text| text.chars().count() > max) {
            return Err(Error::invalid("query", format!("a search must have at most {max} characters")));
        }
        let mut page = self.index.search(query, self.node.now()).await.map_err(unavailable)?;
        self.mark_shared(page.datasets.iter_mut().map(|hit| &mut hit.offered));
        Ok(page)
    }

    /// The newest version of a peer's dataset, as its catalog was last read.
    pub async fn known_version(&self, peer: &ParticipantId, dataset: &DatasetId) -> Result<Option<u64>, Error> {
        self.index.version(peer, dataset).await.map_err(unavailable)
    }

    /// A peer's current catalog, and the number of datasets left out because they were not understood.
    pub async fn peer_catalog(&self, peer: &ParticipantId) -> Result<(Vec<Offered>, usize), Error> {
        let trust = self.node.trust();
        let member = trust.member(peer)?;
        let (mut read, mut unknown, mut next) = (Vec::new(), 0, None);
        for _ in 0..limits::CATALOG_PAGES_MAX {
            let page = self.peer.catalog(member, None, next.as_deref()).await;
            let page = page.map_err(|error| error.for_user(peer))?;
            for dataset in ld::elements(page.body.get("dataset")) {
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
        self.mark_shared(&mut read);
        Ok((read, unknown))
    }

    /// A dataset in a peer's catalog, read now.
    pub async fn peer_dataset(&self, peer: &ParticipantId, dataset: &DatasetId) -> Result<Offered, Error> {
        let trust = self.node.trust();
        let found = self.peer.dataset(trust.member(peer)?, dataset).await.map_err(|error| error.for_user(peer))?;
        let offered = Offered::from_dcat(&found).map_err(|error| Error::invalid("catalog", error.to_string()))?;
        if offered.dataset != *dataset {
            return Err(Error::invalid("catalog", "the provider answered with another dataset"));
        }
        let mut read = vec![offered];
        self.mark_shared(&mut read);
        Ok(read.remove(0))
    }
}
