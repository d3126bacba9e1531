//! Log lines on standard error: ids as fields, never secrets or bodies.

use crate::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging; `CROSSPARK_LOG` overrides the configured level. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = std::env::var("CROSSPARK_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.or_else(|| EnvFilter::try_new(&log.level).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only if logging was started before, as in tests.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
