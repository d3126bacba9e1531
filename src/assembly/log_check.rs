//! Whether a node may write: only if its log is the one that its peers saw.

use super::folder::files;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::durable::write_whole;
use crate::operations::LogBehind;
use crate::services::Services;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Compares the log with what the peers saw before anything is written. Peers that are away hold nothing up, unless the
/// folder is unsettled: restored from a backup, or once found to be behind.
pub async fn compare_at_start(services: &Services, folder: &Path) {
    if is_unsettled(folder) {
        services
            .node
            .read_only()
            .enter("it was restored from a backup, and its log is being compared with what the peers saw of it");
        return settle(services, folder).await;
    }
    match services.operations.recovery.compare_log(limits::LOG_COMPARE_AT_START_MAX).await {
        Err(behind) => refuse(services, folder, &behind),
        Ok(_) => begin(services, folder).await,
    }
}

fn is_unsettled(folder: &Path) -> bool {
    folder.join(files::RESTORED).exists()
}

/// The node is behind what others saw. That, and what shows it, is not forgotten at a restart, whoever is away then.
fn refuse(services: &Services, folder: &Path, behind: &LogBehind) {
    tracing::error!(reason = behind.reason, "ALARM: this node is read-only");
    services.node.read_only().enter(&behind.reason);
    if let Err(error) = write_whole(&folder.join(files::RESTORED), behind.note.as_bytes()) {
        tracing::error!(%error, "that this node is behind could not be filed");
    }
}

/// An unsettled folder goes on when somebody has its register or a newer one, and every active peer of the newest register
/// has told what it saw, and all of that is here.
async fn settle(services: &Services, folder: &Path) {
    let filed = std::fs::read_to_string(folder.join(files::RESTORED)).unwrap_or_default();
    if let Err(behind) = services.operations.recovery.compare_with_observed(&filed).await {
        return refuse(services, folder, &behind);
    }
    let refreshed = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, services.membership.refresh_from_peers()).await;
    let asked = services.operations.recovery.compare_log(limits::CATCH_UP_TIME_MAX).await;
    let missing = match asked {
        Err(behind) => return refuse(services, folder, &behind),
        Ok(silent) if !silent.is_empty() => {
            let names: Vec<&str> = silent.iter().map(ParticipantId::as_str).collect();
            format!("{} must first tell what they saw of its log (or be suspended by the alliance)", names.join(", "))
        }
        Ok(_) if refreshed.is_err() || !services.membership.is_register_confirmed() => {
            "it needs the newest register, from a peer, the alliance's URL, or `crosspark members install`".to_owned()
        }
        Ok(_) => return begin(services, folder).await,
    };
    let reason = format!("it was restored from a backup, and {missing}");
    tracing::warn!(reason, "this node is read-only");
    services.node.read_only().enter(reason);
}

async fn begin(services: &Services, folder: &Path) {
    let unsettled = is_unsettled(folder);
    if let Err(error) = services.operations.recovery.begin_writing(unsettled).await {
        return services.node.read_only().enter(error.to_string());
    }
    if unsettled {
        tracing::info!("the restored log is the one that every peer saw; this node goes on");
        if let Err(error) = std::fs::remove_file(folder.join(files::RESTORED)) {
            tracing::warn!(%error, "the mark of a restored folder stays: the log is compared again at the next start");
        }
    }
}

/// Sends what is to be sent once the node may write; and looks, again and again, whether its log still is what others saw.
pub async fn work(services: Services, folder: PathBuf) {
    let sending = services.clone();
    let outbox = async move {
        sending.node.read_only().left().await;
        sending.operations.outbox.run().await;
    };
    let compare = async {
        loop {
            let shut = services.node.read_only().reason().is_some();
            let pause = if shut { limits::LOG_COMPARE_RESTORED_INTERVAL } else { limits::REGISTER_REFRESH_INTERVAL };
            tokio::time::sleep(pause).await;
            if shut && is_unsettled(&folder) {
                settle(&services, &folder).await;
                continue;
            }
            match services.operations.recovery.compare_log(limits::CATCH_UP_TIME_MAX).await {
                Err(behind) => refuse(&services, &folder, &behind),
                // The start did not get as far: a full disk, say.
                Ok(_) if shut => begin(&services, &folder).await,
                Ok(_) => services.membership.observe_checkpoints().await,
            }
        }
    };
    let expiries = async {
        let mut said = BTreeMap::new();
        loop {
            services.operations.health.warn_of_expiries(&mut said);
            tokio::time::sleep(limits::EXPIRY_CHECK_INTERVAL).await;
            if let Err(error) = services.operations.outbox.advance_all().await {
                tracing::warn!(%error, "whether processes ended with time could not be looked at");
            }
        }
    };
    tokio::join!(outbox, compare, expiries);
}
