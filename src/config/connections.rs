//! Connections to folders, servers and databases of the park, from which sources read. Who runs the node configures them,
//! so that no user of its API can make it read another file, call another server, or send a secret elsewhere.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use url::Url;

/// A place from which records are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Connection {
    /// Files in a folder; not those in folders of it, and no symbolic links.
    Folder(Folder),
    /// An HTTP server.
    Http(Server),
    /// A PostgreSQL database.
    Postgres(Database),
    /// A MySQL or MariaDB database.
    Mysql(Database),
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Its path; relative to the configuration file.
    pub path: PathBuf,
}

/// An HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// URL below which resources are read; it ends with a slash.
    pub url: Url,
    /// Headers of each request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are in files.
    #[serde(default)]
    pub secret_headers: BTreeMap<String, PathBuf>,
    /// Certificates (PEM) that are trusted; by default those that this machine trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether it may be read without encryption.
    #[serde(default)]
    pub plaintext: bool,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Host name or address; a path is the folder (PostgreSQL) or file (MySQL) of a Unix socket.
    pub host: String,
    /// Port, if it is not the usual one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Name of the database.
    pub database: String,
    /// User, who needs to read only.
    pub user: String,
    /// File of the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted; by default those that this machine trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether it may be read without encryption.
    #[serde(default)]
    pub plaintext: bool,
}

impl Database {
    /// Host and port, for people.
    pub fn address(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Whether it is a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Whether the connection is encrypted: unless plaintext is allowed or, without certificates, on this machine.
    pub fn is_encrypted(&self) -> bool {
        let needless = self.ca_file.is_none() && is_this_machine(&self.host);
        !self.plaintext && !self.is_socket() && !needless
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A path without links and `..`, as far as it exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(plain.pop()),
                other => plain.push(other),
            }
        }
        plain
    })
}

/// A key and the reason why its value is invalid.
type Wrong = (&'static str, String);

impl Connection {
    /// Its kind, as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Http(_) => "http",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
        }
    }

    /// Where it leads, for people; without secrets.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(folder) => real(&folder.path).display().to_string(),
            Self::Http(server) => server.url.to_string(),
            Self::Postgres(database) | Self::Mysql(database) => {
                format!("{} at {}, as {}", database.database, database.address(), database.user)
            }
        }
    }

    /// Makes the paths absolute, below `folder`.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let paths: Vec<&mut PathBuf> = match self {
            Self::Folder(inner) => vec![&mut inner.path],
            Self::Http(server) => server.secret_headers.values_mut().chain(&mut server.ca_file).collect(),
            Self::Postgres(database) | Self::Mysql(database) => {
                database.password_file.iter_mut().chain(&mut database.ca_file).collect()
            }
        };
        paths.into_iter().for_each(|path| *path = folder.join(&*path).components().collect());
    }

    /// Fails, with the key, if this cannot be meant. `data` is the node's own folder, `kek` the file of its key-encryption
    /// key.
    pub(super) fn check(&self, data: &Path, kek: &Path) -> Result<(), Wrong> {
        match self {
            Self::Folder(folder) if real(&folder.path).starts_with(real(data)) => {
                Err(("path", "is in the node's own folder, which holds its keys".into()))
            }
            Self::Folder(folder) if real(kek).parent() == Some(&real(&folder.path)) => {
                Err(("path", "holds the file of the node's key-encryption key".into()))
            }
            Self::Folder(_) => Ok(()),
            Self::Http(server) => server.check(),
            Self::Postgres(database) | Self::Mysql(database) if database.host.is_empty() => {
                Err(("host", "is empty".into()))
            }
            Self::Postgres(_) | Self::Mysql(_) => Ok(()),
        }
    }
}

impl Server {
    fn check(&self) -> Result<(), Wrong> {
        let url = &self.url;
        let host = url.host_str().unwrap_or_default();
        if !matches!(url.scheme(), "https" | "http") || host.is_empty() {
            return Err(("url", "must begin with https:// or http://".into()));
        }
        if !url.path().ends_with('/') || url.query().is_some() || url.fragment().is_some() {
            return Err(("url", "must end with a slash; the rest of the URL belongs to the source".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("url", "must not hold a password: name its file in `secret_headers`".into()));
        }
        if url.scheme() == "http" && !self.plaintext && !is_this_machine(host) {
            return Err(("url", "is not encrypted: use https, or set `plaintext = true`".into()));
        }
        for (name, value) in &self.headers {
            let valid = http::HeaderValue::from_str(value).is_ok();
            if !valid || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(("headers", format!("`{name}` is not a header")));
            }
        }
        match self.secret_headers.keys().find(|name| http::HeaderName::from_bytes(name.as_bytes()).is_err()) {
            Some(name) => Err(("secret_headers", format!("`{name}` is not the name of a header"))),
            None => Ok(()),
        }
    }
}
