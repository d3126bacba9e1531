//! A node's configuration: one TOML file. Errors name the unknown key, the invalid value or the missing file.

mod connections;

pub use connections::{Connection, Database, Folder, Server};

use crate::core::id::{ConnectionName, ParticipantId};
use crate::core::limits;
use crate::identity::endpoint::Endpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file's usual name in a node's folder.
pub const FILE: &str = "crosspark.toml";

/// The configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's participant id.
    pub participant: ParticipantId,
    /// Folder for state, keys and sealed bytes; relative to the configuration file.
    #[serde(default = "here")]
    pub data: PathBuf,
    /// File of the key-encryption key, outside the data folder; relative to the configuration file.
    pub kek_file: PathBuf,
    /// The peer listener.
    pub peer: PeerListener,
    /// The management listener.
    pub management: ManagementListener,
    /// Source of registers besides peers and files.
    #[serde(default)]
    pub alliance: Option<AllianceSource>,
    /// The disk.
    #[serde(default)]
    pub disk: Disk,
    /// Logging to standard error.
    #[serde(default)]
    pub log: Log,
    /// Folders, servers and databases from which sources read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<ConnectionName, Connection>,
}

/// Use of the disk, in MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Free space that sealed bytes never use.
    #[serde(default = "reserve_usual")]
    pub reserve_mib: u64,
    /// Largest delivery that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_mib_max: Option<u64>,
    /// Most that is kept of one provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_mib_max: Option<u64>,
    /// Most that is kept of all providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_mib_max: Option<u64>,
}

fn reserve_usual() -> u64 {
    limits::DISK_RESERVE_MIB
}

impl Default for Disk {
    fn default() -> Self {
        Self { reserve_mib: reserve_usual(), delivery_mib_max: None, provider_mib_max: None, received_mib_max: None }
    }
}

/// The listener for peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerListener {
    /// Address and port.
    pub listen: SocketAddr,
    /// URL at which peers reach it; the same as in the register.
    pub endpoint: Endpoint,
    /// Whether the node may connect to peers on loopback and private networks.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Log entries that one member may cause per minute; further messages are refused and counted.
    #[serde(default = "writes_usual")]
    pub writes_per_member_per_minute: u32,
    /// What one member may cause to be stored per day, in MiB.
    #[serde(default = "stored_usual")]
    pub stored_mib_per_member_per_day: u64,
}

fn stored_usual() -> u64 {
    limits::STORED_MIB_PER_MEMBER_PER_DAY
}

fn writes_usual() -> u32 {
    limits::WRITES_PER_MEMBER_PER_MINUTE
}

/// The listener for this park's own users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagementListener {
    /// Address and port; loopback only.
    pub listen: SocketAddr,
}

/// The alliance's URL.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllianceSource {
    /// URL at which `register.jws` is served.
    pub url: String,
    /// Certificates (PEM) that are trusted for an https URL.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    #[serde(default)]
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `crosspark=debug`.
    #[serde(default = "info")]
    pub level: String,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: info() }
    }
}

fn here() -> PathBuf {
    PathBuf::from(".")
}

fn info() -> String {
    "info".to_owned()
}

/// Error of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or parsed.
    #[error("the configuration {path} cannot be read: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// A key or value is invalid.
    #[error("the configuration {path}, key `{key}`: {reason}")]
    Value {
        /// Path of the file.
        path: PathBuf,
        /// Path of the key.
        key: String,
        /// Cause.
        reason: String,
    },
}

