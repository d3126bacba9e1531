//! The Merkle log in SQLite: entries with dense indices, leaves, tiles and head.

use super::connection::connect;
use crate::audit::check::Row;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{self, Draft, FieldOpening, Kind};
use crate::audit::merkle::{self, Hash, leaf_hash};
use crate::audit::tile::{self, Edge, Tile, TileSubtrees};
use crate::core::digest::Digest;
use crate::core::id::{LogOrigin, Text};
use crate::core::json;
use crate::core::time::Timestamp;
use crate::storage::{Logged, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

/// Assigns indices to entries and maintains the edge of the tree.
#[derive(Clone)]
pub struct Sequencer {
    origin: LogOrigin,
    edge: Edge,
    time: Timestamp,
    full: Vec<Tile>,
    written: u64,
}

impl Sequencer {
    /// Loads the edge and compares it with the head.
    pub fn load(connection: &Connection, origin: LogOrigin) -> Result<Self, StoreError> {
        let head: Option<(u64, Vec<u8>)> = connection
            .query_row("SELECT size, root FROM head", [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))
            .optional()?;
        let (size, root) = head.unwrap_or_default();
        let edge = Edge::load(size, |level, index| stored_tile(connection, level, index))?;
        if size > 0 && edge.root().as_slice() != root {
            return Err(StoreError::Corrupt(
                "the log's tiles do not match its root; run `crosspark audit verify`".into(),
            ));
        }
        let last: Option<(i64, i64)> = connection
            .query_row("SELECT n, time FROM entry ORDER BY n DESC LIMIT 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let entries = last.map_or(0, |(n, _)| n as u64 + 1);
        if entries != size {
            let reason =
                format!("the log's head states {size} entries, but there are {entries}; run `crosspark audit verify`");
            return Err(StoreError::Corrupt(reason));
        }
        let time = Timestamp::from_ms(last.map_or(i64::MIN, |(_, time)| time));
        Ok(Self { origin, edge, time, full: Vec::new(), written: size })
    }

    /// Checks that the tree still has the root of the last checkpoint, so that an altered log is not signed.
    pub fn check_signed(&self, connection: &Connection) -> Result<(), StoreError> {
        let last: Option<(i64, String)> = connection
            .query_row("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((size, note)) = last else { return Ok(()) };
        let tiles = TileSubtrees(|level, index| stored_tile(connection, level, index).ok());
        let root = merkle::root(&tiles, size as u64).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let stated = Checkpoint { origin: self.origin.clone(), size: size as u64, root }.body();
        if note.starts_with(&stated) {
            return Ok(());
        }
        Err(StoreError::Corrupt(
            "the log does not match its last signed checkpoint; run `crosspark audit verify`".into(),
        ))
    }

    /// Time of the last entry.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The checkpoint of the current tree.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: self.size(), root: self.edge.root() }
    }

    /// Appends entries. Their time is `now`, but never earlier than that of the previous entry, except for a correction
    /// of the clock.
    pub fn append(
        &mut self,
        connection: &Connection,
        drafts: &[Draft],
        now: Timestamp,
    ) -> Result<Vec<Logged>, StoreError> {
        let mut insert = connection
            .prepare_cached("INSERT INTO entry (n, id, time, leaf, salt, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let mut field =
            connection.prepare_cached("INSERT INTO field (entry, name, salt, value) VALUES (?1, ?2, ?3, ?4)")?;
        self.time = self.time.max(now);
        let mut logged = Vec::with_capacity(drafts.len());
        for draft in drafts {
            if draft.kind == Kind::ClockCorrected {
                self.time = now;
            }
            let body = json::to_canonical(&draft.at(&self.origin, self.time));
            let leaf = entry::commitment(&draft.salt, &body);
            let text = String::from_utf8(body).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            let (index, id) = (self.size() as i64, draft.id.as_str());
            insert.execute(params![index, id, self.time.ms(), leaf.as_bytes(), draft.salt, text])?;
            for opening in &draft.openings {
                field.execute(params![id, opening.name, opening.salt, opening.value.as_str()])?;
            }
            self.edge.append(leaf_hash(leaf.as_bytes()), &mut self.full);
            logged.push(Logged { id: draft.id.clone(), leaf, time: self.time });
        }
        Ok(logged)
    }

    /// Writes the tiles and the head after appending.
    pub fn finish(&mut self, connection: &Connection) -> Result<(), StoreError> {
        if self.size() == self.written {
            return Ok(());
        }
        let mut put = connection.prepare_cached("INSERT OR REPLACE INTO tile (level, n, data) VALUES (?1, ?2, ?3)")?;
        for tile in self.full.drain(..).chain(self.edge.partial()) {
            put.execute(params![tile.level, tile.index as i64, tile::to_bytes(&tile.hashes)])?;
        }
        // The head is updated only from the size last written here, which detects a second writer.
        let moved = connection.execute(
            "INSERT INTO head (one, size, root) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET size = ?1, root = ?2 WHERE size = ?3",
            params![self.size() as i64, self.edge.root(), self.written as i64],
        )?;
        if moved != 1 {
            return Err(StoreError::Corrupt("another process wrote to this log".into()));
        }
        self.written = self.size();
        Ok(())
    }
}

fn stored_tile(connection: &Connection, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
    let data: Option<Vec<u8>> = connection
        .query_row("SELECT data FROM tile WHERE level = ?1 AND n = ?2", params![level, index as i64], |row| row.get(0))
        .optional()?;
    data.and_then(|data| tile::from_bytes(&data))
        .ok_or_else(|| StoreError::Corrupt(format!("tile {level}/{index} of the log is missing or damaged")))
}

/// Checks a database that may be in use: pages, edge of the log and last checkpoint. Returns the number of entries.
pub fn examine(path: &std::path::Path, origin: &LogOrigin) -> Result<u64, StoreError> {
    if !path.exists() {
        return Err(StoreError::Unavailable(format!("{} is missing", path.display())));
    }
    let connection = connect(path, false)?;
    // Read everything in one transaction, for a consistent view.
    connection.execute_batch("BEGIN")?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Corrupt(found));
    }
    let sequencer = Sequencer::load(&connection, origin.clone())?;
    sequencer.check_signed(&connection)?;
    Ok(sequencer.size())
}

/// The files to which the database in a snapshot refers.
pub struct Snapshot {
    /// Number of log entries.
    pub entries: u64,
    /// Digests of the sealed containers of this node's versions.
    pub blobs: Vec<Digest>,
    /// Identifiers of received datasets, which name their files.
    pub holdings: Vec<String>,
}

/// Copies a consistent state of a database, which may be in use, to `to`, which must not exist.
pub fn snapshot(from: &std::path::Path, to: &std::path::Path) -> Result<Snapshot, StoreError> {
    let unwritable = || StoreError::Unavailable(format!("{} is not UTF-8", to.display()));
    connect(from, false)?.execute("VACUUM INTO ?1", [to.to_str().ok_or_else(unwritable)?])?;
    let copy = connect(to, false)?;
    let entries = copy.query_row("SELECT COUNT(*) FROM entry", [], |row| row.get::<_, i64>(0))? as u64;
    let texts = |sql: &str| -> Result<Vec<String>, StoreError> {
        let mut select = copy.prepare(sql)?;
        Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    let blobs = texts("SELECT DISTINCT json_extract(body, '$.blob') FROM version")?;
    let corrupt = |error: crate::core::digest::DigestError| StoreError::Corrupt(error.to_string());
    let blobs = blobs.iter().map(|blob| Digest::parse(blob).map_err(corrupt)).collect::<Result<_, _>>()?;
    let holdings = texts("SELECT id FROM holding WHERE json_extract(body, '$.state') <> 'failed'")?;
    Ok(Snapshot { entries, blobs, holdings })
}

/// The stored log, for offline verification, over a read-only connection.
pub struct LogFile(Connection);

/// Opens a database file for offline verification.
pub fn rows(path: &std::path::Path) -> Result<LogFile, StoreError> {
    connect(path, false).map(LogFile)
}

impl LogFile {
    /// At most `limit` rows ordered by index, starting at index `from`.
    pub fn rows(&self, from: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut select =
            self.0.prepare_cached("SELECT n, id, leaf, salt, body FROM entry WHERE n >= ?1 ORDER BY n LIMIT ?2")?;
        let found = select.query_map(params![from as i64, limit as i64], |row| {
            Ok(Row {
                index: row.get::<_, i64>(0)? as u64,
                id: row.get(1)?,
                leaf: row.get(2)?,
                salt: row.get(3)?,
                body: row.get::<_, String>(4)?.into_bytes(),
                fields: Vec::new(),
            })
        })?;
        let mut rows = found.collect::<Result<Vec<Row>, _>>()?;
        for row in &mut rows {
            row.fields = fields(&self.0, &row.id)?;
        }
        Ok(rows)
    }

    /// A stored tile.
    pub fn tile(&self, level: u8, index: u64) -> Option<Vec<Hash>> {
        stored_tile(&self.0, level, index).ok()
    }

    /// The size stated by the stored head.
    pub fn head(&self) -> Result<u64, StoreError> {
        let size = self.0.query_row("SELECT size FROM head", [], |row| row.get::<_, i64>(0)).optional()?;
        Ok(size.unwrap_or(0) as u64)
    }

    /// All checkpoints signed by this node.
    pub fn checkpoints(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self.0.prepare("SELECT note FROM checkpoint ORDER BY size")?;
        Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// All checkpoints of a peer that this node stores.
    pub fn peer_checkpoints(&self, participant: &str) -> Result<Vec<String>, StoreError> {
        let mut select = self.0.prepare("SELECT note FROM peer_checkpoint WHERE participant = ?1 ORDER BY size")?;
        Ok(select.query_map([participant], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The newest register.
    pub fn newest_register(&self) -> Result<Option<String>, StoreError> {
        let sql = "SELECT jws FROM register ORDER BY sequence DESC LIMIT 1";
        Ok(self.0.query_row(sql, [], |row| row.get(0)).optional()?)
    }

    /// The root documents installed after the first one, in order.
    pub fn roots(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self.0.prepare("SELECT json FROM root ORDER BY version")?;
        Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The registers installed by this node, in order.
    pub fn registers(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self.0.prepare("SELECT jws FROM register ORDER BY sequence")?;
        Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// The openings of an entry's personal values.
pub fn fields(connection: &Connection, entry: &str) -> Result<Vec<FieldOpening>, StoreError> {
    let mut select = connection.prepare_cached("SELECT name, salt, value FROM field WHERE entry = ?1 ORDER BY name")?;
    let found = select.query_map([entry], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, String>(2)?))
    })?;
    found
        .map(|row| {
            let (name, salt, value) = row?;
            let value = Text::parse(&value).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            Ok(FieldOpening { name, salt, value })
        })
        .collect()
}
