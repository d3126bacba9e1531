//! SQL of guards, writes, messages and maintenance tasks.

use crate::core::id::{DatasetId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::negotiation::{Negotiation, Role};
use crate::storage::{Conflict, Guard, Maintenance, Outgoing, SecretKind, StoreError, VersionRow, Write};
use crate::transfer::Transfer;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, params};
use serde::Serialize;
use std::collections::BTreeSet;

fn to_text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Executes a statement that must change exactly one row; anything else, or a violated constraint, is a conflict.
fn one(connection: &Connection, what: Conflict, sql: &str, params: impl Params) -> Result<(), StoreError> {
    match connection.prepare_cached(sql)?.execute(params) {
        Ok(1) => Ok(()),
        Ok(_) => Err(StoreError::Conflict(what)),
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::ConstraintViolation => {
            Err(StoreError::Conflict(what))
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks all guards.
pub fn guards(connection: &Connection, guards: &[Guard], now: Timestamp) -> Result<(), StoreError> {
    for guard in guards {
        if guard.is_too_old(now) {
            return Err(StoreError::Conflict(Conflict::DecisionAge));
        }
        let (what, sql, first, second) = match guard {
            Guard::Register(sequence) => (
                Conflict::Register,
                "SELECT 1 WHERE COALESCE((SELECT MAX(sequence) FROM register), 0) = CAST(?2 AS INTEGER) AND ?1 = ''",
                String::new(),
                sequence.to_string(),
            ),
            Guard::Offer(offer, policy) => (
                Conflict::Offer,
                "SELECT 1 FROM version WHERE offer = ?1 AND policy = ?2 AND newest = 1",
                offer.to_string(),
                policy.to_string(),
            ),
            Guard::NotWithdrawn(manifest) => (
                Conflict::Dataset,
                "SELECT 1 FROM version WHERE manifest = ?1 AND json_extract(body, '$.withdrawn') IS NULL AND ?2 = ''",
                manifest.to_string(),
                String::new(),
            ),
            Guard::Process(id, revision) => (
                Conflict::Process,
                "SELECT 1 FROM process WHERE id = ?1 AND revision = CAST(?2 AS INTEGER)",
                id.to_string(),
                revision.to_string(),
            ),
            Guard::Count(agreement, used) => (
                Conflict::UseCount,
                "SELECT 1 FROM agreement WHERE id = ?1 AND used = CAST(?2 AS INTEGER)",
                agreement.to_string(),
                used.to_string(),
            ),
            Guard::OpenProcesses(peer, max) => (
                Conflict::OpenProcesses,
                "SELECT 1 WHERE (SELECT COUNT(*) FROM process WHERE peer = ?1 AND open = 1) < CAST(?2 AS INTEGER)",
                peer.to_string(),
                max.to_string(),
            ),
            Guard::OtherAdmin(token, at) => (
                Conflict::Token,
                "SELECT 1 FROM token WHERE id <> ?1 AND revoked = 0 AND json_extract(body, '$.role') = 'admin'
                 AND json_extract(body, '$.expires') > ?2 LIMIT 1",
                token.to_string(),
                at.to_string(),
            ),
            Guard::DecidedAt(_) => continue,
        };
        let holds = connection.prepare_cached(sql)?.query_row([first, second], |_| Ok(())).optional()?;
        holds.ok_or(StoreError::Conflict(what))?;
    }
    Ok(())
}

/// Applies all writes.
pub fn writes(connection: &Connection, writes: &[Write]) -> Result<(), StoreError> {
    writes.iter().try_for_each(|write| apply(connection, write))
}

fn apply(connection: &Connection, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::InstallRegister { sequence, digest, jws } => one(
            connection,
            Conflict::Register,
            "INSERT INTO register (sequence, digest, jws)
             SELECT ?1, ?2, ?3 WHERE COALESCE((SELECT MAX(sequence) FROM register), ?1 - 1) = ?1 - 1",
            params![*sequence as i64, digest.to_string(), jws],
        ),
        Write::InstallRoot { version, json } => one(
            connection,
            Conflict::RootDocument,
            "INSERT INTO root (version, json) VALUES (?1, ?2)",
            params![*version as i64, json],
        ),
        Write::Quarantine((key, public)) => {
            let sql = "INSERT INTO quarantine (key, public, confirmed) VALUES (?1, ?2, 0)
                       ON CONFLICT (key, public) DO UPDATE SET confirmed = 0";
            connection.prepare_cached(sql)?.execute([key.to_string(), public.to_string()])?;
            Ok(())
        }
        Write::ConfirmKey((key, public)) => one(
            connection,
            Conflict::Quarantine,
            "UPDATE quarantine SET confirmed = 1 WHERE key = ?1 AND public = ?2 AND confirmed = 0",
            [key.to_string(), public.to_string()],
        ),
        Write::PutSchema(row, text) => one(
            connection,
            Conflict::Schema,
            "INSERT INTO schema (digest, id, version, title, statement, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (digest) DO UPDATE SET statement = excluded.statement
             WHERE statement IS NULL AND excluded.statement IS NOT NULL",
            params![row.digest.to_string(), row.id, row.version, row.title, row.statement, text],
        ),
        Write::InsertVersion(version) => insert_version(connection, version),
        Write::Withdraw { dataset, at } => {
            one(
                connection,
                Conflict::Dataset,
                "UPDATE version SET newest = 0 WHERE dataset = ?1 AND newest = 1",
                [dataset.as_str()],
            )?;
            connection
                .prepare_cached("UPDATE version SET body = json_set(body, '$.withdrawn', ?2) WHERE dataset = ?1")?
                .execute([dataset.as_str(), &at.to_string()])?;
            show(connection, dataset, &BTreeSet::new())
        }
        Write::Recall { provider, dataset, reason } => one(
            connection,
            Conflict::Recall,
            "INSERT INTO recalled (provider, dataset, reason) VALUES (?1, ?2, ?3)",
            [provider.as_str(), dataset.as_str(), reason],
        ),
        Write::PutNegotiation(negotiation) => {
            put_process(connection, &ProcessColumns::negotiation(negotiation), &to_text(negotiation)?)
        }
        Write::PutTransfer(transfer) => {
            put_process(connection, &ProcessColumns::transfer(transfer), &to_text(transfer)?)
        }
        Write::InsertAgreement(row) => one(
            connection,
            Conflict::Agreement,
            "INSERT INTO agreement (id, peer, manifest, used, body) VALUES (?1, ?2, ?3, 0, ?4)",
            params![
                row.id.as_str(),
                row.peer.as_str(),
                row.agreement.manifest.map(|digest| digest.to_string()),
                to_text(row)?
            ],
        ),
        Write::CountUse { agreement, max } => one(
            connection,
            Conflict::UseCount,
            "UPDATE agreement SET used = used + 1 WHERE id = ?1 AND used < ?2",
            params![agreement.as_str(), max.map_or(i64::MAX, |max| i64::try_from(max).unwrap_or(i64::MAX))],
        ),
        Write::InsertRelease(row) => one(
            connection,
            Conflict::KeyRequest,
            "INSERT INTO release (request, nonce, one_time_key, body) VALUES (?1, ?2, ?3, ?4)",
            params![row.request.to_string(), row.nonce, row.one_time_key.to_string(), to_text(row)?],
        ),
        Write::PutHolding(holding) => {
            let key = (holding.id.as_str(), holding.transfer.as_str());
            let (revision, updated) = (holding.revision as i64, holding.updated.ms());
            let sql = if holding.revision == 1 {
                "INSERT INTO holding (id, transfer, revision, updated, body) VALUES (?1, ?2, ?3, ?4, ?5)"
            } else {
                "UPDATE holding SET revision = ?3, updated = ?4, body = ?5
                 WHERE id = ?1 AND transfer = ?2 AND revision = ?3 - 1"
            };
            one(connection, Conflict::Holding, sql, params![key.0, key.1, revision, updated, to_text(holding)?])
        }
        Write::PutSource(source) => {
            let (insert, update) = (
                "INSERT INTO source (name, revision, body) VALUES (?1, ?2, ?3)",
                "UPDATE source SET revision = ?2, body = ?3 WHERE name = ?1 AND revision = ?2 - 1",
            );
            let params = params![source.name.as_str(), source.revision as i64, to_text(source)?];
            one(connection, Conflict::Source, if source.revision == 1 { insert } else { update }, params)
        }
        Write::PutSubscription(row) => {
            let (insert, update) = (
                "INSERT INTO subscription (id, revision, body) VALUES (?1, ?2, ?3)",
                "UPDATE subscription SET revision = ?2, body = ?3 WHERE id = ?1 AND revision = ?2 - 1",
            );
            let params = params![row.id.as_str(), row.revision as i64, to_text(row)?];
            one(connection, Conflict::Subscription, if row.revision == 1 { insert } else { update }, params)
        }
        Write::RemoveSubscription(id) => {
            one(connection, Conflict::Subscription, "DELETE FROM subscription WHERE id = ?1", [id.as_str()])
        }
        Write::RemoveSource(name) => {
            one(connection, Conflict::Source, "DELETE FROM source WHERE name = ?1", [name.as_str()])
        }
        Write::InsertToken(token) => one(
            connection,
            Conflict::Token,
            "INSERT INTO token (id, hash, revoked, body) VALUES (?1, ?2, 0, ?3)",
            params![token.id.as_str(), token.hash.to_string(), to_text(token)?],
        ),
        Write::RevokeToken(id) => one(
            connection,
            Conflict::Token,
            "UPDATE token SET revoked = 1, body = json_set(body, '$.revoked', json('true')) WHERE id = ?1 AND revoked = 0",
            [id.as_str()],
        ),
        Write::HastenOutbox(now) => {
            let sql = "UPDATE outbox SET due = ?1, since = min(since, ?1) WHERE due > ?1";
            connection.prepare_cached(sql)?.execute([now.ms()])?;
            Ok(())
        }
        Write::Rewrap { secret, wrapped } => {
            let (table, row, member) = secret_columns(secret.kind);
            let sql = format!(
                "UPDATE {table} SET body = json_set(body, '$.{member}', ?3)
                 WHERE {row} = ?1 AND json_extract(body, '$.{member}') = ?2"
            );
            one(connection, Conflict::Secret, &sql, params![secret.row, secret.wrapped, wrapped])
        }
        Write::IdempotencyKey(row) => {
            let old = row.at.plus_ms(-limits::IDEMPOTENCY_KEY_LIFE_MS);
            connection.prepare_cached("DELETE FROM once WHERE at < ?1")?.execute([old.ms()])?;
            one(
                connection,
                Conflict::IdempotencyKey,
                "INSERT INTO once (token, key, request, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![row.token.as_str(), row.key, row.request.to_string(), row.answer, row.at.ms()],
            )
        }
        Write::DropMessage(id) => one(connection, Conflict::Outbox, "DELETE FROM outbox WHERE id = ?1", [id.as_str()]),
        Write::InsertReceipt { transfer, jws } => one(
            connection,
            Conflict::Receipt,
            "INSERT INTO receipt (transfer, jws) VALUES (?1, ?2)",
            params![transfer.as_str(), jws],
        ),
    }
}

/// The table, row expression and body member that contain secrets of this kind.
pub fn secret_columns(kind: SecretKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        SecretKind::VersionKey => ("version", "dataset || '/' || version", "wrapped_key"),
        SecretKind::HoldingKey => ("holding", "id", "wrapped_key"),
        SecretKind::OneTimeKey => ("holding", "id", "wrapped_one_time_key"),
        SecretKind::TransferToken => ("process", "id", "wrapped_token"),
    }
}

fn insert_version(connection: &Connection, version: &VersionRow) -> Result<(), StoreError> {
    let (dataset, number) = (version.dataset.as_str(), version.version as i64);
    let previous: Option<i64> = connection
        .prepare_cached("SELECT version FROM version WHERE dataset = ?1 AND newest = 1")?
        .query_row([dataset], |row| row.get(0))
        .optional()?;
    if previous.unwrap_or(0) + 1 != number {
        return Err(StoreError::Conflict(Conflict::Dataset));
    }
    connection.prepare_cached("UPDATE version SET newest = 0 WHERE dataset = ?1 AND newest = 1")?.execute([dataset])?;
    one(
        connection,
        Conflict::Dataset,
        "INSERT INTO version (dataset, version, offer, policy, manifest, newest, body) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
        params![
            dataset,
            number,
            version.offer.as_str(),
            version.policy_digest.to_string(),
            version.manifest_digest.to_string(),
            to_text(version)?
        ],
    )?;
    show(connection, &version.dataset, &version.audience)
}

/// Sets the audience of a dataset; audience keys removed by this see it as gone.
fn show(connection: &Connection, dataset: &DatasetId, audience: &BTreeSet<String>) -> Result<(), StoreError> {
    let change: i64 = connection
        .prepare_cached("SELECT COALESCE(MAX(change), 0) + 1 FROM visible")?
        .query_row([], |row| row.get(0))?;
    connection
        .prepare_cached("UPDATE visible SET gone = 1, change = ?2 WHERE dataset = ?1 AND gone = 0")?
        .execute(params![dataset.as_str(), change])?;
    for key in audience {
        connection
            .prepare_cached(
                "INSERT INTO visible (key, dataset, change, gone) VALUES (?1, ?2, ?3, 0)
                 ON CONFLICT (key, dataset) DO UPDATE SET change = ?3, gone = 0",
            )?
            .execute(params![key, dataset.as_str(), change])?;
    }
    Ok(())
}

/// The members of a process that have their own columns.
struct ProcessColumns<'a> {
    id: &'a ProcessId,
    kind: &'static str,
    role: Role,
    peer: &'a ParticipantId,
    peer_pid: Option<&'a ProcessId>,
    negotiation: Option<&'a ProcessId>,
    state: &'static str,
    open: bool,
    revision: u64,
    started: Timestamp,
}

