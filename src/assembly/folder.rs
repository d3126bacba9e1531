//! The folder of a node: its files, its lock, and its trust.

use super::error::{AssemblyError, file_error};
use crate::blob::{Blobs, Space};
use crate::config::Config;
use crate::core::digest::Digest;
use crate::identity::register::{KeyName, VerifiedRegister};
use crate::identity::root::{RootChain, VerifiedRoot};
use crate::node::Trust;
use crate::storage::Store;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// Names of the files in a node's folder.
pub mod files {
    /// Lock against a second process.
    pub const LOCK: &str = "lock";
    /// Root document.
    pub const ROOT: &str = "root.json";
    /// Fingerprint of the root document that the administrator compared.
    pub const ROOT_FINGERPRINT: &str = "root.fingerprint";
    /// Certificate chain, PEM.
    pub const CERTIFICATE: &str = "tls.pem";
    /// Key files.
    pub const KEYS: &str = "keys";
    /// Marks a folder that was restored from a backup and not yet compared with what its peers observed.
    pub const RESTORED: &str = "restored";
    /// Sealed bytes of this node's own datasets.
    pub const BLOBS: &str = "blobs";
    /// Sealed bytes of peers' datasets: separate, so that a peer's manifest cannot refer to this node's own.
    pub const RECEIVED: &str = "received";
}

/// Locks the folder for this process until the returned file is dropped.
pub fn lock(folder: &Path) -> Result<File, AssemblyError> {
    let path = folder.join(files::LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| file_error(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AssemblyError::Locked(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(&path, error)),
    }
}

/// Locks the folder of keys: no keys may be created while all are being wrapped again.
pub fn lock_keys(folder: &Path) -> Result<File, AssemblyError> {
    lock(&folder.join(files::KEYS))
}

/// Loads the root document of a node's folder.
pub fn load_root(folder: &Path) -> Result<VerifiedRoot, AssemblyError> {
    let (path, fingerprint) = (folder.join(files::ROOT), folder.join(files::ROOT_FINGERPRINT));
    if !path.exists() {
        return Err(AssemblyError::NotJoined);
    }
    let text = std::fs::read_to_string(&fingerprint).map_err(|error| file_error(&fingerprint, error))?;
    let compared = Digest::parse_fingerprint(&text).map_err(|error| file_error(&fingerprint, error))?;
    let root = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
    Ok(VerifiedRoot::verify(&root, &compared)?)
}

/// Loads the trust of a node: the root document, checked against the compared fingerprint, its successors, and the
/// newest register without the keys in quarantine, except for the node's own keys `held`.
pub async fn load_trust(config: &Config, store: &dyn Store, held: &[KeyName]) -> Result<Trust, AssemblyError> {
    let mut roots = RootChain::new(load_root(&config.data)?);
    for json in store.roots().await? {
        roots = roots.extended(json.as_bytes())?;
    }
    let newest = store.register_sequence().await?;
    let jws = store.register(newest).await?.ok_or(AssemblyError::NotJoined)?;
    let quarantine = store.quarantined().await?.into_iter().filter(|key| !held.contains(key)).collect();
    // Each register was verified against its predecessor when it was installed.
    let register = VerifiedRegister::verify_in(&jws, &roots)?.without(&quarantine);
    Ok(Trust { roots, register, quarantine })
}

/// Opens a folder of sealed bytes.
pub fn open_blobs(folder: &Path, space: &Arc<Space>) -> Result<Blobs, AssemblyError> {
    Blobs::open(folder, space).map_err(|error| file_error(folder, error))
}
