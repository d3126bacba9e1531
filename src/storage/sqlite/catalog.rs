//! The catalog as visible to a set of audience keys. The cost of a page depends on its size, not on the number of
//! datasets.

use super::connection::{bodies, parse};
use crate::core::id::{DatasetId, ParticipantId};
use crate::storage::{CatalogChange, StoreError, VersionRow};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// The newest versions visible to one of `keys`, ordered by identifier, after `after`.
pub fn visible(
    connection: &Connection,
    keys: &[String],
    after: Option<&DatasetId>,
    limit: i64,
) -> Result<Vec<VersionRow>, StoreError> {
    // The part of each key is already ordered.
    let part = "SELECT * FROM (SELECT dataset FROM visible INDEXED BY visible_present
                WHERE key = ? AND gone = 0 AND dataset > ? ORDER BY dataset LIMIT ?)";
    let parts = vec![part; keys.len()].join(" UNION ");
    let after = after.map(DatasetId::to_string).unwrap_or_default();
    let mut values = Vec::new();
    for key in keys {
        values.extend([Value::from(key.clone()), after.clone().into(), limit.into()]);
    }
    values.push(limit.into());
    let sql = format!(
        "SELECT v.body FROM ({parts} ORDER BY dataset LIMIT ?) p
         JOIN version v ON v.dataset = p.dataset AND v.newest = 1 ORDER BY v.dataset"
    );
    bodies(connection, &sql, params_from_iter(values))
}

/// The changes of what `keys` may see, after `since`, in order.
pub fn changes(
    connection: &Connection,
    keys: &[String],
    since: u64,
    limit: i64,
) -> Result<Vec<CatalogChange>, StoreError> {
    // Rows that a later change of the same dataset supersedes, under any of the keys, are excluded before the parts are
    // limited: then each part is ordered, and all rows cut off come after those returned.
    let any = vec!["?"; keys.len()].join(", ");
    let part = format!(
        "SELECT * FROM (SELECT dataset, change, gone FROM visible v WHERE key = ? AND change > ?
         AND NOT EXISTS (SELECT 1 FROM visible w WHERE w.dataset = v.dataset AND w.change > v.change AND w.key IN ({any}))
         ORDER BY change LIMIT ?)"
    );
    let parts = vec![part.as_str(); keys.len()].join(" UNION ALL ");
    let mut values = Vec::new();
    for key in keys {
        values.extend([Value::from(key.clone()), (since as i64).into()]);
        values.extend(keys.iter().map(|key| Value::from(key.clone())));
        values.push(limit.into());
    }
    values.push(limit.into());
    // A dataset visible to any key is visible.
    let sql = format!(
        "SELECT p.dataset, MAX(p.change), MIN(p.gone), v.body FROM ({parts}) p
         LEFT JOIN version v ON v.dataset = p.dataset AND v.newest = 1
         GROUP BY p.dataset ORDER BY MAX(p.change), p.dataset LIMIT ?"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?, row.get(3)?))
    })?;
    rows.map(|row| {
        let (dataset, change, gone, body): (String, i64, bool, Option<String>) = row?;
        let dataset = DatasetId::parse(&dataset).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let version = body.filter(|_| !gone).as_deref().map(parse).transpose()?;
        Ok(CatalogChange { change: change as u64, dataset, version })
    })
    .collect()
}

/// The peers that have an agreement for a dataset.
pub fn holders(connection: &Connection, dataset: &DatasetId) -> Result<Vec<ParticipantId>, StoreError> {
    let sql = "SELECT DISTINCT peer FROM agreement WHERE json_extract(body, '$.agreement.dataset') = ?1";
    let mut select = connection.prepare_cached(sql)?;
    let peers = select.query_map([dataset.as_str()], |row| row.get::<_, String>(0))?;
    peers.map(|peer| ParticipantId::parse(&peer?).map_err(|error| StoreError::Corrupt(error.to_string()))).collect()
}
