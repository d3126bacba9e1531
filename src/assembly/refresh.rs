//! Fetching newer registers, root documents and schemas from the alliance's URL and from peers.

use crate::config::AllianceSource;
use crate::core::limits;
use crate::core::time::backoff;
use crate::identity::register::VerifiedRegister;
use crate::net::operator_client;
use crate::node::PeerSchema;
use crate::services::Services;
use std::sync::{Arc, PoisonError, RwLock};

/// Fetches newer registers from the alliance and the peers, immediately and then every minute.
pub async fn refresh(services: Services, source: Arc<RwLock<Option<AllianceSource>>>) {
    loop {
        let configured = source.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(source) = configured
            && let Err(error) = refresh_from_alliance(&services, &source).await
        {
            tracing::warn!(url = source.url, error, "the alliance's register could not be fetched");
        }
        services.membership.refresh_from_peers().await;
        tokio::time::sleep(limits::REGISTER_REFRESH_INTERVAL).await;
    }
}

/// Reads the peers' catalogs into the search index, and requests the versions that are subscribed to: immediately, every minute, and when the register changes.
pub async fn keep_index(services: Services) {
    let mut changes = services.node.trust_changes();
    loop {
        services.discovery.refresh_index().await;
        services.subscriptions.look().await;
        tokio::select! {
            () = tokio::time::sleep(limits::CATALOG_REFRESH_INTERVAL) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Fetches the schemas that the register lists and this node lacks, from the alliance's URL or the peers: when the register
/// changes, and again while one is missing.
pub async fn keep_schemas(services: Services, source: Arc<RwLock<Option<AllianceSource>>>) {
    let mut changes = services.node.trust_changes();
    services.node.read_only().left().await;
    let mut attempt = 0;
    loop {
        let pause = match fetch_schemas(&services, &source).await {
            Ok(0) => None,
            Ok(missing) => {
                tracing::info!(missing, "shared schemas could not be fetched yet");
                Some(backoff(attempt))
            }
            Err(error) => {
                tracing::warn!(error, "shared schemas could not be fetched");
                Some(backoff(attempt))
            }
        };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = again => attempt += 1,
            changed = changes.changed() => match changed {
                Ok(()) => attempt = 0,
                Err(_) => return,
            },
        }
    }
}

/// Returns how many are still missing.
async fn fetch_schemas(services: &Services, source: &RwLock<Option<AllianceSource>>) -> Result<usize, String> {
    let missing = services.schemas.missing().await.map_err(|error| error.to_string())?;
    if missing.is_empty() {
        return Ok(0);
    }
    let configured = source.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(source) = configured {
        let folder = AllianceFolder::new(&source)?;
        let mut failures = 0;
        for digest in missing {
            let name = digest.to_string().replace("sha256:", "");
            let Ok(text) = folder.fetch(&format!("schemas/{name}.json")).await else {
                failures += 1;
                if failures == limits::SCHEMA_SOURCES_MAX {
                    break;
                }
                continue;
            };
            let answer = PeerSchema { text, statement: None };
            let accepted = services.schemas.accept(&digest, answer, &source.url).await;
            accepted.unwrap_or_else(|error| tracing::warn!(%error, %digest, url = source.url, "a schema is refused"));
        }
    }
    services.schemas.fetch_missing().await.map_err(|error| error.to_string())?;
    services.schemas.missing().await.map(|missing| missing.len()).map_err(|error| error.to_string())
}

/// The folder at the alliance's URL, with the files `register.jws`, `registers/N.jws` for the registers up to it,
/// `roots/N.json` for root documents after the first, and `schemas/DIGEST.json`.
struct AllianceFolder {
    client: reqwest::Client,
    base: String,
}

impl AllianceFolder {
    fn new(source: &AllianceSource) -> Result<Self, String> {
        let roots = source.ca_file.as_ref().and_then(|path| std::fs::read(path).ok());
        let client = operator_client(roots.as_deref()).map_err(|error| error.to_string())?;
        Ok(Self { client, base: source.url.trim_end_matches('/').to_owned() })
    }

    async fn fetch(&self, name: &str) -> Result<String, String> {
        let response = self.client.get(format!("{}/{name}", self.base)).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&piece);
            if body.len() > limits::REGISTER_BYTES_MAX {
                return Err("the response is too long".into());
            }
        }
        String::from_utf8(body).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
    }
}

async fn refresh_from_alliance(services: &Services, source: &AllianceSource) -> Result<(), String> {
    let (folder, url) = (AllianceFolder::new(source)?, source.url.as_str());
    let newest = folder.fetch("register.jws").await?;
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
        let Ok(text) = folder.fetch(&format!("roots/{version}.json")).await else { break };
        services.membership.install_root(text.as_bytes(), url).await.map_err(|error| error.to_string())?;
    }
    let trust = services.node.trust();
    let newest = VerifiedRegister::verify_in(&newest, &trust.roots).map_err(|error| error.to_string())?;
    for sequence in trust.register.body().sequence + 1..=newest.body().sequence {
        let jws = folder.fetch(&format!("registers/{sequence}.jws")).await?;
        services.membership.install_register(&jws, url).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
