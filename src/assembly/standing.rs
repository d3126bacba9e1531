//! Whether a node may write: only if its log is the one that its peers saw.

use super::files;
use crate::core::limits;
use crate::service::Node;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compares the log with what the peers saw before anything is written. Peers that are away hold nothing up, unless the
/// folder was restored from a backup: then all of them must have answered.
pub async fn compare_at_start(node: &Node, folder: &Path) {
    node.gate().shut("its log is being compared with what the peers saw of it");
    let restored = folder.join(files::RESTORED).exists();
    match node.compare_log(limits::COMPARE_AT_START_MAX).await {
        Err(reason) => refuse(node, &reason),
        Ok(silent) if restored && !silent.is_empty() => wait_for(node, &silent),
        Ok(_) => open(node, folder, restored).await,
    }
}

fn refuse(node: &Node, reason: &str) {
    tracing::error!(reason, "ALARM: this node is read-only");
    node.gate().shut(reason);
}

fn wait_for(node: &Node, silent: &[crate::core::id::ParticipantId]) {
    let names: Vec<&str> = silent.iter().map(crate::core::id::ParticipantId::as_str).collect();
    let reason = format!(
        "it was restored from a backup, and {} must first tell what they saw of its log (or be suspended by the alliance)",
        names.join(", ")
    );
    tracing::warn!(reason, "this node is read-only");
    node.gate().shut(reason);
}

async fn open(node: &Node, folder: &Path, restored: bool) {
    node.gate().open();
    if restored {
        if let Err(error) = node.resume_log().await {
            return node.gate().shut(error.to_string());
        }
        tracing::info!("the restored log is the one that every peer saw; this node goes on");
        let marker = folder.join(files::RESTORED);
        if let Err(error) = std::fs::remove_file(&marker) {
            tracing::warn!(%error, path = %marker.display(), "could not be removed; it is compared again at the next start");
        }
    }
    // Only what is sure to be this log's state may say which sealed bytes nobody refers to.
    if let Err(error) = node.sweep().await {
        tracing::warn!(%error, "sealed bytes that nothing refers to could not be removed yet");
    }
}

/// Sends what is to be sent once the node may write; and looks, again and again, whether its log still is what others saw.
pub async fn work(node: Arc<Node>, folder: PathBuf) {
    let sending = node.clone();
    let outbox = async move {
        sending.gate().opened().await;
        sending.run_outbox().await;
    };
    let compare = async {
        loop {
            let restored = folder.join(files::RESTORED).exists();
            let pause = if restored { limits::COMPARE_RESTORED_EVERY } else { limits::REGISTER_REFRESH_EVERY };
            tokio::time::sleep(pause).await;
            match node.compare_log(limits::CATCH_UP_TIME_MAX).await {
                Err(reason) => refuse(&node, &reason),
                Ok(silent) if restored && silent.is_empty() => open(&node, &folder, true).await,
                Ok(silent) if restored => wait_for(&node, &silent),
                Ok(_) => node.see_checkpoints().await,
            }
        }
    };
    let expiries = async {
        let mut said = BTreeMap::new();
        loop {
            node.warn_of_expiries(&mut said);
            tokio::time::sleep(limits::EXPIRY_LOOKED_EVERY).await;
        }
    };
    tokio::join!(outbox, compare, expiries);
}
