//! Registers: taken from a file, the alliance's URL or any peer; verified, logged, and never taken back.

use super::refusal::{Error, Stranger, detail};
use super::{Node, Trust};
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::identity::register::{RegisterError, Status, Succession};
use crate::identity::x509::{Presented, Side};
use crate::storage::{Change, StoreError, Write};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl Node {
    /// Installs a register if it is the next one. True if it was new. What is refused is logged.
    pub async fn install_register(&self, jws: &str, source: &str) -> Result<bool, Error> {
        let trust = self.trust();
        match trust.register.successor(jws, &trust.root) {
            Ok(Succession::Same) => Ok(false),
            Ok(Succession::Next(next)) => {
                let (sequence, digest) = (next.body().sequence, next.digest());
                let suspended: Vec<&ParticipantId> =
                    next.body().members.iter().filter(|m| m.status == Status::Suspended).map(|m| &m.id).collect();
                let detail = json!({
                    "sequence": sequence, "digest": digest, "source": source, "suspended": suspended,
                    "members": next.body().members.len(), "expires": next.body().expires,
                });
                let facts = Facts { detail: object(detail), ..Facts::default() };
                let write = Write::InstallRegister { sequence, digest, jws: jws.to_owned() };
                let change = Change::new(self.draft(Kind::RegisterInstalled, facts)).write(write);
                match self.parts.store.commit(change).await {
                    Ok(_) => {}
                    // Somebody else installed it in this moment.
                    Err(StoreError::Conflict(_)) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
                tracing::info!(sequence, source, "register installed");
                let mut current = self.trust.write().unwrap_or_else(PoisonError::into_inner);
                if current.register.body().sequence < sequence {
                    *current = Arc::new(Trust { root: trust.root.clone(), register: *next });
                    self.parts.sequence.store(sequence, Ordering::Relaxed);
                }
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, source, "register refused");
                let facts = Facts {
                    decision: Some(Decision::Refused),
                    rule: Some("register-chain".into()),
                    detail: object(json!({"reason": error.to_string(), "source": source})),
                    ..Facts::default()
                };
                self.parts.store.commit(Change::new(self.draft(Kind::RegisterRefused, facts))).await?;
                Err(Error::invalid("register", error.to_string()))
            }
        }
    }

    /// Fetches the registers that this node lacks from a member that has them, up to `sequence`.
    pub async fn catch_up(&self, from: &ParticipantId, sequence: u64) {
        let _one_at_a_time = self.refresh.lock().await;
        let mut have = self.trust().register.body().sequence;
        let goal = sequence.min(have + limits::PAGE_ROWS_MAX as u64);
        while have < goal {
            let trust = self.trust();
            let Some(member) = trust.register.member(from) else { return };
            match self.parts.peer.register(member, Some(have + 1)).await {
                Ok(jws) if self.install_register(&jws, from.as_str()).await.is_ok() => {}
                Ok(_) => return,
                Err(error) => return tracing::debug!(%error, peer = %from, "register not fetched"),
            }
            have += 1;
        }
    }

    /// Takes a register that a caller brings who may not be a member yet, but holds a certificate of the alliance.
    /// What is refused is counted, not logged one by one, as the caller may be anybody who ever was a member.
    pub async fn offered_register(self: &Arc<Self>, presented: Option<&Presented>, jws: &str) -> Result<(), Error> {
        let (trust, now) = (self.trust(), self.now());
        let ca = trust.root.body().ca.iter().map(|certificate| certificate.0.as_slice());
        if presented.is_none_or(|presented| presented.check(ca, Side::Client, now).is_err()) {
            self.count_stranger(Stranger::NoCertificate);
            return Err(Error::forbidden("certificate", "present a certificate of the alliance"));
        }
        match trust.register.successor(jws, &trust.root) {
            Ok(_) => self.install_register(jws, "brought by a member").await.map(drop),
            Err(error @ RegisterError::Fork(_)) => {
                tracing::error!(%error, "a register was brought that contradicts the installed one");
                self.install_register(jws, "brought by a member").await.map(drop)
            }
            Err(error) => {
                self.count_stranger(Stranger::Register);
                Err(Error::invalid("register", error.to_string()))
            }
        }
    }

    /// Asks every active peer for its newest register, so that a suspension arrives wherever one peer has it.
    pub async fn refresh_from_peers(&self) {
        let trust = self.trust();
        let others = trust.register.body().members.iter();
        for member in others.filter(|member| member.id != self.parts.me && member.status == Status::Active) {
            // The client reads the sequence that a peer states with every answer, and `catch_up` does the rest.
            if let Ok(jws) = self.parts.peer.register(member, None).await {
                match trust.register.successor(&jws, &trust.root) {
                    Ok(Succession::Same) | Err(RegisterError::Older { .. }) => {}
                    Err(RegisterError::Gap { found, .. }) => {
                        self.catch_up(&member.id, found).await;
                    }
                    _ => drop(self.install_register(&jws, member.id.as_str()).await),
                }
            }
        }
    }

    /// The newest register, or the one with this sequence.
    pub async fn register(&self, sequence: Option<u64>) -> Result<String, Error> {
        match sequence {
            None => Ok(self.trust().register.jws().to_owned()),
            Some(sequence) => {
                let found = self.parts.store.registers(sequence, 1).await?.pop();
                let newest = self.trust().register.body().sequence;
                found.filter(|_| sequence <= newest).ok_or_else(|| Error::not_found(format!("no register {sequence}")))
            }
        }
    }

    /// Members with what this node knows of them.
    pub fn members(&self) -> Value {
        let trust = self.trust();
        let body = trust.register.body();
        json!({
            "alliance": body.alliance, "sequence": body.sequence, "issued": body.issued, "expires": body.expires,
            "members": body.members, "schemas": body.schemas,
        })
    }
}

/// The members of a JSON object literal.
pub fn object(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => detail("value", other),
    }
}