impl<'a> ProcessColumns<'a> {
    fn negotiation(n: &'a Negotiation) -> Self {
        Self {
            id: &n.id,
            kind: "negotiation",
            role: n.role,
            peer: &n.peer,
            peer_pid: n.peer_pid.as_ref(),
            negotiation: None,
            state: n.state.name(),
            open: !n.state.is_final(),
            revision: n.revision,
            started: n.started,
        }
    }

    fn transfer(t: &'a Transfer) -> Self {
        Self {
            id: &t.id,
            kind: "transfer",
            role: t.role,
            peer: &t.peer,
            peer_pid: t.peer_pid.as_ref(),
            negotiation: Some(&t.negotiation),
            state: t.state.name(),
            open: !t.state.is_final(),
            revision: t.revision,
            started: t.started,
        }
    }
}

fn put_process(connection: &Connection, columns: &ProcessColumns<'_>, body: &str) -> Result<(), StoreError> {
    let role = match columns.role {
        Role::Consumer => "consumer",
        Role::Provider => "provider",
    };
    let sql = if columns.revision == 1 {
        "INSERT INTO process (id, kind, role, peer, peer_pid, negotiation, state, open, revision, started, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    } else {
        "UPDATE process SET peer_pid = ?5, negotiation = ?6, state = ?7, open = ?8, revision = ?9, started = ?10, body = ?11
         WHERE id = ?1 AND kind = ?2 AND role = ?3 AND peer = ?4 AND revision = ?9 - 1"
    };
    one(
        connection,
        Conflict::Process,
        sql,
        params![
            columns.id.as_str(),
            columns.kind,
            role,
            columns.peer.as_str(),
            columns.peer_pid.map(ProcessId::as_str),
            columns.negotiation.map(ProcessId::as_str),
            columns.state,
            columns.open,
            columns.revision as i64,
            columns.started.ms(),
            body
        ],
    )
}

