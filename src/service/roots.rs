//! Root documents after the first, and the keys that wait for an administrator's word.

use super::refusal::{CountedRefusal, Error};
use super::{Node, Trust, User};
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::KeyId;
use crate::core::limits;
use crate::identity::document::DocumentError;
use crate::identity::register::{KeyName, Member, RegisterError};
use crate::identity::root::RootError;
use crate::storage::{Change, StoreError, Write};
use serde_json::json;
use std::sync::Arc;

impl Node {
    /// Installs a root document if it is the successor of the newest: signed under the old and the new threshold. True if
    /// it was new. trust.md, "Keys".
    pub async fn install_root(&self, text: &[u8], source: &str) -> Result<bool, Error> {
        let trust = self.trust();
        if trust.roots.newest().to_json() == text {
            return Ok(false);
        }
        let roots = match trust.roots.extended(text) {
            Ok(roots) => roots,
            Err(error) => {
                let refused = Error::invalid("root", error.to_string());
                self.refuse_document(text, source, Kind::RootRefused, "root-chain", &refused).await?;
                return Err(refused);
            }
        };
        let newest = roots.newest();
        let (version, digest) = (newest.body().version, newest.digest());
        let facts = Facts {
            detail: super::object(json!({"version": version, "digest": digest, "source": source})),
            ..Facts::default()
        };
        let json = String::from_utf8_lossy(&newest.to_json()).into_owned();
        let write = Write::InstallRoot { version, json: json.clone() };
        match self.commit_trust(Change::new(self.draft(Kind::RootInstalled, facts)).write(write)).await {
            Ok(()) => tracing::info!(version, source, "root document installed"),
            // Somebody else installed it in this moment; another of the same version is not believed.
            Err(StoreError::Conflict(_)) if self.parts.store.roots().await?.contains(&json) => {}
            Err(error) => return Err(error.into()),
        }
        self.believe(|current| {
            let newer = current.roots.newest().body().version < version;
            let (register, quarantine) = (current.register.clone(), current.quarantine.clone());
            newer.then_some(Trust { roots, register, quarantine })
        });
        Ok(true)
    }

    /// Takes a root document that a holder of one of the alliance's certificates brings. Refusals are counted.
    pub async fn accept_root(self: &Arc<Self>, text: &[u8]) -> Result<(), Error> {
        match self.trust().roots.extended(text) {
            Ok(_) => self.install_root(text, "brought by a member").await.map(drop),
            // One that is installed already, as likely as not.
            Err(RootError::Inconsistent(_)) => Ok(()),
            Err(error) => {
                self.count_refusal(CountedRefusal::Register);
                Err(Error::invalid("root", error.to_string()))
            }
        }
    }

    /// Fetches root documents from `member` if the register `jws` stands on one that this node lacks.
    pub(super) async fn fetch_roots_for(&self, member: &Member, jws: &str) {
        let trust = self.trust();
        let unknown = matches!(
            trust.register.successor(jws, &trust.roots),
            Err(RegisterError::Foreign | RegisterError::Document(DocumentError::UnknownKey { .. }))
        );
        for _ in 0..if unknown { limits::ROOTS_PER_FETCH_MAX } else { 0 } {
            let version = self.trust().roots.newest().body().version + 1;
            let fetch = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.parts.peer.root(member, version)).await;
            let Ok(Ok(text)) = fetch else { return };
            if self.install_root(text.as_bytes(), member.id.as_str()).await.is_err() {
                return;
            }
        }
    }

    /// The root document of a version.
    pub fn root(&self, version: u64) -> Result<Vec<u8>, Error> {
        let trust = self.trust();
        let found = trust.roots.version(version);
        found
            .map(|root| root.to_json())
            .ok_or_else(|| Error::not_found(format!("there is no root document {version} here")))
    }

    /// An administrator compared a key with its member: it leaves the quarantine.
    pub async fn confirm_key(&self, user: &User, key: &KeyId, fingerprint: &Digest) -> Result<(), Error> {
        let trust = self.trust();
        let named = |(waiting, public): &&(KeyId, Digest)| waiting == key && public == fingerprint;
        let Some(name) = trust.quarantine.iter().find(named).cloned() else {
            let waiting = trust.quarantine.iter().find(|(waiting, _)| waiting == key);
            let error = match waiting {
                Some((_, public)) => Error::invalid(
                    "key",
                    format!(
                        "the key {key} in quarantine has the fingerprint\n  {}\nnot the one that was given: do not confirm it, and ask the alliance operator",
                        public.fingerprint()
                    ),
                ),
                None => Error::not_found(format!("there is no key {key} in quarantine")),
            };
            return Err(self.refuse_user(Kind::ManagementRefused, Facts::default(), error).await);
        };
        let facts = Facts {
            parties: vec![key.participant()],
            detail: super::object(json!({"key": key, "public": fingerprint, "token": user.token})),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.random());
        let entry = self.draft(Kind::KeyConfirmed, facts).with_field(person);
        self.confirm(Change::new(entry), vec![name]).await
    }

    /// Keys of this very node, which it has in its folder, need nobody's word here.
    pub async fn confirm_own_keys(&self, keys: Vec<KeyName>) -> Result<(), Error> {
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        let facts = Facts { detail: super::object(json!({"own": names})), ..Facts::default() };
        self.confirm(Change::new(self.draft(Kind::KeyConfirmed, facts)), keys).await
    }

    async fn confirm(&self, mut change: Change, keys: Vec<KeyName>) -> Result<(), Error> {
        change.writes.extend(keys.iter().cloned().map(Write::ConfirmKey));
        self.parts.store.commit(change).await?;
        self.believe(|current| {
            let mut quarantine = current.quarantine.clone();
            quarantine.retain(|name| !keys.contains(name));
            let register = current.register.clone().without(&quarantine);
            Some(Trust { roots: current.roots.clone(), register, quarantine })
        });
        Ok(())
    }
}
