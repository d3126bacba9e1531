//! Registers, from a file, the alliance's URL or any peer: verified, logged, and never replaced by an older one. A
//! member's new key that its old key did not sign is quarantined until an administrator of this node confirms it.

use super::Membership;
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::register::{KeyName, Member, RegisterError, Status, Succession, VerifiedRegister};
use crate::identity::schemas::SchemaEntry;
use crate::node::{CountedRefusal, Error, Trust, details};
use crate::storage::{Change, StoreError, Write};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

impl Membership {
    /// Installs a register if it is the next one. True if it was new. Each refused register is logged once.
    pub async fn install_register(&self, jws: &str, source: &str) -> Result<bool, Error> {
        let trust = self.node.trust();
        let next = trust.register.successor(jws, &trust.roots).and_then(|next| match next {
            Succession::Next(next) if next.body().issued > self.node.now().plus_ms(limits::SKEW_MS_MAX) => {
                Err(RegisterError::Future(next.body().issued))
            }
            next => Ok(next),
        });
        match next {
            Ok(Succession::Same) => {
                self.confirmed.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Ok(Succession::Next(next)) => {
                let mut unproven = trust.register.unproven(&next);
                unproven.extend(self.unproven_of_returning(&trust, &next).await?);
                self.commit_register(&trust, *next, unproven, source).await
            }
            Err(error) => {
                let refused = Error::invalid("register", error.to_string());
                self.refuse_document(jws.as_bytes(), source, Kind::RegisterRefused, "register-chain", &refused).await?;
                Err(refused)
            }
        }
    }

    /// Unproven keys of members that return after their removal: otherwise removing and re-adding a member would bypass
    /// the check that its old key signed the new one.
    async fn unproven_of_returning(&self, trust: &Trust, next: &VerifiedRegister) -> Result<Vec<KeyName>, Error> {
        let members = &next.stated().members;
        let mut unknown: Vec<&Member> = members.iter().filter(|m| trust.register.member(&m.id).is_none()).collect();
        let (mut sequence, mut unproven) = (trust.register.body().sequence, Vec::new());
        while sequence > 1 && !unknown.is_empty() {
            sequence -= 1;
            let Some(jws) = self.stored_register(sequence).await? else { break };
            let Ok(old) = VerifiedRegister::verify_in(&jws, &trust.roots) else { break };
            let returning: Vec<&Member> =
                unknown.iter().copied().filter(|member| old.member(&member.id).is_some()).collect();
            if !returning.is_empty() {
                let keys = old.without(&trust.quarantine).unproven(next);
                unproven
                    .extend(keys.into_iter().filter(|(key, _)| returning.iter().any(|m| m.id == key.participant())));
                unknown.retain(|member| returning.iter().all(|returned| returned.id != member.id));
            }
        }
        Ok(unproven)
    }

    async fn commit_register(
        &self,
        trust: &Trust,
        next: VerifiedRegister,
        unproven: Vec<KeyName>,
        source: &str,
    ) -> Result<bool, Error> {
        let (sequence, digest) = (next.body().sequence, next.digest());
        let suspended: Vec<&ParticipantId> =
            next.body().members.iter().filter(|m| m.status == Status::Suspended).map(|m| &m.id).collect();
        let mut detail = json!({
            "sequence": sequence, "digest": digest, "source": source, "suspended": suspended,
            "members": next.body().members.len(), "expires": next.body().expires,
        });
        let keys: Vec<&str> = unproven.iter().map(|(key, _)| key.as_str()).collect();
        if !keys.is_empty() {
            tracing::error!(sequence, ?keys, "ALARM: new keys that no old key signed are in quarantine");
            detail["quarantined"] = json!(keys);
        }
        let facts = Facts { detail: details(detail), ..Facts::default() };
        let write = Write::InstallRegister { sequence, digest, jws: next.jws().to_owned() };
        let mut change = Change::new(self.node.draft(Kind::RegisterInstalled, facts)).write(write);
        change.writes.extend(unproven.iter().cloned().map(Write::Quarantine));
        match self.commit_trust(change).await {
            Ok(()) => tracing::info!(sequence, source, "register installed"),
            // Installed concurrently by another task; the trust is updated below all the same.
            Err(StoreError::Conflict(_)) => {
                let stored = self.node.store().register(sequence).await?;
                if stored.as_deref() != Some(next.jws()) {
                    return Err(Error::Unavailable("another register was installed in the meantime".into()));
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.confirmed.store(true, Ordering::Relaxed);
        let quarantine = trust.quarantine.iter().cloned().chain(unproven).collect();
        let register = next.without(&quarantine);
        self.node.update_trust(|current| {
            let newer = current.register.body().sequence < sequence;
            newer.then(|| Trust { roots: current.roots.clone(), register, quarantine })
        });
        Ok(true)
    }

    /// Logs a refused register or root document, once while its digest is remembered.
    pub(super) async fn refuse_document(
        &self,
        document: &[u8],
        source: &str,
        kind: Kind,
        rule: &str,
        error: &Error,
    ) -> Result<(), Error> {
        let digest = Digest::of(document);
        let known = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&digest) {
            return Ok(());
        }
        tracing::warn!(%error, source, "a register or root document was refused: {}", rule);
        let facts = Facts {
            decision: Some(Decision::Refused),
            rule: Some(rule.to_owned()),
            detail: details(json!({"reason": error.to_string(), "source": source})),
            ..Facts::default()
        };
        self.node.store().commit(Change::new(self.node.draft(kind, facts))).await?;
        let mut known = known();
        known.push_back(digest);
        if known.len() > limits::REFUSED_REGISTERS_MAX {
            known.pop_front();
        }
        Ok(())
    }

    /// Fetches the registers up to `sequence` that this node lacks from a member that claims to have them. If none
    /// could be installed, the member is not asked again for a while: a claim in a header costs it nothing.
    pub async fn catch_up(&self, from: &ParticipantId, sequence: u64) {
        let now = self.node.now();
        let recent = |at: &Timestamp| now.ms() < at.plus_ms(limits::CATCH_UP_PAUSE_MS).ms();
        if self.fruitless().get(from).is_some_and(recent) {
            return;
        }
        let one_at_a_time = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.fetching.lock()).await;
        let Ok(_one_at_a_time) = one_at_a_time else { return };
        let begun = self.node.trust().register.body().sequence;
        let goal = sequence.min(begun.saturating_add(limits::PAGE_ROWS_MAX as u64));
        for wanted in begun + 1..=goal {
            let trust = self.node.trust();
            let Some(member) = trust.register.member(from) else { break };
            let fetch = self.peer.register(member, Some(wanted));
            let taken = match tokio::time::timeout(limits::CATCH_UP_TIME_MAX, fetch).await {
                Ok(Ok(jws)) => {
                    self.fetch_roots_for(member, &jws).await;
                    self.install_register(&jws, from.as_str()).await.is_ok()
                }
                _ => false,
            };
            if !taken {
                break;
            }
        }
        if self.node.trust().register.body().sequence < goal {
            self.fruitless().insert(from.clone(), now);
        }
    }

    fn fruitless(&self) -> MutexGuard<'_, HashMap<ParticipantId, Timestamp>> {
        self.fruitless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a register from a caller that has a certificate of the alliance, but may not be a member. Refusals are
    /// counted, not logged one by one, because every former member can call this.
    pub async fn accept_register(&self, jws: &str) -> Result<(), Error> {
        let trust = self.node.trust();
        match trust.register.successor(jws, &trust.roots) {
            Ok(_) | Err(RegisterError::Fork(_)) => self.install_register(jws, "sent by a member").await.map(drop),
            Err(error) => {
                self.node.count_refusal(CountedRefusal::Register);
                Err(Error::invalid("register", error.to_string()))
            }
        }
    }

    /// Asks every active peer for its newest register, so that a suspension spreads from a single peer.
    pub async fn refresh_from_peers(&self) {
        let trust = self.node.trust();
        for member in trust.register.body().peers(self.node.me()) {
            // Every answer also states the peer's sequence number, on which the client triggers `catch_up`.
            if let Ok(jws) = self.peer.register(member, None).await {
                self.fetch_roots_for(member, &jws).await;
                let trust = self.node.trust();
                match trust.register.successor(&jws, &trust.roots) {
                    Ok(Succession::Same) => self.confirmed.store(true, Ordering::Relaxed),
                    Err(RegisterError::Older { .. }) => {}
                    Err(RegisterError::Gap { found, .. }) => {
                        self.catch_up(&member.id, found).await;
                    }
                    _ => drop(self.install_register(&jws, member.id.as_str()).await),
                }
            }
        }
    }

    /// Members, schemas and quarantined keys, as JSON.
    pub fn members(&self) -> Members {
        let trust = self.node.trust();
        let body = trust.register.stated();
        let quarantined = |(key, public): &KeyName| QuarantinedKey {
            key: key.clone(),
            member: key.participant(),
            fingerprint: public.fingerprint(),
        };
        Members {
            alliance: body.alliance.clone(),
            sequence: body.sequence,
            issued: body.issued,
            expires: body.expires,
            members: body.members.clone(),
            schemas: body.schemas.clone(),
            quarantine: trust.quarantine.iter().map(quarantined).collect(),
        }
    }
}

/// The newest register, with the keys in quarantine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Members {
    /// The alliance.
    alliance: ParticipantId,
    /// Sequence of the register.
    sequence: u64,
    /// Time of its issue.
    issued: Timestamp,
    /// Time of its expiry.
    expires: Timestamp,
    /// Members.
    members: Vec<Member>,
    /// Shared schemas.
    schemas: Vec<SchemaEntry>,
    /// Keys that an administrator must compare and confirm.
    quarantine: Vec<QuarantinedKey>,
}

/// A key in quarantine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct QuarantinedKey {
    /// The key.
    key: KeyId,
    /// Its member.
    member: ParticipantId,
    /// Its fingerprint.
    fingerprint: String,
}
