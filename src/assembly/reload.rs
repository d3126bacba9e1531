//! Replacement of keys, certificates and configuration while the node runs.

use super::error::AssemblyError;
use super::identity::{LogSigner, OwnKeys, held_keys};
use crate::config::{AllianceSource, Config};
use crate::core::id::ParticipantId;
use crate::core::time::Clock;
use crate::identity::register::{KeyName, Member};
use crate::keys::Kek;
use crate::net::{CertificateResolver, MemberClients};
use crate::node::Trust;
use crate::services::Services;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The keys in use, and their sources.
pub struct ActiveKeys {
    pub(super) folder: PathBuf,
    pub(super) kek_file: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) resolver: Arc<CertificateResolver>,
    pub(super) clients: Arc<MemberClients>,
    pub(super) signer: Arc<LogSigner>,
    pub(super) alliance: Arc<RwLock<Option<AllianceSource>>>,
}

impl ActiveKeys {
    /// This node's own keys that are in quarantine although it has them in its folder.
    async fn held(&self, services: &Services) -> Result<Vec<KeyName>, AssemblyError> {
        let mut waiting = services.node.store().quarantined().await?;
        waiting.retain(|(key, _)| key.participant() == *services.node.me());
        if waiting.is_empty() {
            return Ok(waiting);
        }
        let held = held_keys(&self.folder, &Kek::load(&self.kek_file)?)?;
        waiting.retain(|name| held.contains(name));
        Ok(waiting)
    }

    /// Loads the listed keys and certificates again. On an error the current ones stay in use.
    fn reload_keys(&self, services: &Services) -> Result<(), AssemblyError> {
        let trust = services.node.trust();
        let kek = Kek::load(&self.kek_file)?;
        let member = own_member(services.node.me(), &trust)?;
        let keys = OwnKeys::load(&self.folder, &kek, member, self.clock.now())?;
        self.resolver.change(&keys.tls)?;
        self.clients.change(keys.tls, trust.roots.ca().map(<[u8]>::to_vec).collect());
        self.signer.change(keys.log);
        services.node.use_document_key(keys.document);
        services.operations.health.set_certificate_end(keys.certificate_until);
        Ok(())
    }

    /// Reads the configuration again: the alliance's URL, the connections and the log level take effect now, everything else
    /// at the next start.
    fn reload_config(&self, path: &Path, running: &Config, services: &Services) -> Result<(), AssemblyError> {
        let new = Config::load(path)?;
        crate::telemetry::change(&new.log);
        *self.alliance.write().unwrap_or_else(PoisonError::into_inner) = new.alliance.clone();
        services.sources.use_connections(new.connections.clone());
        let at_start = |config: &Config| (config.peer.clone(), config.management.clone(), config.data.clone());
        if at_start(&new) != at_start(running) {
            tracing::warn!("`peer`, `management` and `data` in the configuration only take effect at the next start");
        }
        Ok(())
    }
}

/// The entry of `me` in the register.
pub fn own_member<'a>(me: &ParticipantId, trust: &'a Trust) -> Result<&'a Member, AssemblyError> {
    let sequence = trust.register.body().sequence;
    let missing = || AssemblyError::Mismatch(format!("register {sequence} does not list {me}"));
    trust.register.member(me).ok_or_else(missing)
}

/// Reads configuration, keys and certificates again while the node runs.
#[derive(Clone)]
pub struct Reloader {
    pub(super) services: Services,
    pub(super) active: Arc<ActiveKeys>,
    pub(super) config: Arc<Config>,
}

impl Reloader {
    /// Reloads everything; errors are logged, and leave the current state. Connections and transfers continue.
    pub fn reload(&self, path: &Path) {
        let (config, keys) =
            (self.active.reload_config(path, &self.config, &self.services), self.active.reload_keys(&self.services));
        match config.and(keys) {
            Ok(()) => tracing::info!("configuration, keys and certificates reloaded"),
            Err(error) => {
                tracing::error!(%error, "reloading failed; unreadable settings and keys stay as they were")
            }
        }
    }
}

/// Reloads the keys when the trust changes: a register may list new keys of this node, and a root document another CA.
pub async fn follow_trust(services: Services, active: Arc<ActiveKeys>) {
    let mut changes = services.node.trust_changes();
    loop {
        services.node.read_only().left().await;
        match active.held(&services).await {
            Ok(held) if !held.is_empty() => {
                if let Err(error) = services.membership.confirm_own_keys(held).await {
                    tracing::error!(%error, "this node's own new keys could not be confirmed");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "this node's own keys could not be read"),
        }
        if changes.changed().await.is_err() {
            return;
        }
        if let Err(error) = active.reload_keys(&services) {
            tracing::error!(%error, "the keys could not be reloaded; the current ones stay in use");
        }
    }
}
