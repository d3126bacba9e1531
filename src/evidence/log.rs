//! Reading this node's log: entries for its auditors, openings for the parties of an entry, checkpoints and tiles for
//! everyone.

use super::Evidence;
use crate::audit::entry::{Facts, Kind, Opening};
use crate::audit::tile::{TileId, WIDTH};
use crate::core::id::EntryId;
use crate::core::limits;
use crate::node::{Counterparty, Error, detail};
use crate::storage::EntryRow;
use serde_json::Value;

/// Bytes of one hash in a tile.
const HASH_BYTES: usize = 32;

impl Evidence {
    /// Entries from index `from`, for this node's auditors.
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryRow>, Error> {
        Ok(self.node.store().entries(from, limit.min(limits::PAGE_ROWS_MAX)).await?)
    }

    /// The opening of an entry for one of its parties, without personal values.
    pub async fn opening_for(&self, from: &Counterparty, id: &EntryId) -> Result<Opening, Error> {
        let found = self.node.store().opening(id).await?;
        let concerned = |opening: &Opening| {
            let parties = opening.entry.get("parties").and_then(Value::as_array);
            parties.into_iter().flatten().any(|party| party.as_str() == Some(from.participant.as_str()))
        };
        match found.filter(concerned) {
            Some(opening) => Ok(Opening { fields: Vec::new(), ..opening }),
            None => {
                let facts = Facts { detail: detail("entry", id.to_string()), ..Facts::default() };
                let error = Error::not_found(format!("there is no entry {id} for {}", from.participant));
                Err(self.node.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }

    /// The newest checkpoint.
    pub async fn checkpoint(&self) -> Result<Option<String>, Error> {
        Ok(self.node.store().checkpoint().await?)
    }

    /// A tile. C2SP tlog-tiles 0.1.0, "Merkle Tree".
    pub async fn tile(&self, id: &TileId) -> Result<Option<Vec<u8>>, Error> {
        let stored = self.node.store().tile(id.level, id.index).await?;
        Ok(stored.and_then(|bytes| bytes.get(..usize::from(id.width) * HASH_BYTES).map(<[u8]>::to_vec)))
    }

    /// An entry bundle: each leaf with a 16-bit length prefix. C2SP tlog-tiles 0.1.0, "Log Entries".
    pub async fn bundle(&self, index: u64, width: u16) -> Result<Option<Vec<u8>>, Error> {
        let leaves = self.node.store().leaves(index * WIDTH, usize::from(width)).await?;
        let complete = leaves.len() == usize::from(width);
        let bundle = leaves.iter().flat_map(|leaf| [&(leaf.len() as u16).to_be_bytes()[..], leaf].concat());
        Ok(complete.then(|| bundle.collect()))
    }

    /// Signs a checkpoint over all entries and accepts no more, before the node stops.
    pub async fn close(&self) -> Result<(), Error> {
        self.node.flush_counted_refusals().await;
        Ok(self.node.store().close().await?)
    }

    /// Logs the refusals counted since the last call.
    pub async fn flush_counted_refusals(&self) {
        self.node.flush_counted_refusals().await;
    }
}
