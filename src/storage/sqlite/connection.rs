//! Connections, and reading JSON from their rows.

use crate::storage::StoreError;
use rusqlite::{Connection, OptionalExtension, Params};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Name of the database in the data folder.
pub const FILE: &str = "state.db";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Self::Corrupt(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// Opens a connection with the settings of this store.
pub fn connect(path: &Path, writable: bool) -> Result<Connection, StoreError> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | if writable {
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    if writable {
        // `secure_delete` overwrites erased personal values and keys with zeroes.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 1000; PRAGMA cache_size = -32768;",
        )?;
    }
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// Parses a JSON column.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Reads the JSON column of all rows.
pub fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Vec<T>, StoreError> {
    let mut select = connection.prepare_cached(sql)?;
    let texts = select.query_map(params, |row| row.get::<_, String>(0))?;
    texts.map(|text| parse(&text?)).collect()
}

/// Reads the JSON column of one row.
pub fn body<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = connection.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?;
    text.as_deref().map(parse).transpose()
}

/// Reads one column of one row.
pub fn scalar<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<T>, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?)
}
