//! Real database servers as processes of their own, with TLS.

use crate::harness::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// A program in the path, or where Debian has it.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A command that does not run as root, which database servers refuse.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

const NOBODY: u32 = 65_534;

/// A folder of the server, which the server owns.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Self { folder, port: free_port(), child: Mutex::default() };
        server.certify();
        server.give(server.folder.path());
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn give(&self, path: &Path) {
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// A certificate for `localhost`, and that of its authority.
    fn certify(&self) {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&key).unwrap();
        let own = KeyPair::generate().unwrap();
        let issuer = Issuer::new(ca, key);
        let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&own, &issuer).unwrap();
        for (name, text) in [("ca.pem", authority.pem()), ("tls.pem", leaf.pem()), ("tls.key", own.serialize_pem())] {
            std::fs::write(self.path(name), text).unwrap();
            self.give(&self.path(name));
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.path("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(self.path("password"), "secret\n").unwrap();
    }

    /// The connection `db` of a user who may only read, and `all` of one who may do everything.
    fn connection(&self, kind: &str, user: &str) -> String {
        let (ca, password) = (self.path("ca.pem"), self.path("password"));
        let named = |name: &str, user: &str| {
            format!(
                "[connections.{name}]\nkind = \"{kind}\"\nhost = \"localhost\"\nport = {}\ndatabase = \"shop\"\n\
                 user = \"{user}\"\npassword_file = \"{}\"\nca_file = \"{}\"\n",
                self.port,
                text(&password),
                text(&ca)
            )
        };
        named("db", user) + &named("all", "owner")
    }

    fn spawn(&self, mut command: Command, is_ready: impl Fn() -> bool) {
        let child = command.spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        for _ in 0..600 {
            if is_ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the database server did not start");
    }

    /// Kills the server.
    fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A PostgreSQL server.
pub struct Postgres(Server);

impl Postgres {
    /// Starts one, if it is installed.
    pub fn start() -> Option<Self> {
        let (initdb, _, _) = (program("initdb")?, program("postgres")?, program("psql")?);
        let server = Self(Server::new());
        let (data, password) = (server.0.path("data"), server.0.path("password"));
        let args =
            ["-D", text(&data), "-U", "owner", "--auth=scram-sha-256", "--pwfile", text(&password), "-E", "UTF8"];
        assert!(succeeds(unprivileged(&initdb).args(args).args(["--locale=C.UTF-8", "--no-sync"])));
        server.run();
        assert!(succeeds(&mut server.psql("postgres", "CREATE DATABASE shop")));
        server.execute("CREATE ROLE reader LOGIN PASSWORD 'secret'");
        server.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader");
        Some(server)
    }

    pub fn run(&self) {
        let mut command = unprivileged(&program("postgres").unwrap());
        let own = &self.0;
        command.args(["-D", text(&own.path("data")), "-p", &own.port.to_string(), "-k", text(own.folder.path())]);
        for setting in [
            "listen_addresses=127.0.0.1,::1".to_owned(),
            "ssl=on".into(),
            format!("ssl_cert_file={}", text(&own.path("tls.pem"))),
            format!("ssl_key_file={}", text(&own.path("tls.key"))),
            "fsync=off".into(),
        ] {
            command.args(["-c", &setting]);
        }
        own.spawn(command, || succeeds(&mut self.psql("postgres", "SELECT 1")));
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(program("psql").unwrap());
        command.env("PGPASSWORD", "secret").args(["-h", "127.0.0.1", "-p", &self.0.port.to_string(), "-U", "owner"]);
        command.args(["-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql]);
        command
    }

    pub fn execute(&self, sql: &str) {
        // A backslash in a string is no escape here.
        assert!(succeeds(&mut self.psql("shop", &sql.replace("\\\\", "\\"))), "{sql}");
    }

    pub fn stop(&self) {
        self.0.stop();
    }

    pub fn connection(&self) -> String {
        self.0.connection("postgres", "reader")
    }
}

/// A MariaDB server.
pub struct Mariadb(Server);

impl Mariadb {
    /// Starts one, if it is installed.
    pub fn start() -> Option<Self> {
        let (install, _, _) = (program("mariadb-install-db")?, program("mariadbd")?, program("mariadb")?);
        let server = Self(Server::new());
        let data = server.0.path("data");
        let data = format!("--datadir={}", text(&data));
        let args = ["--no-defaults", &data, "--auth-root-authentication-method=normal"];
        assert!(succeeds(unprivileged(&install).args(args)));
        server.run();
        for sql in [
            "CREATE DATABASE shop CHARACTER SET utf8mb4",
            "DROP USER IF EXISTS ''@'localhost'",
            "CREATE USER reader@'%' IDENTIFIED BY 'secret' REQUIRE SSL",
            "GRANT SELECT ON shop.* TO reader@'%'",
            "CREATE USER owner@'%' IDENTIFIED BY 'secret'",
            "GRANT FILE ON *.* TO owner@'%'",
            "GRANT SELECT ON shop.* TO owner@'%'",
        ] {
            assert!(succeeds(&mut server.mariadb("mysql", sql)), "{sql}");
        }
        Some(server)
    }

    pub fn run(&self) {
        let own = &self.0;
        let mut command = unprivileged(&program("mariadbd").unwrap());
        command.arg("--no-defaults").args([
            format!("--datadir={}", text(&own.path("data"))),
            format!("--port={}", own.port),
            format!("--socket={}", text(&own.path("socket"))),
            format!("--pid-file={}", text(&own.path("pid"))),
            format!("--ssl-cert={}", text(&own.path("tls.pem"))),
            format!("--ssl-key={}", text(&own.path("tls.key"))),
            format!("--ssl-ca={}", text(&own.path("ca.pem"))),
            "--bind-address=*".into(),
        ]);
        own.spawn(command, || succeeds(&mut self.mariadb("mysql", "SELECT 1")));
    }

    fn mariadb(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(program("mariadb").unwrap());
        command.args(["--no-defaults", "--default-character-set=utf8mb4", "-u", "root", "-S"]);
        command.args([text(&self.0.path("socket")), "-e", sql, database]);
        command
    }

    pub fn execute(&self, sql: &str) {
        assert!(succeeds(&mut self.mariadb("shop", sql)), "{sql}");
    }

    pub fn stop(&self) {
        self.0.stop();
    }

    pub fn connection(&self) -> String {
        self.0.connection("mysql", "reader")
    }
}
