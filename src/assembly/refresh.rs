//! Fetching newer registers and root documents from the alliance's URL and from peers.

use crate::config::AllianceSource;
use crate::core::limits;
use crate::identity::register::VerifiedRegister;
use crate::net::operator_client;
use crate::services::Services;
use std::sync::{Arc, PoisonError, RwLock};

/// Fetches newer registers from the alliance and the peers, immediately and then every minute.
pub async fn refresh(services: Services, source: Arc<RwLock<Option<AllianceSource>>>) {
    loop {
        let configured = source.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(source) = configured {
            let roots = source.ca_file.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Err(error) = refresh_from_alliance(&services, &source.url, roots.as_deref()).await {
                tracing::warn!(url = source.url, error, "the alliance's register could not be fetched");
            }
        }
        services.membership.refresh_from_peers().await;
        tokio::time::sleep(limits::REGISTER_REFRESH_INTERVAL).await;
    }
}

/// Reads the peers' catalogs into the search index: immediately, every minute, and when the register changes.
pub async fn keep_index(services: Services) {
    let mut changes = services.node.trust_changes();
    loop {
        services.discovery.refresh_index().await;
        tokio::select! {
            () = tokio::time::sleep(limits::CATALOG_REFRESH_INTERVAL) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Fetches from the alliance's URL, a folder with the files `register.jws`, `registers/N.jws` for the registers up to
/// it, and `roots/N.json` for root documents after the first.
async fn refresh_from_alliance(services: &Services, url: &str, roots: Option<&[u8]>) -> Result<(), String> {
    let client = operator_client(roots).map_err(|error| error.to_string())?;
    let base = url.trim_end_matches('/');
    let fetch = async |path: String| -> Result<String, String> {
        let response = client.get(path).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&piece);
            if body.len() > limits::REGISTER_BYTES_MAX {
                return Err("the response is too long".into());
            }
        }
        String::from_utf8(body).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
    };
    let newest = fetch(format!("{base}/register.jws")).await?;
    if newest == services.node.trust().register.jws() {
        return Ok(());
    }
    // Root documents are only fetched if the register does not verify with the known ones.
    for _ in 0..limits::ROOTS_PER_FETCH_MAX {
        let trust = services.node.trust();
        if VerifiedRegister::verify_in(&newest, &trust.roots).is_ok() {
            break;
        }
        let version = trust.roots.newest().body().version + 1;
        let Ok(text) = fetch(format!("{base}/roots/{version}.json")).await else { break };
        services.membership.install_root(text.as_bytes(), url).await.map_err(|error| error.to_string())?;
    }
    let trust = services.node.trust();
    let newest = VerifiedRegister::verify_in(&newest, &trust.roots).map_err(|error| error.to_string())?;
    for sequence in trust.register.body().sequence + 1..=newest.body().sequence {
        let jws = fetch(format!("{base}/registers/{sequence}.jws")).await?;
        services.membership.install_register(&jws, url).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
