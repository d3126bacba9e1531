//! The operator's folder, as the commands of the alliance take and show it.

use super::args::kek_beside;
use super::outcome::{Outcome, done};
use super::output;
use crate::alliance::Alliance;
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
    println!("root fingerprint  {}", root.digest().fingerprint());
    for fingerprint in &older {
        println!("older root        {fingerprint} (for audits of nodes that joined under it)");
    }
    println!("register          {} (expires {})", register.sequence, register.expires);
    let rows = register.members.iter().map(|member| {
        let names: Vec<&str> = member.names.values().map(Text::as_str).collect();
        let status = format!("{:?}", member.status).to_lowercase();
        vec![member.id.to_string(), names.join(" / "), status, member.endpoint.to_string()]
    });
    output::table(&["member", "name", "status", "endpoint"], rows);
    done()
}
