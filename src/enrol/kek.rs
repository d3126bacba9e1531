//! Change of the key-encryption key. If it is interrupted at any point, the node still works and the change can be
//! resumed.

use super::{EnrolError, file_error};
use crate::assembly::{self, AssemblyError, files, open_store};
use crate::audit::entry::{Draft, Facts, Kind};
use crate::config::Config;
use crate::core::limits;
use crate::core::random::Random;
use crate::core::time::NodeClock;
use crate::keys::{Kek, KeyFile};
use crate::storage::{Change, Write};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Creates a new key-encryption key and rewraps every key and secret of the stopped node under it. Returns their
/// number, and the file that now contains the previous key.
pub async fn change_kek(
    config: &Config,
    random: &dyn Random,
    clock: Arc<NodeClock>,
) -> Result<(usize, PathBuf), EnrolError> {
    let _lock = assembly::lock(&config.data)?;
    let _keys = assembly::lock_keys(&config.data)?;
    super::must_be_settled(&config.data)?;
    let kek = Kek::begin_change(&config.kek_file, random).map_err(AssemblyError::from)?;
    let keys = config.data.join(files::KEYS);
    if KeyFile::all(&keys, "token", &kek).map_err(AssemblyError::from)?.is_empty() {
        // Issued transfer tokens must stay valid: their secret, so far derived from the KEK, is stored in a key file.
        let id = config.participant.key(0);
        KeyFile::add(&keys, &id, "token", &kek.token_key()[..], &kek, random).map_err(AssemblyError::from)?;
    }
    let mut count = KeyFile::rewrap_all(&keys, &kek, random).map_err(AssemblyError::from)?;
    let (store, _) = open_store(config, &kek, clock, Arc::default())?;
    loop {
        let old = store.secrets_not_under(kek.id(), limits::PAGE_ROWS_MAX).await.map_err(AssemblyError::from)?;
        if old.is_empty() {
            break;
        }
        let facts =
            Facts { detail: crate::node::details(json!({"kek": kek.id(), "secrets": old.len()})), ..Facts::default() };
        let mut change = Change::new(Draft::new(Kind::KekChanged, facts, random));
        for secret in old {
            let rewrapped = kek.rewrap(secret.cell(), &secret.wrapped, random).map_err(AssemblyError::from)?;
            let wrapped = rewrapped.ok_or_else(|| file_error(&config.data, "a secret was listed twice"))?;
            change.writes.push(Write::Rewrap { secret, wrapped });
            count += 1;
        }
        store.commit(change).await.map_err(AssemblyError::from)?;
    }
    store.close().await.map_err(AssemblyError::from)?;
    let previous = Kek::end_change(&config.kek_file).map_err(AssemblyError::from)?;
    Ok((count, previous))
}
