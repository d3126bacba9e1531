//! Whether a node may write: only if its log is the one that its peers saw.

use super::files;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::durable::write_whole;
use crate::service::{LogBehind, Node};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compares the log with what the peers saw before anything is written. Peers that are away hold nothing up, unless the
/// folder is unsettled: restored from a backup, or once found to be behind.
pub async fn compare_at_start(node: &Node, folder: &Path) {
    if is_unsettled(folder) {
        node.read_only()
            .enter("it was restored from a backup, and its log is being compared with what the peers saw of it");
        return settle(node, folder).await;
    }
    match node.compare_log(limits::LOG_COMPARE_AT_START_MAX).await {
        Err(behind) => refuse(node, folder, &behind),
        Ok(_) => begin(node, folder).await,
    }
}

fn is_unsettled(folder: &Path) -> bool {
    folder.join(files::RESTORED).exists()
}

/// The node is behind what others saw. That, and what shows it, is not forgotten at a restart, whoever is away then.
fn refuse(node: &Node, folder: &Path, behind: &LogBehind) {
    tracing::error!(reason = behind.reason, "ALARM: this node is read-only");
    node.read_only().enter(&behind.reason);
    if let Err(error) = write_whole(&folder.join(files::RESTORED), behind.note.as_bytes()) {
        tracing::error!(%error, "that this node is behind could not be filed");
    }
}

/// An unsettled folder goes on when somebody has its register or a newer one, and every active peer of the newest register
/// has told what it saw, and all of that is here.
async fn settle(node: &Node, folder: &Path) {
    let filed = std::fs::read_to_string(folder.join(files::RESTORED)).unwrap_or_default();
    if let Err(behind) = node.compare_with_seen(&filed).await {
        return refuse(node, folder, &behind);
    }
    let refreshed = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, node.refresh_from_peers()).await;
    let asked = node.compare_log(limits::CATCH_UP_TIME_MAX).await;
    let missing = match asked {
        Err(behind) => return refuse(node, folder, &behind),
        Ok(silent) if !silent.is_empty() => {
            let names: Vec<&str> = silent.iter().map(ParticipantId::as_str).collect();
            format!("{} must first tell what they saw of its log (or be suspended by the alliance)", names.join(", "))
        }
        Ok(_) if refreshed.is_err() || !node.is_register_confirmed() => {
            "it needs the newest register, from a peer, the alliance's URL, or `crosspark members install`".to_owned()
        }
        Ok(_) => return begin(node, folder).await,
    };
    let reason = format!("it was restored from a backup, and {missing}");
    tracing::warn!(reason, "this node is read-only");
    node.read_only().enter(reason);
}

async fn begin(node: &Node, folder: &Path) {
    let unsettled = is_unsettled(folder);
    if let Err(error) = node.begin_writing(unsettled).await {
        return node.read_only().enter(error.to_string());
    }
    if unsettled {
        tracing::info!("the restored log is the one that every peer saw; this node goes on");
        if let Err(error) = std::fs::remove_file(folder.join(files::RESTORED)) {
            tracing::warn!(%error, "the mark of a restored folder stays: the log is compared again at the next start");
        }
    }
}

/// Sends what is to be sent once the node may write; and looks, again and again, whether its log still is what others saw.
pub async fn work(node: Arc<Node>, folder: PathBuf) {
    let sending = node.clone();
    let outbox = async move {
        sending.read_only().left().await;
        sending.run_outbox().await;
    };
    let compare = async {
        loop {
            let shut = node.read_only().reason().is_some();
            let pause = if shut { limits::LOG_COMPARE_RESTORED_INTERVAL } else { limits::REGISTER_REFRESH_INTERVAL };
            tokio::time::sleep(pause).await;
            if shut && is_unsettled(&folder) {
                settle(&node, &folder).await;
                continue;
            }
            match node.compare_log(limits::CATCH_UP_TIME_MAX).await {
                Err(behind) => refuse(&node, &folder, &behind),
                // The start did not get as far: a full disk, say.
                Ok(_) if shut => begin(&node, &folder).await,
                Ok(_) => node.observe_checkpoints().await,
            }
        }
    };
    let expiries = async {
        let mut said = BTreeMap::new();
        loop {
            node.warn_of_expiries(&mut said);
            tokio::time::sleep(limits::EXPIRY_CHECK_INTERVAL).await;
            if let Err(error) = node.advance_all().await {
                tracing::warn!(%error, "whether processes ended with time could not be looked at");
            }
        }
    };
    tokio::join!(outbox, compare, expiries);
}
