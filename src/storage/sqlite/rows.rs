//! Rows that are not a body alone.

use super::connection::parse;
use super::log;
use crate::core::digest::Digest;
use crate::storage::{EntryRow, Outgoing, SchemaRow, StoreError};
use rusqlite::{Connection, OptionalExtension, Row};

/// A log entry from its columns, with the openings of its fields.
pub fn entry_row(connection: &Connection, row: (i64, String, [u8; 32], [u8; 32])) -> Result<EntryRow, StoreError> {
    let (index, text, leaf, salt) = row;
    let entry: serde_json::Value = parse(&text)?;
    let id = entry.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
    let fields = log::fields(connection, id)?;
    Ok(EntryRow { index: index as u64, entry, leaf: Digest::from_bytes(leaf), salt, fields })
}

/// Index, text, leaf and salt of an entry.
pub fn entry_columns(row: &Row<'_>) -> rusqlite::Result<(i64, String, [u8; 32], [u8; 32])> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

/// The columns of a schema without its text.
pub const SCHEMA_COLUMNS: &str = "digest, id, version, title, statement";

/// A schema from its columns.
pub fn schema_row(row: &Row<'_>) -> Result<SchemaRow, StoreError> {
    let digest = Digest::parse(&row.get::<_, String>(0)?).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(SchemaRow { digest, id: row.get(1)?, version: row.get(2)?, title: row.get(3)?, statement: row.get(4)? })
}

/// A message of the outbox.
pub fn message(connection: &Connection, which: &str, value: &str) -> Result<Option<Outgoing>, StoreError> {
    let mut select =
        connection.prepare_cached(&format!("SELECT body, attempts, conflicts, failure FROM outbox {which}"))?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let found = select.query_row([value], row).optional()?;
    let outgoing = |(text, attempts, conflicts, failure): (String, u32, u32, String)| {
        Ok(Outgoing { attempts, conflicts, failure, ..parse(&text)? })
    };
    found.map(outgoing).transpose()
}
