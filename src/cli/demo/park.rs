//! The operator and the parks of the demonstration, which run the program's own commands in separate processes.

use super::story::Words;
use crate::cli::api::Api;
use crate::cli::token;
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::node::UserRole;
use crate::operations::NewToken;
use anyhow::Context;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Runs this program with `args` and `--json`, and returns its output.
fn run(args: &[&str]) -> anyhow::Result<Value> {
    let program = std::env::current_exe()?;
    let output = std::process::Command::new(program).args(args).arg("--json").output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "crosspark {}: {}", args.join(" "), complaint.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the folder's name is not valid UTF-8")
}

fn member(value: &Value, name: &str) -> anyhow::Result<String> {
    value[name].as_str().map(str::to_owned).with_context(|| format!("`{name}` is missing"))
}

/// The alliance's operator.
pub struct Operator {
    folder: PathBuf,
    fingerprint: String,
}

impl Operator {
    pub fn init(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("alliance");
        let names = ["--name", "en=Shijingshan parks", "--name", "zh=石景山园区联盟"];
        let args = ["alliance", "init", path(&folder)?, "--id", "did:web:alliance.example"];
        let made = run(&[&args[..], &names].concat())?;
        Ok(Self { fingerprint: member(&made, "fingerprint")?, folder })
    }

    pub fn fingerprint(&self) -> Digest {
        Digest::parse_fingerprint(&self.fingerprint).unwrap_or(Digest::of(b""))
    }

    pub fn admit(&self, park: &Park) -> anyhow::Result<()> {
        let request = park.folder.join(crate::enrol::JOIN_REQUEST);
        let (welcome, folder) = (park.folder.with_extension("welcome.json"), path(&self.folder)?);
        let args = ["alliance", "admit", folder, "--request", path(&request)?, "--fingerprint", &park.fingerprint];
        run(&[&args[..], &["--group", "pilot", "--welcome", path(&welcome)?]].concat()).map(drop)
    }
}

/// A park's node.
pub struct Park {
    folder: PathBuf,
    id: ParticipantId,
    name: String,
    chinese: String,
    fingerprint: String,
    admin: String,
    endpoint: String,
    management: String,
    secrets: Vec<(UserRole, String)>,
    process: Option<Child>,
}

/// A free port. If another process takes it before the node does, the node reports that.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Park {
    /// The node listens on `first` and the port after it, or on free ports.
    pub async fn make(
        folder: &Path,
        short: &str,
        name: &str,
        chinese: &str,
        first: Option<u16>,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(short);
        let id = format!("did:web:{short}.example");
        let (peers, users) = match first {
            Some(first) => {
                for port in [first, first + 1] {
                    TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("the port {port}"))?;
                }
                (first, first + 1)
            }
            None => (free_port()?, free_port()?),
        };
        let (endpoint, listen) = (format!("https://127.0.0.1:{peers}"), format!("127.0.0.1:{peers}"));
        let management = format!("127.0.0.1:{users}");
        let (en, zh) = (format!("en={name}"), format!("zh={chinese}"));
        let made = run(&[
            "node",
            "init",
            path(&folder)?,
            "--id",
            &id,
            "--name",
            &en,
            "--name",
            &zh,
            "--jurisdiction",
            "CN-BJ",
            "--endpoint",
            &endpoint,
            "--listen",
            &listen,
            "--management",
            &management,
            "--allow-private-addresses",
        ])?;
        Ok(Self {
            folder,
            id: ParticipantId::parse(&id)?,
            name: name.to_owned(),
            chinese: chinese.to_owned(),
            fingerprint: member(&made, "fingerprint")?,
            admin: member(&made, "adminToken")?,
            endpoint,
            management: format!("http://{management}"),
            secrets: Vec::new(),
            process: None,
        })
    }

    pub fn join(&self, operator: &Operator) -> anyhow::Result<()> {
        let (folder, welcome) = (path(&self.folder)?, self.folder.with_extension("welcome.json"));
        let args = ["node", "join", folder, "--welcome", path(&welcome)?, "--root-fingerprint", &operator.fingerprint];
        run(&args).map(drop)
    }

    /// Starts the node, waits until it is ready, and creates a token for each role.
    pub async fn start(mut self) -> anyhow::Result<Self> {
        let log = std::fs::File::create(self.folder.with_extension("log"))?;
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", path(&self.folder)?])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.process = Some(process);
        self.wait_ready().await?;
        let admin = Api::with(&self.management, &self.admin)?;
        for (role, person) in
            [(UserRole::Publisher, "publisher"), (UserRole::Requester, "requester"), (UserRole::Auditor, "auditor")]
        {
            let enterprise =
                (role == UserRole::Requester).then(|| Text::parse("Silkroad Visual Beijing Center")).transpose()?;
            let new = NewToken { role, person: Text::parse(person)?, enterprise, days: 1 };
            let made = token::create(&admin, &new).await?;
            self.secrets.push((role, member(&made, "secret")?));
        }
        Ok(self)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let client = crate::net::own_node_client()?;
        for _ in 0..2_000 {
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().transpose()) {
                let log = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
                anyhow::bail!("the node {} ended ({}): {log}", self.id, status?);
            }
            let ready = client.get(format!("{}/readyz", self.management)).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the node {} did not become ready", self.id)
    }

    /// Stops the node gracefully, so that it signs the last entries of its log.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        if let Some(pid) = process.id() {
            let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
            anyhow::ensure!(status.success(), "the node {} could not be signalled to stop", self.id);
        }
        let status = process.wait().await?;
        anyhow::ensure!(status.success(), "the node {} ended with {status}", self.id);
        Ok(())
    }

    fn api(&self, role: UserRole) -> anyhow::Result<Api> {
        let secret = self.secrets.iter().find(|(known, _)| *known == role).map(|(_, secret)| secret.as_str());
        Api::with(&self.management, secret.context("no token for this role")?)
    }

    pub fn publisher(&self) -> anyhow::Result<Api> {
        self.api(UserRole::Publisher)
    }

    pub fn requester(&self) -> anyhow::Result<Api> {
        self.api(UserRole::Requester)
    }

    pub fn auditor(&self) -> anyhow::Result<Api> {
        self.api(UserRole::Auditor)
    }

    pub fn id(&self) -> &ParticipantId {
        &self.id
    }

    pub fn name(&self) -> Words<'_> {
        (&self.name, &self.chinese)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Addresses and tokens, for `--keep`.
    pub fn describe(&self) -> Value {
        let mut tokens = serde_json::Map::from_iter([("admin".to_owned(), Value::from(self.admin.as_str()))]);
        tokens.extend(self.secrets.iter().map(|(role, secret)| (role.name().to_owned(), Value::from(secret.as_str()))));
        json!({"id": self.id, "name": self.name, "folder": self.folder, "peers": self.endpoint, "management": self.management, "tokens": tokens})
    }
}
