//! Logging to standard error. Ids are logged as fields; secrets and bodies are never logged.

use crate::config::{Log, LogFormat};
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(log: &Log) -> EnvFilter {
    let filter = std::env::var("CROSSPARK_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    filter.or_else(|| EnvFilter::try_new(&log.level).ok()).unwrap_or_else(|| EnvFilter::new("info"))
}

/// Starts logging; `CROSSPARK_LOG` overrides the configured level. A second call changes nothing.
pub fn start(log: &Log) {
    let (level, handle) = reload::Layer::new(filter(log));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Fails only if logging has already been started, as in tests.
    if tracing_subscriber::registry().with(level).with(lines).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Changes the level while the node runs.
pub fn change(log: &Log) {
    if let Some(handle) = LEVEL.get()
        && let Err(error) = handle.reload(filter(log))
    {
        tracing::warn!(%error, "the log level could not be changed");
    }
}
