//! The operator's folder, as the commands of the alliance take and show it.

use super::args::kek_beside;
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::alliance::Alliance;
use crate::config;
use crate::core::id::Text;
use crate::keys::Kek;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// The operator's folder.
#[derive(Args)]
pub struct Folder {
    /// Folder of the alliance.
    pub folder: PathBuf,
    /// File of the key-encryption key; by default FOLDER.kek beside the folder.
    #[arg(long)]
    kek_file: Option<PathBuf>,
}

impl Folder {
    pub fn kek_path(&self) -> PathBuf {
        self.kek_file.clone().unwrap_or_else(|| kek_beside(&self.folder))
    }

    pub fn open(&self) -> anyhow::Result<Alliance> {
        let folder = self.folder.display();
        anyhow::ensure!(self.folder.join("root.json").exists(), "{folder} is no folder of an alliance (no root.json)");
        anyhow::ensure!(
            !self.folder.join(config::FILE).exists(),
            "{folder} is the folder of a node, not of an alliance"
        );
        Ok(Alliance::open(&self.folder, Kek::load(&self.kek_path())?)?)
    }
}

pub fn show(alliance: &Alliance, json: bool) -> Outcome {
    let (root, register) = (alliance.root(), alliance.register().body());
    let older: Vec<String> = alliance.older_roots().map(|root| root.digest().fingerprint()).collect();
    if json {
        output::json(&json!({
            "alliance": register.alliance, "root": root.digest(), "fingerprint": root.digest().fingerprint(),
            "olderFingerprints": older, "sequence": register.sequence, "issued": register.issued, "expires": register.expires,
            "members": register.members, "schemas": register.schemas,
        }))?;
        return done();
    }
    say!("root fingerprint  {}", root.digest().fingerprint());
    for fingerprint in &older {
        say!("older root        {fingerprint} (for audits of nodes that joined under it)");
    }
    say!("register          {} (expires {})", register.sequence, register.expires);
    let members = register.members.iter().map(|member| {
        let names: Vec<&str> = member.names.values().map(Text::as_str).collect();
        let groups: Vec<&str> = member.groups.iter().map(Text::as_str).collect();
        let groups = if groups.is_empty() { String::new() } else { format!("groups: {}", groups.join(", ")) };
        let head = format!("{}  {}", member.id, format!("{:?}", member.status).to_lowercase());
        let reason = member.reason.as_ref().map(|reason| format!("suspended: {reason}")).unwrap_or_default();
        (head, vec![names.join(" / "), member.endpoint.to_string(), groups, reason])
    });
    output::entries(members, "The alliance has no members yet.");
    done()
}
