//! The log for those who may read it.

use super::refusal::Error;
use super::{Counterparty, Node};
use crate::audit::entry::{Facts, Kind, Opening};
use crate::core::id::EntryId;
use crate::core::limits;
use crate::storage::EntryRow;
use serde_json::Value;
use std::sync::Arc;

impl Node {
    /// Entries from index `from`, for this node's auditors.
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryRow>, Error> {
        Ok(self.parts.store.entries(from, limit.min(limits::PAGE_ROWS_MAX)).await?)
    }

    /// The opening of an entry for a party that it concerns; personal values stay closed.
    pub async fn opening_for(self: &Arc<Self>, from: &Counterparty, id: &EntryId) -> Result<Opening, Error> {
        let found = self.parts.store.opening(id).await?;
        let concerned = |opening: &Opening| {
            let parties = opening.entry.get("parties").and_then(Value::as_array);
            parties.into_iter().flatten().any(|party| party.as_str() == Some(from.participant.as_str()))
        };
        match found.filter(concerned) {
            Some(opening) => Ok(Opening { fields: Vec::new(), ..opening }),
            None => {
                let facts = Facts { detail: super::refusal::detail("entry", id.to_string()), ..Facts::default() };
                let error = Error::not_found(format!("there is no entry {id} for {}", from.participant));
                Err(self.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }
}
