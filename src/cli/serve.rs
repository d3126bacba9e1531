//! `crosspark serve`

use super::outcome::{Outcome, done};
use crate::assembly::{self, Overrides};
use crate::config::{self, Config};
use crate::telemetry;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the node, or its configuration file.
    node: PathBuf,
}

/// Raises the limit of open files: the usual soft limit of 1,024 is far below the node's own connection limits.
fn allow_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised and stays at {:?}", limit.current);
    }
}

pub async fn run(args: Args) -> Outcome {
    let path = if args.node.is_dir() { args.node.join(config::FILE) } else { args.node };
    let config = Config::load(&path)?;
    telemetry::start(&config.log);
    allow_connections();
    let (stop, stopping) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("the node is stopping");
        let _ = stop.send(true);
    });
    let assembled = assembly::assemble(config, Overrides::default()).await?;
    let (reloader, mut hangup) = (assembled.reloader(), signal(SignalKind::hangup())?);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reloader.reload(&path);
        }
    });
    assembled.run(stopping).await?;
    done()
}