/// Puts messages into the outbox.
pub fn outbox(connection: &Connection, messages: &[Outgoing], now: Timestamp) -> Result<(), StoreError> {
    for message in messages {
        one(
            connection,
            Conflict::Outbox,
            "INSERT INTO outbox (id, process, receiver, due, since, attempts, body) VALUES (?1, ?2, ?3, ?4, ?4, 0, ?5)",
            params![message.id.as_str(), message.process.as_str(), message.to.as_str(), now.ms(), to_text(message)?],
        )?;
    }
    Ok(())
}

/// Performs maintenance tasks.
pub fn tasks(connection: &Connection, tasks: &[Maintenance]) -> Result<(), StoreError> {
    for task in tasks {
        match task {
            Maintenance::Checkpoint | Maintenance::Close => {}
            Maintenance::Sent(id) => {
                connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id.as_str()])?;
            }
            Maintenance::SourceRunning { name, at } => {
                let sql = "UPDATE source SET body = json_set(body, '$.progress.running', ?2) WHERE name = ?1";
                connection.prepare_cached(sql)?.execute([name.as_str(), &at.to_string()])?;
            }
            Maintenance::PeerPid { process, peer_pid } => {
                let sql = "UPDATE OR IGNORE process SET peer_pid = ?2, body = json_set(body, '$.peer_pid', ?2)
                           WHERE id = ?1 AND peer_pid IS NULL";
                connection.prepare_cached(sql)?.execute([process.as_str(), peer_pid.as_str()])?;
            }
            Maintenance::Retry { id, at, failure, conflict } => {
                let sql =
                    "UPDATE outbox SET due = ?2, failure = ?3, attempts = attempts + 1, conflicts = conflicts + ?4
                           WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id.as_str(), at.ms(), failure, conflict])?;
            }
            Maintenance::PeerCheckpoint { participant, size, note } => {
                // All are kept, as two contradicting checkpoints are evidence.
                let sql = "INSERT OR IGNORE INTO peer_checkpoint (participant, size, note) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(sql)?.execute(params![participant.as_str(), *size as i64, note])?;
            }
            Maintenance::Promise { participant, entry, jws } => {
                let sql = "INSERT OR IGNORE INTO promise (participant, entry, jws) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(sql)?.execute(params![participant.as_str(), entry.as_str(), jws])?;
            }
        }
    }
    Ok(())
}
