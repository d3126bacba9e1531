//! The tables and their migrations, numbered by `user_version`.

use crate::storage::StoreError;
use rusqlite::Connection;

const MIGRATIONS: &[&str] = &["
CREATE TABLE register (sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL, jws TEXT NOT NULL) STRICT;

CREATE TABLE version (
  dataset TEXT NOT NULL, version INTEGER NOT NULL, offer TEXT NOT NULL UNIQUE, policy TEXT NOT NULL,
  manifest TEXT NOT NULL UNIQUE, newest INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (dataset, version)) STRICT;
CREATE UNIQUE INDEX version_newest ON version (dataset) WHERE newest = 1;

CREATE TABLE process (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, role TEXT NOT NULL, peer TEXT NOT NULL, peer_pid TEXT,
  negotiation TEXT, state TEXT NOT NULL, open INTEGER NOT NULL, revision INTEGER NOT NULL, started INTEGER NOT NULL,
  body TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX process_peer ON process (peer, peer_pid) WHERE peer_pid IS NOT NULL;
CREATE INDEX process_open ON process (peer) WHERE open = 1;
CREATE INDEX process_negotiation ON process (negotiation) WHERE negotiation IS NOT NULL;
CREATE INDEX process_requests ON process (started) WHERE kind = 'negotiation' AND role = 'consumer';

CREATE TABLE agreement (
  id TEXT PRIMARY KEY, peer TEXT NOT NULL, manifest TEXT, used INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX agreement_manifest ON agreement (manifest, peer);

CREATE TABLE release (
  request TEXT PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, one_time_key TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;

CREATE TABLE holding (
  id TEXT PRIMARY KEY, transfer TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, updated INTEGER NOT NULL,
  body TEXT NOT NULL) STRICT;

CREATE TABLE token (id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, revoked INTEGER NOT NULL, body TEXT NOT NULL) STRICT;

CREATE TABLE receipt (transfer TEXT PRIMARY KEY, jws TEXT NOT NULL) STRICT;

CREATE TABLE outbox (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, process TEXT NOT NULL, due INTEGER NOT NULL,
  attempts INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX outbox_process ON outbox (process, n);

CREATE TABLE entry (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time INTEGER NOT NULL, leaf BLOB NOT NULL, salt BLOB NOT NULL,
  body TEXT NOT NULL) STRICT;
CREATE TABLE field (
  entry TEXT NOT NULL REFERENCES entry (id), name TEXT NOT NULL, salt BLOB NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (entry, name)) STRICT;
CREATE TABLE tile (level INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (level, n)) STRICT;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, time INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
CREATE TABLE peer_checkpoint (
  participant TEXT NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL,
  PRIMARY KEY (participant, size, note)) STRICT;
CREATE TABLE promise (
  participant TEXT NOT NULL, entry TEXT NOT NULL, jws TEXT NOT NULL, PRIMARY KEY (participant, entry)) STRICT;
", "
ALTER TABLE outbox ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
CREATE TABLE once (
  token TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (token, key)) STRICT;
CREATE INDEX once_at ON once (at);
DROP INDEX process_requests;
CREATE INDEX process_requests ON process (started, id) WHERE kind = 'negotiation' AND role = 'consumer';
CREATE TABLE root (version INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE quarantine (
  key TEXT NOT NULL, public TEXT NOT NULL, confirmed INTEGER NOT NULL, PRIMARY KEY (key, public)) STRICT;
", "
CREATE INDEX process_open_negotiations ON process (id) WHERE open = 1 AND kind = 'negotiation';
ALTER TABLE outbox ADD COLUMN receiver TEXT NOT NULL DEFAULT '';
UPDATE outbox SET receiver = json_extract(body, '$.to');
CREATE INDEX outbox_by_due ON outbox (due);
CREATE TABLE visible (
  key TEXT NOT NULL, dataset TEXT NOT NULL, change INTEGER NOT NULL, gone INTEGER NOT NULL,
  PRIMARY KEY (key, dataset)) STRICT, WITHOUT ROWID;
CREATE INDEX visible_present ON visible (key, dataset) WHERE gone = 0;
CREATE INDEX visible_change ON visible (key, change);
CREATE INDEX visible_dataset ON visible (dataset);
CREATE INDEX visible_last ON visible (change);
INSERT INTO visible SELECT '*', dataset, rowid, 0 FROM version WHERE newest = 1;
CREATE INDEX agreement_dataset ON agreement (json_extract(body, '$.agreement.dataset'));
CREATE TABLE recalled (
  provider TEXT NOT NULL, dataset TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (provider, dataset)) STRICT;
", "
CREATE INDEX version_blob ON version (json_extract(body, '$.blob'));
CREATE INDEX holding_blob ON holding (json_extract(body, '$.blob'));
CREATE INDEX entry_alarm ON entry (n) WHERE json_extract(body, '$.kind') = 'peer.alarm';
", "
DROP INDEX process_requests;
CREATE INDEX process_requests ON process (json_extract(body, '$.subject.enterprise'), started, id)
  WHERE kind = 'negotiation' AND role = 'consumer';
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), ms INTEGER NOT NULL) STRICT;
", "
ALTER TABLE outbox ADD COLUMN failure TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN conflicts INTEGER NOT NULL DEFAULT 0;
", "
CREATE TABLE schema (
  digest TEXT PRIMARY KEY, id TEXT NOT NULL, version TEXT NOT NULL, title TEXT NOT NULL, statement TEXT,
  text TEXT NOT NULL) STRICT;
", "
CREATE TABLE subscription (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE source (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
"];

/// Migrates the database to the current version; rejects databases written by a later version.
pub fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(StoreError::Corrupt(format!(
            "it was written by a later version of crosspark (schema {version}, this version supports up to {})",
            MIGRATIONS.len()
        )));
    }
    for (n, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {}; COMMIT;", n + 1))?;
    }
    Ok(())
}
