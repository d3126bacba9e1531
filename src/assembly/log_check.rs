//! The check that a node's log is the one that its peers observed, before the node may write.

use super::folder::files;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::durable::write_whole;
use crate::operations::LogBehind;
use crate::services::Services;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Compares the log with what the peers observed before anything is written. Unreachable peers do not block the start,
/// unless the folder is unsettled: restored from a backup, or found to be behind earlier.
pub async fn compare_at_start(services: &Services, folder: &Path) {
    if is_unsettled(folder) {
        services
            .node
            .read_only()
            .enter("the node was restored from a backup, and its log is being compared with what the peers observed");
        return settle(services, folder).await;
    }
    match services.operations.recovery.compare_log(limits::LOG_COMPARE_AT_START_MAX).await {
        Err(behind) => refuse(services, folder, &behind),
        Ok(_) => begin(services, folder).await,
    }
}

/// Whether the folder was restored from a backup, or its log is behind, and this has not been settled with the peers.
pub fn is_unsettled(folder: &Path) -> bool {
    folder.join(files::RESTORED).exists()
}

/// Enters read-only mode because the log is behind. The evidence is stored, so that a restart does not forget it.
fn refuse(services: &Services, folder: &Path, behind: &LogBehind) {
    tracing::error!(reason = behind.reason, "ALARM: this node is read-only");
    services.node.read_only().enter(&behind.reason);
    if let Err(error) = write_whole(&folder.join(files::RESTORED), behind.note.as_bytes()) {
        tracing::error!(%error, "the evidence that this node's log is behind could not be stored");
    }
}

/// Ends read-only mode of an unsettled folder, if a peer or the alliance confirms that its register is the newest, and
/// the log contains what every active peer in that register observed.
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
            format!(
                "{} must first report what they observed of its log, or be suspended by the alliance",
                names.join(", ")
            )
        }
        Ok(_) if refreshed.is_err() || !services.membership.is_register_confirmed() => {
            "it needs the newest register from a peer, from the alliance's URL or by `crosspark members install`"
                .to_owned()
        }
        Ok(_) => return begin(services, folder).await,
    };
    let reason = format!("the node was restored from a backup, and {missing}");
    tracing::warn!(reason, "this node is read-only");
    services.node.read_only().enter(reason);
}

async fn begin(services: &Services, folder: &Path) {
    let unsettled = is_unsettled(folder);
    if let Err(error) = services.operations.recovery.begin_writing(unsettled).await {
        return services.node.read_only().enter(error.to_string());
    }
    if unsettled {
        tracing::info!("the restored log contains what every peer observed; read-only mode has ended");
        if let Err(error) = std::fs::remove_file(folder.join(files::RESTORED)) {
            tracing::warn!(%error, "the mark of a restored folder could not be removed: the next start compares again");
        }
    }
}

/// Delivers messages once the node may write, and periodically compares the log with what the peers observed.
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
            services.node.space().hold_ballast();
            if shut && is_unsettled(&folder) {
                settle(&services, &folder).await;
                continue;
            }
            match services.operations.recovery.compare_log(limits::CATCH_UP_TIME_MAX).await {
                Err(behind) => refuse(&services, &folder, &behind),
                // An error at the start, such as a full disk, prevented writing.
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
                tracing::warn!(%error, "open processes could not be checked for expiry");
            }
        }
    };
    tokio::join!(outbox, compare, expiries);
}
