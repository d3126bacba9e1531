//! Root documents after the first.

use super::Membership;
use crate::audit::entry::{Facts, Kind};
use crate::core::limits;
use crate::identity::document::DocumentError;
use crate::identity::register::{Member, RegisterError};
use crate::identity::root::RootError;
use crate::node::{CountedRefusal, Error, Trust, details};
use crate::storage::{Change, StoreError, Write};
use serde_json::json;

impl Membership {
    /// Installs a root document if it succeeds the newest one. It must reach the thresholds of both documents, so that
    /// only the previous key holders can hand over trust. True if it was new.
    pub async fn install_root(&self, text: &[u8], source: &str) -> Result<bool, Error> {
        let trust = self.node.trust();
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
            detail: details(json!({"version": version, "digest": digest, "source": source})),
            ..Facts::default()
        };
        let json = String::from_utf8_lossy(&newest.to_json()).into_owned();
        let write = Write::InstallRoot { version, json: json.clone() };
        match self.commit_trust(Change::new(self.node.draft(Kind::RootInstalled, facts)).write(write)).await {
            Ok(()) => tracing::info!(version, source, "root document installed"),
            // Installed concurrently by another task; a different document of this version is refused.
            Err(StoreError::Conflict(_)) if self.node.store().roots().await?.contains(&json) => {}
            Err(error) => return Err(error.into()),
        }
        self.node.update_trust(|current| {
            let newer = current.roots.newest().body().version < version;
            let (register, quarantine) = (current.register.clone(), current.quarantine.clone());
            newer.then_some(Trust { roots, register, quarantine })
        });
        Ok(true)
    }

    /// Accepts a root document from a caller that has a certificate of the alliance. Refusals are counted.
    pub async fn accept_root(&self, text: &[u8]) -> Result<(), Error> {
        match self.node.trust().roots.extended(text) {
            Ok(_) => self.install_root(text, "sent by a member").await.map(drop),
            // Most likely already installed.
            Err(RootError::Inconsistent(_)) => Ok(()),
            Err(error) => {
                self.node.count_refusal(CountedRefusal::Register);
                Err(Error::invalid("root", error.to_string()))
            }
        }
    }

    /// Fetches root documents from `member` if the register `jws` was signed under one that this node lacks.
    pub(super) async fn fetch_roots_for(&self, member: &Member, jws: &str) {
        let trust = self.node.trust();
        let unknown = matches!(
            trust.register.successor(jws, &trust.roots),
            Err(RegisterError::Foreign | RegisterError::Document(DocumentError::UnknownKey { .. }))
        );
        for _ in 0..if unknown { limits::ROOTS_PER_FETCH_MAX } else { 0 } {
            let version = self.node.trust().roots.newest().body().version + 1;
            let fetch = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.peer.root(member, version)).await;
            let Ok(Ok(text)) = fetch else { return };
            if self.install_root(text.as_bytes(), member.id.as_str()).await.is_err() {
                return;
            }
        }
    }

    /// The root document of a version.
    pub fn root(&self, version: u64) -> Result<Vec<u8>, Error> {
        let trust = self.node.trust();
        let found = trust.roots.version(version);
        found
            .map(|root| root.to_json())
            .ok_or_else(|| Error::not_found(format!("this node has no root document of version {version}")))
    }
}
