//! `crosspark backup` and `crosspark restore`

use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::assembly::files;
use crate::backup;
use crate::config::{self, Config};
use crate::core::time::{Clock, SystemClock};
use crate::identity::key::KeyUse;
use crate::keys::{Kek, KeyFile};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Backup {
    /// Folder of the node, which may be running.
    folder: PathBuf,
    /// Archive file to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args)]
pub struct Restore {
    /// Archive file.
    archive: PathBuf,
    /// Folder to create; it must not exist.
    #[arg(long)]
    into: PathBuf,
}

pub fn backup(args: &Backup, json: bool) -> Outcome {
    let config = Config::load(&args.folder.join(config::FILE))?;
    let bar = output::bytes_bar(None, "backing up");
    let contents = backup::make(&config, &args.out, SystemClock.now(), &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if json {
        output::json(&json!({"archive": args.out, "files": contents.files.len(), "entries": contents.entries}))?;
        return done();
    }
    say!("{}: {} files, {} log entries.", args.out.display(), contents.files.len(), contents.entries);
    say!("It does not contain the key-encryption key {}: keep a copy elsewhere.", config.kek_file.display());
    done()
}

/// Checks that the key-encryption key opens the node's keys.
fn opens(config: &Config) -> anyhow::Result<()> {
    let kek = Kek::load(&config.kek_file)?;
    let path = config.data.join(files::KEYS).join(format!("{}.key", KeyUse::Tls.name()));
    KeyFile::load(&path, KeyUse::Tls.name(), &kek)?;
    Ok(())
}

pub fn restore(args: &Restore, json: bool) -> Outcome {
    let bar = output::bytes_bar(None, "restoring");
    let contents = backup::restore(&args.archive, &args.into, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let config = Config::load(&args.into.join(config::FILE))?;
    anyhow::ensure!(
        config.data == std::path::absolute(&args.into)?,
        "restored, but `data` in its configuration is {}: set it to \".\" before you start the node",
        config.data.display()
    );
    if json {
        output::json(
            &json!({"participant": contents.participant, "made": contents.made, "entries": contents.entries}),
        )?;
        return done();
    }
    say!("{} as of {}, with {} log entries.", contents.participant, contents.made, contents.entries);
    if config.kek_file.exists() {
        if let Err(error) = opens(&config) {
            say!("Before the start: {error}");
        }
    } else {
        say!("Copy its key-encryption key to {} (mode 600).", config.kek_file.display());
    }
    say!("Start the node: crosspark serve {}", args.into.display());
    say!("The node stays read-only until every active peer has reported its newest checkpoint of this log. If one is");
    say!("newer than this backup, use a newer backup: restoring this one does not undo what was done after it.");
    done()
}
