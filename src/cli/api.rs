//! Client of the node's management API.

use super::outcome::exit;
use crate::core::json;
use crate::net::own_node_client;
use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The node to call and the token to use.
#[derive(Args, Clone)]
pub struct NodeArgs {
    /// URL of the node's management listener.
    #[arg(long, env = "CROSSPARK_NODE", default_value = "http://127.0.0.1:8080")]
    node: String,
    /// Token; on the command line, other users of the machine can see it, so use the environment or a file.
    #[arg(long, env = "CROSSPARK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that contains the token.
    #[arg(long, env = "CROSSPARK_TOKEN_FILE")]
    token_file: Option<PathBuf>,
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
        ExitCode::from(if matches!(self.status, 400..=422) { exit::REFUSED } else { exit::FAILED })
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
        let secret = match (&args.token, &args.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map_err(|error| anyhow::anyhow!("the token file {}: {error}", path.display()))?
                .trim()
                .to_owned(),
            (None, None) => anyhow::bail!("give a token: --token-file FILE, or CROSSPARK_TOKEN in the environment"),
        };
        Self::with(&args.node, &secret)
    }

    /// A client for this address and token.
    pub fn with(node: &str, secret: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            node.starts_with("http://"),
            "the node's management address must be http://HOST:PORT, not {node}"
        );
        let base = node.trim_end_matches('/').to_owned();
        Ok(Self { client: own_node_client()?, base, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// Begins a request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(self.secret.as_str())
    }

    /// Sends a request; unsuccessful responses become errors.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| {
            anyhow::anyhow!("the node at {} does not answer ({error}); is `crosspark serve` running?", self.base)
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

    /// Sends JSON in a POST request and reads the response as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        Ok(json::read(&response.bytes().await?)?)
    }
}
