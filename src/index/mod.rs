//! The search index over the peers' catalogs, as visible to this node. It is a separate file that can be rebuilt from
//! the catalogs at any time, so it may be deleted.

mod error;
mod search;
mod words;

pub use error::IndexError;
pub use search::{Facet, Facets, Hit, MaxAge, Page, Query, Sort};

use crate::catalog::Offered;
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::limits;
use crate::core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the index file in a node's folder.
pub const FILE: &str = "index.db";

/// Version of the tables; a file with another version is created again.
const VERSION: i64 = 3;

const TABLES: &str = "
CREATE TABLE found (
  n INTEGER PRIMARY KEY, participant TEXT NOT NULL, dataset TEXT NOT NULL, title TEXT NOT NULL, schema TEXT NOT NULL,
  theme TEXT NOT NULL, published INTEGER NOT NULL, refresh INTEGER NOT NULL, body TEXT NOT NULL,
  UNIQUE (participant, dataset)) STRICT;
CREATE INDEX found_title ON found (title, n);
CREATE INDEX found_published ON found (published DESC, n, participant, schema, theme);
CREATE INDEX found_participant ON found (participant, published DESC, n, schema, theme);
CREATE INDEX found_schema ON found (schema, published DESC, n, participant, theme);
CREATE INDEX found_theme ON found (theme, published DESC, n, participant, schema);
CREATE VIRTUAL TABLE words USING fts5 (
  title, other, facets, content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE TABLE held (participant TEXT PRIMARY KEY, datasets INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TRIGGER found_put AFTER INSERT ON found BEGIN
  INSERT INTO held VALUES (new.participant, 1, octet_length(new.body))
    ON CONFLICT (participant) DO UPDATE SET datasets = datasets + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER found_gone AFTER DELETE ON found BEGIN
  UPDATE held SET datasets = datasets - 1, bytes = bytes - octet_length(old.body) WHERE participant = old.participant;
END;
CREATE TABLE source (
  participant TEXT PRIMARY KEY, change INTEGER, groups TEXT NOT NULL, refreshed INTEGER NOT NULL, whole INTEGER NOT NULL,
  away INTEGER, problem TEXT) STRICT;
";

/// The point up to which a peer's catalog was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last change read, if the peer numbers its changes.
    pub change: Option<u64>,
    /// The rights of this node when the catalog was read; with other rights it sees other datasets.
    pub groups: String,
    /// Time of the last full read.
    pub whole: Timestamp,
}

/// A part of a peer's catalog.
#[derive(Debug, Default)]
pub struct Batch {
    /// New or changed datasets.
    pub put: Vec<Offered>,
    /// Datasets that are no longer visible.
    pub gone: Vec<DatasetId>,
}

/// The search index.
#[derive(Clone)]
pub struct Index(Arc<Mutex<Connection>>);

impl Index {
    /// Opens the index; a file that cannot be read is created again.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(FILE);
        match Self::set_up(Connection::open(&path)) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(%error, "the search index cannot be opened and is created again");
                for suffix in ["", "-wal", "-shm", "-journal"] {
                    let _ = std::fs::remove_file(folder.join(format!("{FILE}{suffix}")));
                }
                Self::set_up(Connection::open(&path))
            }
        }
    }

    /// Creates an index in memory.
    pub fn in_memory() -> Result<Self, IndexError> {
        Self::set_up(Connection::open_in_memory())
    }

    fn set_up(connection: rusqlite::Result<Connection>) -> Result<Self, IndexError> {
        let connection = connection?;
        // The index may be lost in a power failure, as it can be rebuilt.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;")?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
            VERSION => {}
            0 => connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
            other => return Err(IndexError(format!("it has version {other}"))),
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let index = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut index.connection()));
        done.await.map_err(|error| IndexError(error.to_string()))?
    }

    /// The point up to which a peer's catalog was read; `None` if it never was.
    pub async fn cursor(&self, peer: &ParticipantId) -> Result<Option<Cursor>, IndexError> {
        let peer = peer.to_string();
        self.work(move |c| {
            let row = |row: &rusqlite::Row<'_>| {
                let change = row.get::<_, Option<i64>>(0)?.map(|change| change as u64);
                Ok(Cursor { change, groups: row.get(1)?, whole: Timestamp::from_ms(row.get(2)?) })
            };
            let sql = "SELECT change, groups, whole FROM source WHERE participant = ?1";
            Ok(c.prepare_cached(sql)?.query_row([peer], row).optional()?)
        })
        .await
    }

    /// The version of a peer's dataset, as last read.
    pub async fn version(&self, peer: &ParticipantId, dataset: &DatasetId) -> Result<Option<u64>, IndexError> {
        let names = [peer.to_string(), dataset.to_string()];
        self.work(move |c| {
            let sql = "SELECT json_extract(body, '$.version') FROM found WHERE participant = ?1 AND dataset = ?2";
            let version = c.prepare_cached(sql)?.query_row(names, |row| row.get::<_, Option<i64>>(0)).optional()?;
            Ok(version.flatten().and_then(|version| u64::try_from(version).ok()))
        })
        .await
    }

    /// Stores a part of a peer's catalog, up to the peer's limits; returns false once they are reached. `refresh`
    /// identifies the read.
    pub async fn take(&self, peer: &ParticipantId, batch: Batch, refresh: Timestamp) -> Result<bool, IndexError> {
        let peer = peer.to_string();
        self.work(move |c| {
            let transaction = c.transaction()?;
            for id in batch.gone.iter().chain(batch.put.iter().map(|offered| &offered.dataset)) {
                remove(&transaction, &peer, id.as_str())?;
            }
            let mut room = true;
            for offered in &batch.put {
                room = has_room(&transaction, &peer)?;
                if !room {
                    break;
                }
                put(&transaction, &peer, offered, refresh)?;
            }
            transaction.commit()?;
            Ok(room)
        })
        .await
    }

    /// Marks a read as complete. After a full read, datasets that it did not contain are removed.
    pub async fn complete(&self, peer: &ParticipantId, cursor: Cursor, refresh: Timestamp) -> Result<(), IndexError> {
        let peer = peer.to_string();
        self.work(move |c| {
            let transaction = c.transaction()?;
            if cursor.whole == refresh {
                let gone: Vec<String> = transaction
                    .prepare("SELECT dataset FROM found WHERE participant = ?1 AND refresh <> ?2")?
                    .query_map(params![peer, refresh.ms()], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                gone.iter().try_for_each(|dataset| remove(&transaction, &peer, dataset))?;
            }
            transaction.execute(
                "INSERT INTO source (participant, change, groups, refreshed, whole) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (participant) DO UPDATE
                 SET change = ?2, groups = ?3, refreshed = ?4, whole = ?5, away = NULL, problem = NULL",
                params![
                    peer,
                    cursor.change.map(|change| change as i64),
                    cursor.groups,
                    refresh.ms(),
                    cursor.whole.ms()
                ],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Marks a peer's catalog as unreachable; its datasets are stale since the first failure.
    pub async fn away(&self, peer: &ParticipantId, problem: &str, now: Timestamp) -> Result<(), IndexError> {
        let (peer, problem) = (peer.to_string(), problem.to_owned());
        self.work(move |c| {
            let sql = "UPDATE source SET away = COALESCE(away, ?2), problem = ?3 WHERE participant = ?1";
            c.prepare_cached(sql)?.execute(params![peer, now.ms(), problem])?;
            Ok(())
        })
        .await
    }

    /// Removes all data of participants not in `peers`.
    pub async fn keep_only(&self, peers: Vec<ParticipantId>) -> Result<(), IndexError> {
        self.work(move |c| {
            let transaction = c.transaction()?;
            let known: Vec<String> = transaction
                .prepare("SELECT participant FROM source UNION SELECT DISTINCT participant FROM found")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for gone in known.iter().filter(|known| peers.iter().all(|peer| peer.as_str() != known.as_str())) {
                transaction
                    .execute("DELETE FROM words WHERE rowid IN (SELECT n FROM found WHERE participant = ?1)", [gone])?;
                transaction.execute("DELETE FROM found WHERE participant = ?1", [gone])?;
                transaction.execute("DELETE FROM held WHERE participant = ?1", [gone])?;
                transaction.execute("DELETE FROM source WHERE participant = ?1", [gone])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Searches the index.
    pub async fn search(&self, query: Query, now: Timestamp) -> Result<Page, IndexError> {
        self.work(move |c| search::search(c, &query, now)).await
    }
}

fn remove(connection: &Connection, peer: &str, dataset: &str) -> Result<(), IndexError> {
    let sql = "DELETE FROM found WHERE participant = ?1 AND dataset = ?2 RETURNING n";
    let n: Option<i64> = connection.prepare_cached(sql)?.query_row([peer, dataset], |row| row.get(0)).optional()?;
    if let Some(n) = n {
        connection.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([n])?;
    }
    Ok(())
}

fn has_room(connection: &Connection, peer: &str) -> Result<bool, IndexError> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as usize));
    let sql = "SELECT datasets, bytes FROM held WHERE participant = ?1";
    let held = connection.prepare_cached(sql)?.query_row([peer], row).optional()?;
    Ok(held.is_none_or(|(datasets, bytes)| {
        datasets < limits::INDEXED_PER_PEER_MAX && bytes < limits::INDEXED_BYTES_PER_PEER_MAX
    }))
}

fn put(connection: &Connection, peer: &str, offered: &Offered, refresh: Timestamp) -> Result<(), IndexError> {
    let body = serde_json::to_string(offered).map_err(|error| IndexError(error.to_string()))?;
    let schema = offered.schema.as_ref().map(|schema| schema.id.as_str()).unwrap_or_default();
    let theme = offered.about.theme.as_ref().map(|theme| theme.as_str()).unwrap_or_default();
    let n: i64 = connection
        .prepare_cached(
            "INSERT INTO found (participant, dataset, title, schema, theme, published, refresh, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING n",
        )?
        .query_row(
            params![
                peer,
                offered.dataset.as_str(),
                offered.title.as_str(),
                schema,
                theme,
                offered.published.map_or(0, Timestamp::ms),
                refresh.ms(),
                body
            ],
            |row| row.get(0),
        )?;
    let licence = offered.about.licence.as_ref().map(|text| text.as_str()).unwrap_or_default();
    let other = [&offered.description, theme, licence, schema, offered.dataset.as_str(), peer].join(" ");
    let facets = [words::facet("park", peer), words::facet("schema", schema), words::facet("theme", theme)].join(" ");
    let sql = "INSERT INTO words (rowid, title, other, facets) VALUES (?1, ?2, ?3, ?4)";
    let (title, other) = (words::for_index(offered.title.as_str()), words::for_index(&other));
    connection.prepare_cached(sql)?.execute(params![n, title, other, facets])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn offered(n: usize, description: &str) -> Offered {
        let fields = json!({
            "dataset": format!("urn:x:{n}"), "title": "x", "description": description,
            "policy": null, "version": null, "schema": null, "records": null, "published": null,
            "offer": "urn:o:1",
        });
        serde_json::from_value(fields).unwrap()
    }

    fn held(index: &Index) -> Vec<(i64, i64)> {
        let connection = index.connection();
        let mut select = connection.prepare("SELECT datasets, bytes FROM held ORDER BY participant").unwrap();
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn one_peer_gets_so_much_room() {
        let (index, now) = (Index::in_memory().unwrap(), Timestamp::from_ms(0));
        let [one, other] = ["did:web:a.example", "did:web:b.example"].map(|id| ParticipantId::parse(id).unwrap());
        let put = |put: Vec<Offered>| Batch { put, gone: Vec::new() };
        assert!(index.take(&one, put(vec![offered(1, "a"), offered(2, "b")]), now).await.unwrap());
        let before = held(&index);
        // Put the same datasets again, one of them longer, then remove one; the counters follow each time.
        assert!(index.take(&one, put(vec![offered(1, "a"), offered(2, "bcd")]), now).await.unwrap());
        assert_eq!(held(&index), [(2, before[0].1 + 2)]);
        let gone = vec![offered(2, "").dataset];
        index.take(&one, Batch { put: Vec::new(), gone }, now).await.unwrap();
        assert_eq!(held(&index)[0].0, 1);
        // At its limit of datasets or bytes, nothing more is stored for a peer; other peers are not affected.
        for (column, most) in
            [("datasets", limits::INDEXED_PER_PEER_MAX), ("bytes", limits::INDEXED_BYTES_PER_PEER_MAX)]
        {
            let sql = format!("UPDATE held SET {column} = {most}");
            index.connection().execute(&sql, []).unwrap();
            assert!(!index.take(&one, put(vec![offered(3, "")]), now).await.unwrap(), "{column}");
            index.connection().execute("UPDATE held SET datasets = 1, bytes = 1", []).unwrap();
        }
        let search = |query| index.search(query, now);
        assert_eq!(search(Query { limit: 9, ..Query::default() }).await.unwrap().total, 1);
        assert!(index.take(&other, put(vec![offered(3, "")]), now).await.unwrap());
        index.keep_only(vec![other]).await.unwrap();
        assert_eq!(held(&index).len(), 1);
    }
}
