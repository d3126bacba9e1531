//! Client of the node's management API.

use super::outcome::exit;
use super::parts::OfFile;
use crate::core::json;
use crate::core::limits;
use crate::net::{in_words, own_node_client, user_client};
use anyhow::Context;
use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The node to call and the token to use. What the command line does not give comes from the environment. It is not
/// read by clap, which would list these variables as arguments in each usage error.
#[derive(Args, Clone)]
pub struct NodeArgs {
    /// URL of the node's management listener, or of a TLS proxy in front of it [env: CROSSPARK_NODE] [default:
    /// http://127.0.0.1:8080].
    #[arg(long)]
    node: Option<String>,
    /// File of the certificates (PEM) to trust for an https URL; by default, those that this machine trusts [env:
    /// CROSSPARK_CA_FILE].
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Token; on the command line, other users of the machine can see it, so use the environment or a file [env:
    /// CROSSPARK_TOKEN].
    #[arg(long)]
    token: Option<String>,
    /// File that contains the token [env: CROSSPARK_TOKEN_FILE].
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

/// Address of the management listener that `node init` configures.
const DEFAULT_NODE: &str = "http://127.0.0.1:8080";

/// A variable of the environment; an empty one counts as missing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl NodeArgs {
    /// Whether a node can be asked.
    pub fn has_token(&self) -> bool {
        let in_environment =
            || ["CROSSPARK_TOKEN", "CROSSPARK_TOKEN_FILE"].into_iter().any(|name| variable(name).is_some());
        self.token.is_some() || self.token_file.is_some() || in_environment()
    }

    fn secret(&self) -> anyhow::Result<String> {
        let read = |path: &Path| {
            let name = path.display();
            let token = std::fs::read_to_string(path).with_context(|| format!("the token file {name}"))?;
            anyhow::ensure!(!token.trim().is_empty(), "the token file {name} is empty");
            Ok(token)
        };
        match (&self.token, &self.token_file, variable("CROSSPARK_TOKEN"), variable("CROSSPARK_TOKEN_FILE")) {
            (Some(token), ..) => Ok(token.clone()),
            (_, Some(path), ..) => read(path),
            (_, _, Some(token), _) => Ok(token),
            (_, _, _, Some(path)) => read(Path::new(&path)),
            _ => anyhow::bail!("give a token: --token-file FILE, or CROSSPARK_TOKEN in the environment"),
        }
    }
}

/// An unsuccessful response.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Description of the problem.
    pub detail: String,
    /// The complete problem document (RFC 9457).
    pub body: Value,
}

impl ApiError {
    /// The exit code, which distinguishes refusals from failures.
    pub fn exit_code(&self) -> ExitCode {
        // A request that took too long, or that the node has no room for now, may succeed when it is repeated.
        let refused = matches!(self.status, 400..=499) && !matches!(self.status, 408 | 429);
        ExitCode::from(if refused { exit::REFUSED } else { exit::FAILED })
    }
}

fn is_this_machine(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => *name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    }
}

/// A client with a token.
pub struct Api {
    client: Client,
    base: String,
    secret: Zeroizing<String>,
}

impl Api {
    /// A client for the node and token in the arguments.
    pub fn new(args: &NodeArgs) -> anyhow::Result<Self> {
        let secret = Zeroizing::new(args.secret()?);
        let ca = args.ca_file.clone().or_else(|| variable("CROSSPARK_CA_FILE").map(PathBuf::from)).map(|path| {
            std::fs::read(&path).map_err(|error| anyhow::anyhow!("the certificates {}: {error}", path.display()))
        });
        let node = args.node.clone().or_else(|| variable("CROSSPARK_NODE"));
        Self::connect(node.as_deref().unwrap_or(DEFAULT_NODE), ca.transpose()?.as_deref(), &secret)
    }

    /// A client for a node on this machine.
    pub fn with(node: &str, secret: &str) -> anyhow::Result<Self> {
        Self::connect(node, None, secret)
    }

    fn connect(node: &str, ca: Option<&[u8]>, secret: &str) -> anyhow::Result<Self> {
        let wrong = |what: &str| anyhow::anyhow!("the node's address {node} {what}");
        let url = url::Url::parse(node).map_err(|_| wrong("is not a URL, such as http://127.0.0.1:8080"))?;
        let client = match (url.scheme(), url.host()) {
            ("https", Some(_)) => user_client(ca).context("the certificates to trust (--ca-file)")?,
            ("http", Some(host)) if is_this_machine(&host) => own_node_client()?,
            ("http", Some(_)) => {
                return Err(wrong(
                    "would send the token unencrypted to another machine: put a TLS proxy in front of the node and use \
                     https://",
                ));
            }
            _ => return Err(wrong("must begin with http:// or https://")),
        };
        // Copied tokens often end with a line break.
        let secret = secret.trim();
        if let Some(c) = secret.chars().find(|c| !c.is_ascii_graphic()) {
            anyhow::bail!("the token contains {c:?}, which no token contains; copy it again");
        }
        let base = node.trim_end_matches('/').to_owned();
        Ok(Self { client, base, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// Begins a request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(self.secret.as_str())
    }

    /// Sends a request; unsuccessful responses become errors.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| {
            if let Some(own) = of_file(&error) {
                return anyhow::anyhow!("{own}");
            }
            let hint = match self.base.starts_with("https://") {
                true => "is this the address of the TLS proxy in front of the node?",
                false => "is `crosspark serve` running?",
            };
            anyhow::anyhow!("the node at {} does not answer: {}; {hint}", self.base, in_words(&error))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        let body: Value = json::read(&body).unwrap_or_default();
        let detail = body.get("detail").and_then(Value::as_str).map_or_else(|| format!("HTTP {status}"), str::to_owned);
        Err(ApiError { status, detail, body }.into())
    }

    /// Sends a GET request and reads the response as JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(json::read(&response.bytes().await?)?)
    }

    /// Reads all pages of a listing, whose elements are in the member `name`.
    pub async fn all(&self, path: &str, name: &str) -> anyhow::Result<Value> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut found = self.get(path).await?;
        while let Some(next) = found.as_object_mut().and_then(|found| found.remove("next")) {
            let next = next.as_str().unwrap_or_default().to_owned();
            let mut page = self.get(&format!("{path}{mark}limit={}&after={next}", limits::PAGE_ROWS_MAX)).await?;
            if let (Some(Value::Array(all)), Some(Value::Array(more))) = (found.get_mut(name), page.get_mut(name)) {
                all.append(more);
            }
            if let Some(after) = page.get_mut("next").map(Value::take) {
                found["next"] = after;
            }
        }
        Ok(found)
    }

    /// Sends JSON in a POST request and reads the response as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        Ok(json::read(&response.bytes().await?)?)
    }
}

/// What is wrong with a file of this machine, if sending failed because of one.
fn of_file(error: &reqwest::Error) -> Option<&OfFile> {
    let mut causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.find_map(|cause| match cause.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref()?.downcast_ref(),
        None => cause.downcast_ref(),
    })
}
