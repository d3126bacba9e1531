//! Access to a node whose administrator tokens are all lost or expired, for the holder of its folder and key-encryption
//! key.

use super::{EnrolError, FIRST_TOKEN_DAYS, file_error, must_be_settled};
use crate::assembly::{self, AssemblyError, open_store};
use crate::config::Config;
use crate::core::id::Text;
use crate::core::random::Random;
use crate::core::time::{Clock, NodeClock};
use crate::keys::Kek;
use crate::node::UserRole;
use crate::operations::{NewToken, mint_token};
use crate::storage::{Change, Write};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Creates an administrator's token for `person` in the folder of a stopped node, and logs this. Returns the secret.
pub async fn admin_token(
    config: &Config,
    person: Text,
    random: &dyn Random,
    clock: Arc<NodeClock>,
) -> Result<Zeroizing<String>, EnrolError> {
    let _lock = assembly::lock(&config.data)?;
    must_be_settled(&config.data)?;
    let kek = Kek::load(&config.kek_file).map_err(AssemblyError::from)?;
    let new = NewToken { role: UserRole::Admin, person, enterprise: None, days: FIRST_TOKEN_DAYS };
    let minted = mint_token(&new, clock.now(), random);
    let (row, secret, entry) = minted.map_err(|error| file_error(&config.data, error))?;
    let (store, _) = open_store(config, &kek, clock, Arc::default())?;
    store.commit(Change::new(entry).write(Write::InsertToken(row))).await.map_err(AssemblyError::from)?;
    store.close().await.map_err(AssemblyError::from)?;
    Ok(secret)
}
