//! The store's contract over SQLite: every read as a query.

use super::apply::secret_columns;
use super::catalog;
use super::connection::{bodies, body, scalar};
use super::rows::{SCHEMA_COLUMNS, entry_columns, entry_row, message, schema_row};
use super::store::SqliteStore;
use crate::audit::entry::Opening;
use crate::core::digest::Digest;
use crate::core::id::{
    AgreementId, DatasetId, EntryId, HoldingId, IdError, KeyId, MessageId, OfferId, ParticipantId, ProcessId,
    SourceName, Text, TokenId,
};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::KeyName;
use crate::negotiation::Negotiation;
use crate::source::Source;
use crate::storage::{
    AgreementRow, CatalogChange, Change, Due, EntryRow, Holding, IdempotencyRow, Logged, Maintenance, Outgoing,
    ReleaseRow, SchemaRow, Secret, SecretKind, Store, StoreError, StoreStats, SubscriptionRow, TokenRow, VersionRow,
};
use crate::transfer::Transfer;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

fn rows_max(limit: usize) -> i64 {
    // One more than a page shows whether there is another.
    limit.min(limits::PAGE_ROWS_MAX + 1) as i64
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.do_commit(change).await
    }

    async fn maintain(&self, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.do_maintain(tasks).await
    }

    async fn register(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        let sql = "SELECT jws FROM register WHERE sequence = ?1";
        self.readers.point(move |c| scalar(c, sql, [sequence as i64])).await
    }

    async fn register_sequence(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(sequence), 0) FROM register";
        self.readers.point(move |c| Ok(scalar::<i64>(c, sql, [])?.unwrap_or(0) as u64)).await
    }

    async fn roots(&self) -> Result<Vec<String>, StoreError> {
        let read = |c: &Connection| {
            let mut select = c.prepare_cached("SELECT json FROM root ORDER BY version")?;
            Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        };
        self.readers.read(read).await
    }

    async fn quarantined(&self) -> Result<Vec<KeyName>, StoreError> {
        let read = |c: &Connection| {
            let mut select = c.prepare_cached("SELECT key, public FROM quarantine WHERE confirmed = 0")?;
            let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (key, public) = row?;
                let corrupt = |error: &dyn std::fmt::Display| StoreError::Corrupt(error.to_string());
                let key = key.parse::<KeyId>().map_err(|error| corrupt(&error))?;
                Ok((key, Digest::parse(&public).map_err(|error| corrupt(&error))?))
            })
            .collect()
        };
        self.readers.read(read).await
    }

    async fn secrets_not_under(&self, kek: &str, limit: usize) -> Result<Vec<Secret>, StoreError> {
        let under = format!("{kek}.*");
        let read = move |c: &Connection| {
            let mut found = Vec::new();
            for kind in
                [SecretKind::VersionKey, SecretKind::HoldingKey, SecretKind::OneTimeKey, SecretKind::TransferToken]
            {
                let (table, row, member) = secret_columns(kind);
                let mut select = c.prepare_cached(&format!(
                    "SELECT {row}, json_extract(body, '$.{member}') AS wrapped FROM {table}
                     WHERE wrapped IS NOT NULL AND wrapped NOT GLOB ?1 LIMIT ?2"
                ))?;
                let rows = select.query_map(params![under, rows_max(limit)], |row| {
                    Ok(Secret { kind, row: row.get(0)?, wrapped: row.get(1)? })
                })?;
                for secret in rows {
                    found.push(secret?);
                }
            }
            Ok(found)
        };
        self.readers.read(read).await
    }

    async fn schemas(&self, limit: usize) -> Result<Vec<SchemaRow>, StoreError> {
        let read = move |c: &Connection| {
            let mut select =
                c.prepare_cached(&format!("SELECT {SCHEMA_COLUMNS} FROM schema ORDER BY rowid LIMIT ?1"))?;
            let mut rows = select.query([limit as i64])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(schema_row(row)?);
            }
            Ok(found)
        };
        self.readers.read(read).await
    }

    async fn schema(&self, digest: &Digest) -> Result<Option<(SchemaRow, String)>, StoreError> {
        let digest = digest.to_string();
        let read = move |c: &Connection| {
            let sql = format!("SELECT {SCHEMA_COLUMNS}, text FROM schema WHERE digest = ?1");
            let mut select = c.prepare_cached(&sql)?;
            let mut rows = select.query([digest])?;
            rows.next()?.map(|row| Ok((schema_row(row)?, row.get(5)?))).transpose()
        };
        self.readers.point(read).await
    }

    async fn dataset(&self, id: &DatasetId) -> Result<Option<VersionRow>, StoreError> {
        let id = id.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM version WHERE dataset = ?1 AND newest = 1", [id])).await
    }

    async fn datasets(&self, after: Option<&DatasetId>, limit: usize) -> Result<Vec<VersionRow>, StoreError> {
        let after = after.map(DatasetId::to_string).unwrap_or_default();
        let sql = "SELECT body FROM version WHERE newest = 1 AND dataset > ?1 ORDER BY dataset LIMIT ?2";
        self.readers.read(move |c| bodies(c, sql, params![after, rows_max(limit)])).await
    }

    async fn visible(
        &self,
        keys: &[String],
        after: Option<&DatasetId>,
        limit: usize,
    ) -> Result<Vec<VersionRow>, StoreError> {
        let (keys, after) = (keys.to_vec(), after.cloned());
        self.readers.read(move |c| catalog::visible(c, &keys, after.as_ref(), rows_max(limit))).await
    }

    async fn changes(&self, keys: &[String], since: u64, limit: usize) -> Result<Vec<CatalogChange>, StoreError> {
        let keys = keys.to_vec();
        self.readers.read(move |c| catalog::changes(c, &keys, since, rows_max(limit))).await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(change), 0) FROM visible";
        self.readers.point(move |c| Ok(scalar::<i64>(c, sql, [])?.unwrap_or(0) as u64)).await
    }

    async fn holders(&self, dataset: &DatasetId) -> Result<Vec<ParticipantId>, StoreError> {
        let dataset = dataset.clone();
        self.readers.read(move |c| catalog::holders(c, &dataset)).await
    }

    async fn recalled(&self, provider: &ParticipantId, dataset: &DatasetId) -> Result<Option<String>, StoreError> {
        let (provider, dataset) = (provider.to_string(), dataset.to_string());
        let sql = "SELECT reason FROM recalled WHERE provider = ?1 AND dataset = ?2";
        self.readers.point(move |c| scalar(c, sql, [provider, dataset])).await
    }

    async fn version_by_manifest(&self, manifest: &Digest) -> Result<Option<VersionRow>, StoreError> {
        let manifest = manifest.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM version WHERE manifest = ?1", [manifest])).await
    }

    async fn version_by_offer(&self, offer: &OfferId) -> Result<Option<VersionRow>, StoreError> {
        let offer = offer.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM version WHERE offer = ?1 AND newest = 1", [offer])).await
    }

    async fn has_version_of(&self, blob: &Digest) -> Result<bool, StoreError> {
        let blob = blob.to_string();
        let sql = "SELECT 1 FROM version WHERE json_extract(body, '$.blob') = ?1 LIMIT 1";
        self.readers.read(move |c| Ok(scalar::<i64>(c, sql, [blob])?.is_some())).await
    }

    async fn negotiation(&self, id: &ProcessId) -> Result<Option<Negotiation>, StoreError> {
        let id = id.to_string();
        self.readers
            .point(move |c| body(c, "SELECT body FROM process WHERE id = ?1 AND kind = 'negotiation'", [id]))
            .await
    }

    async fn transfer(&self, id: &ProcessId) -> Result<Option<Transfer>, StoreError> {
        let id = id.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM process WHERE id = ?1 AND kind = 'transfer'", [id])).await
    }

    async fn process_by_peer(&self, peer: &ParticipantId, pid: &ProcessId) -> Result<Option<ProcessId>, StoreError> {
        let (peer, pid) = (peer.to_string(), pid.to_string());
        let read = move |c: &Connection| {
            let id: Option<String> =
                scalar(c, "SELECT id FROM process WHERE peer = ?1 AND peer_pid = ?2", [peer, pid])?;
            id.map(|id| ProcessId::parse(&id).map_err(|error| StoreError::Corrupt(error.to_string()))).transpose()
        };
        self.readers.point(read).await
    }

    async fn open_processes(&self) -> Result<(Vec<ProcessId>, Vec<ProcessId>), StoreError> {
        let read = |c: &Connection| {
            let of_kind = |kind: &str| -> Result<Vec<ProcessId>, StoreError> {
                let mut select = c.prepare_cached("SELECT id FROM process WHERE open = 1 AND kind = ?1")?;
                let ids = select.query_map([kind], |row| row.get::<_, String>(0))?;
                ids.map(|id| ProcessId::parse(&id?).map_err(|error| StoreError::Corrupt(error.to_string()))).collect()
            };
            Ok((of_kind("negotiation")?, of_kind("transfer")?))
        };
        self.readers.read(read).await
    }

    async fn open_negotiations(&self, after: Option<&ProcessId>, limit: usize) -> Result<Vec<Negotiation>, StoreError> {
        let after = after.map(ProcessId::to_string).unwrap_or_default();
        let sql = "SELECT body FROM process WHERE open = 1 AND kind = 'negotiation' AND id > ?1 ORDER BY id LIMIT ?2";
        self.readers.read(move |c| bodies(c, sql, params![after, rows_max(limit)])).await
    }

    async fn transfer_of(&self, negotiation: &ProcessId) -> Result<Option<Transfer>, StoreError> {
        let id = negotiation.to_string();
        let sql = "SELECT body FROM process WHERE negotiation = ?1 ORDER BY started DESC, id LIMIT 1";
        self.readers.point(move |c| body(c, sql, [id])).await
    }

    async fn requests(
        &self,
        enterprise: &Text,
        before: Option<&(Timestamp, ProcessId)>,
        limit: usize,
    ) -> Result<Vec<Negotiation>, StoreError> {
        let (started, id) = before.map_or((i64::MAX, String::new()), |(started, id)| (started.ms(), id.to_string()));
        let enterprise = enterprise.to_string();
        let sql = "SELECT body FROM process WHERE kind = 'negotiation' AND role = 'consumer'
                   AND json_extract(body, '$.subject.enterprise') = ?4 AND (started, id) < (?1, ?2)
                   ORDER BY started DESC, id DESC LIMIT ?3";
        self.readers.read(move |c| bodies(c, sql, params![started, id, rows_max(limit), enterprise])).await
    }

    async fn agreement(&self, id: &AgreementId) -> Result<Option<AgreementRow>, StoreError> {
        let id = id.to_string();
        let read = move |c: &Connection| {
            let Some(mut row) = body::<AgreementRow>(c, "SELECT body FROM agreement WHERE id = ?1", [&id])? else {
                return Ok(None);
            };
            row.used = scalar::<i64>(c, "SELECT used FROM agreement WHERE id = ?1", [&id])?.unwrap_or(0) as u64;
            Ok(Some(row))
        };
        self.readers.point(read).await
    }

    async fn has_agreement_on(&self, peer: &ParticipantId, manifest: &Digest) -> Result<bool, StoreError> {
        let (peer, manifest) = (peer.to_string(), manifest.to_string());
        let sql = "SELECT 1 FROM agreement WHERE manifest = ?1 AND peer = ?2 LIMIT 1";
        self.readers.point(move |c| Ok(scalar::<i64>(c, sql, [manifest, peer])?.is_some())).await
    }

    async fn release(&self, request: &Digest) -> Result<Option<ReleaseRow>, StoreError> {
        let request = request.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM release WHERE request = ?1", [request])).await
    }

    async fn receipt(&self, transfer: &ProcessId) -> Result<Option<String>, StoreError> {
        let id = transfer.to_string();
        self.readers.point(move |c| scalar(c, "SELECT jws FROM receipt WHERE transfer = ?1", [id])).await
    }

    async fn holding(&self, id: &HoldingId) -> Result<Option<Holding>, StoreError> {
        let id = id.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM holding WHERE id = ?1", [id])).await
    }

    async fn holding_of(&self, transfer: &ProcessId) -> Result<Option<Holding>, StoreError> {
        let id = transfer.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM holding WHERE transfer = ?1", [id])).await
    }

    async fn holding_with(&self, provider: &ParticipantId, blob: &Digest) -> Result<Option<Holding>, StoreError> {
        let (provider, blob) = (provider.to_string(), blob.to_string());
        let sql = "SELECT body FROM holding WHERE json_extract(body, '$.blob') = ?1
                   AND json_extract(body, '$.provider') = ?2 AND json_extract(body, '$.state') IN ('asked', 'keyed', 'verified')
                   LIMIT 1";
        self.readers.point(move |c| body(c, sql, [blob, provider])).await
    }

    async fn received_bytes(&self, provider: Option<&ParticipantId>) -> Result<u64, StoreError> {
        let provider = provider.map(ToString::to_string);
        let sql = "SELECT COALESCE(SUM(bytes), 0) FROM (
                       SELECT MAX(json_extract(body, '$.bytes')) AS bytes FROM holding
                       WHERE (json_extract(body, '$.state') = 'verified' OR EXISTS (
                                SELECT 1 FROM process WHERE process.id = json_extract(holding.body, '$.transfer') AND open = 1))
                         AND (?1 IS NULL OR json_extract(body, '$.provider') = ?1)
                       GROUP BY json_extract(body, '$.provider'), json_extract(body, '$.blob'))";
        self.readers.read(move |c| Ok(c.query_row(sql, [provider], |row| row.get::<_, i64>(0))? as u64)).await
    }

    async fn holdings(&self, limit: usize) -> Result<Vec<Holding>, StoreError> {
        let sql = "SELECT body FROM holding ORDER BY updated DESC LIMIT ?1";
        self.readers.read(move |c| bodies(c, sql, [rows_max(limit)])).await
    }

    async fn source(&self, name: &SourceName) -> Result<Option<Source>, StoreError> {
        let name = name.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM source WHERE name = ?1", [name])).await
    }

    async fn sources(&self) -> Result<Vec<Source>, StoreError> {
        self.readers.read(|c| bodies(c, "SELECT body FROM source ORDER BY name", [])).await
    }

    async fn subscriptions(&self) -> Result<Vec<SubscriptionRow>, StoreError> {
        self.readers.read(|c| bodies(c, "SELECT body FROM subscription ORDER BY id", [])).await
    }

    async fn token(&self, hash: &Digest) -> Result<Option<TokenRow>, StoreError> {
        let hash = hash.to_string();
        self.readers.point(move |c| body(c, "SELECT body FROM token WHERE hash = ?1", [hash])).await
    }

    async fn idempotent_request(&self, token: &TokenId, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let (token, key) = (token.clone(), key.to_owned());
        let read = move |c: &Connection| {
            let sql = "SELECT request, answer, at FROM once WHERE token = ?1 AND key = ?2";
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
            let found = c.prepare_cached(sql)?.query_row([token.as_str(), &key], row).optional()?;
            let Some((request, answer, at)) = found else { return Ok(None) };
            let request = Digest::parse(&request).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            Ok(Some(IdempotencyRow { token, key, request, answer, at: Timestamp::from_ms(at) }))
        };
        self.readers.point(read).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.readers.read(|c| bodies(c, "SELECT body FROM token ORDER BY id", [])).await
    }

    async fn outbox_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let read = move |c: &Connection| {
            let mut select = c.prepare_cached(
                // The limit per receiver keeps the messages to one unreachable peer from hiding those to others.
                "SELECT id, receiver FROM (
                   SELECT id, receiver, n, ROW_NUMBER() OVER (PARTITION BY receiver ORDER BY n) AS place
                   FROM outbox o WHERE due <= ?1 AND n = (SELECT MIN(n) FROM outbox i WHERE i.process = o.process))
                 WHERE place <= ?3 ORDER BY n LIMIT ?2",
            )?;
            let rows = select
                .query_map(params![now.ms(), rows_max(limit), limits::OUTBOX_PER_MEMBER_MAX as i64], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })?;
            rows.map(|row| {
                let (id, to) = row?;
                let corrupt = |error: IdError| StoreError::Corrupt(error.to_string());
                Ok(Due { id: MessageId::parse(&id).map_err(corrupt)?, to: ParticipantId::parse(&to).map_err(corrupt)? })
            })
            .collect()
        };
        self.readers.read(read).await
    }

    async fn outgoing(&self, id: &MessageId) -> Result<Option<Outgoing>, StoreError> {
        let id = id.to_string();
        self.readers.point(move |c| message(c, "WHERE id = ?1", &id)).await
    }

    async fn first_outgoing(&self, process: &ProcessId) -> Result<Option<Outgoing>, StoreError> {
        let process = process.to_string();
        self.readers.point(move |c| message(c, "WHERE process = ?1 ORDER BY n LIMIT 1", &process)).await
    }

    async fn outbox_next(&self, now: Timestamp) -> Result<(Option<Timestamp>, u64), StoreError> {
        let read = move |c: &Connection| {
            let due = scalar::<Option<i64>>(
                c,
                // May belong to a message that waits behind another one; this only causes one needless check.
                "SELECT MIN(due) FROM outbox WHERE due > ?1",
                [now.ms()],
            )?;
            let count = scalar::<i64>(c, "SELECT COUNT(*) FROM outbox", [])?.unwrap_or(0);
            Ok((due.flatten().map(Timestamp::from_ms), count as u64))
        };
        self.readers.read(read).await
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        let read = |c: &Connection| {
            let count = |sql: &str| Ok::<_, StoreError>(scalar::<i64>(c, sql, [])?.unwrap_or(0) as u64);
            let time =
                |sql: &str| Ok::<_, StoreError>(scalar::<Option<i64>>(c, sql, [])?.flatten().map(Timestamp::from_ms));
            Ok(StoreStats {
                entries: count("SELECT COALESCE(MAX(n), -1) + 1 FROM entry")?,
                signed: count("SELECT COALESCE(MAX(size), 0) FROM checkpoint")?,
                signed_at: time("SELECT time FROM checkpoint ORDER BY size DESC LIMIT 1")?,
                outbox: count("SELECT COUNT(*) FROM outbox")?,
                outbox_since: time("SELECT MIN(since) FROM outbox")?,
                open_processes: count("SELECT COUNT(*) FROM process WHERE open = 1")?,
                bytes: count("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?,
            })
        };
        self.readers.read(read).await
    }

    async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.readers.point(|c| scalar(c, "SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1", [])).await
    }

    async fn checkpoint_at(&self, size: u64) -> Result<Option<String>, StoreError> {
        let sql = "SELECT note FROM checkpoint WHERE size = ?1";
        self.readers.point(move |c| scalar(c, sql, [size as i64])).await
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT data FROM tile WHERE level = ?1 AND n = ?2";
        self.readers.read(move |c| scalar(c, sql, params![level, index as i64])).await
    }

    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let read = move |c: &Connection| {
            let mut select = c.prepare_cached("SELECT leaf FROM entry WHERE n >= ?1 ORDER BY n LIMIT ?2")?;
            let rows = select.query_map(params![from as i64, rows_max(limit)], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.readers.read(read).await
    }

    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        let read = move |c: &Connection| {
            let sql = "SELECT n, body, leaf, salt FROM entry WHERE n >= ?1 ORDER BY n LIMIT ?2";
            let mut select = c.prepare_cached(sql)?;
            let rows = select.query_map(params![from as i64, rows_max(limit)], entry_columns)?;
            rows.map(|row| entry_row(c, row?)).collect()
        };
        self.readers.read(read).await
    }

    async fn alarms(&self, limit: usize) -> Result<Vec<EntryRow>, StoreError> {
        let read = move |c: &Connection| {
            // As the index `entry_alarm` has it.
            let sql = "SELECT n, body, leaf, salt FROM entry WHERE json_extract(body, '$.kind') = 'peer.alarm'
                       ORDER BY n DESC LIMIT ?1";
            let mut select = c.prepare_cached(sql)?;
            let rows = select.query_map([rows_max(limit)], entry_columns)?;
            rows.map(|row| entry_row(c, row?)).collect()
        };
        self.readers.read(read).await
    }

    async fn opening(&self, id: &EntryId) -> Result<Option<Opening>, StoreError> {
        let id = id.to_string();
        let read = move |c: &Connection| {
            let sql = "SELECT n, body, leaf, salt FROM entry WHERE id = ?1";
            let row = c.prepare_cached(sql)?.query_row([id], entry_columns).optional()?;
            let row = row.map(|row| entry_row(c, row)).transpose()?;
            Ok(row.map(|row| Opening { index: row.index, salt: row.salt, entry: row.entry, fields: row.fields }))
        };
        self.readers.read(read).await
    }

    async fn peer_checkpoint(&self, participant: &ParticipantId) -> Result<Option<String>, StoreError> {
        let id = participant.to_string();
        self.readers
            .point(move |c| {
                scalar(c, "SELECT note FROM peer_checkpoint WHERE participant = ?1 ORDER BY size DESC LIMIT 1", [id])
            })
            .await
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.wait_changed(seen).await
    }

    async fn outbox_filled(&self) {
        self.wait_outbox().await;
    }
}