impl Config {
    /// Reads and checks the file; paths in it become absolute.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// Reads and checks the text of the file at `path`; paths in it become absolute.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let reader = toml::Deserializer::parse(text).map_err(|error| file(error.to_string()))?;
        let mut config: Self = serde_path_to_error::deserialize(reader).map_err(|error| ConfigError::Value {
            path: path.to_owned(),
            key: error.path().to_string(),
            reason: error.into_inner().message().to_owned(),
        })?;
        let value = |key: &str, reason: &str| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        if !config.management.listen.ip().is_loopback() {
            return Err(value(
                "management.listen",
                "must be a loopback address, since tokens are not encrypted; for remote users, add a TLS reverse proxy",
            ));
        }
        let level = config.log.level.to_ascii_lowercase();
        if !["error", "warn", "info", "debug", "trace", "off"].contains(&level.as_str()) && !level.contains('=') {
            return Err(value(
                "log.level",
                "must be error, warn, info, debug or trace, or a filter such as crosspark=debug",
            ));
        }
        if let Some(alliance) = &config.alliance
            && !(alliance.url.starts_with("https://") || alliance.url.starts_with("http://"))
        {
            return Err(value("alliance.url", "must begin with https:// or http://"));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::path::absolute(folder).map_err(|error| file(error.to_string()))?;
        config.data = folder.join(&config.data).components().collect();
        config.kek_file = folder.join(&config.kek_file);
        if let Some(ca) = config.alliance.as_mut().and_then(|alliance| alliance.ca_file.as_mut()) {
            *ca = folder.join(&*ca);
        }
        for (name, connection) in &mut config.connections {
            connection.resolve(&folder);
            let checked = connection.check(&config.data, &config.kek_file);
            checked.map_err(|(key, reason)| value(&format!("connections.{name}.{key}"), &reason))?;
        }
        Ok(config)
    }

    /// The configuration as TOML, with a reference to the explanation of its keys.
    pub fn to_toml(&self) -> String {
        let text = toml::to_string(self).unwrap_or_default();
        format!("# Configuration of a crosspark node; README.md explains every key.\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
participant = "did:web:a.example"
kek_file = "../a.kek"
[peer]
listen = "127.0.0.1:8443"
endpoint = "https://127.0.0.1:8443"
[management]
listen = "127.0.0.1:8080"
"#;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn errors_name_the_key() {
        assert!(load(GOOD).is_ok());
        for (from, to, part) in [
            ("kek_file", "kek_fil", "kek_fil"),
            ("did:web:a.example", "a.example", "participant"),
            ("127.0.0.1:8080", "0.0.0.0:8080", "management.listen"),
            ("127.0.0.1:8443\"\nend", "nonsense\"\nend", "peer.listen"),
            ("https://127", "http://127", "peer.endpoint"),
            ("[peer]", "[pear]", "pear"),
            ("[peer]", "[log]\nlevel = \"loud\"\n[peer]", "log.level"),
            ("[peer]", "[connections.Erp]\nkind = \"folder\"\npath = \"x\"\n[peer]", "lower-case"),
            ("[peer]", "[connections.x]\nkind = \"folder\"\npath = \"keys\"\n[peer]", "connections.x.path"),
            ("[peer]", "[connections.x]\nkind = \"folder\"\npath = \"..\"\n[peer]", "connections.x.path"),
            ("[peer]", "[connections.x]\nkind = \"folder\"\npaht = \"../x\"\n[peer]", "paht"),
            ("[peer]", "[connections.x]\nkind = \"http\"\nurl = \"https://x.example\"\nheader = 1\n[peer]", "header"),
            ("[peer]", "[connections.x]\nkind = \"http\"\nurl = \"http://x.example/\"\n[peer]", "plaintext"),
            ("[peer]", "[connections.x]\nkind = \"http\"\nurl = \"https://x.example/a\"\n[peer]", "end with a slash"),
            ("[peer]", "[connections.x]\nkind = \"http\"\nurl = \"https://u:p@x.example/\"\n[peer]", "password"),
            ("[peer]", "[connections.x]\nkind = \"ftp\"\nurl = \"https://x.example/\"\n[peer]", "ftp"),
        ] {
            let error = load(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(part), "{error} lacks {part}");
        }
        let missing = Config::load(Path::new("nowhere/crosspark.toml")).unwrap_err().to_string();
        assert!(missing.contains("nowhere/crosspark.toml"));
        let config = load(GOOD).unwrap();
        toml::from_str::<Config>(&config.to_toml()).unwrap();
    }
}
