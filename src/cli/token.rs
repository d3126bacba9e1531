//! `crosspark token`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, note, say};
use crate::core::id::{Text, TokenId};
use crate::node::UserRole;
use crate::operations::{NewToken, usual_days};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

#[derive(Subcommand)]
pub enum Command {
    /// Create a token for a user.
    Create(Create),
    /// List tokens.
    List(List),
    /// Revoke a token.
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    node: NodeArgs,
    /// Role: admin, publisher, requester or auditor.
    #[arg(long, value_parser = parse_role)]
    role: UserRole,
    /// Person who will use the token.
    #[arg(long)]
    person: Text,
    /// Enterprise on whose behalf the person acts; required for requesters.
    #[arg(long)]
    enterprise: Option<Text>,
    /// Days until it expires.
    #[arg(long, default_value_t = usual_days())]
    days: u32,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
pub struct Revoke {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the token.
    id: TokenId,
}

fn parse_role(name: &str) -> Result<UserRole, String> {
    UserRole::parse(name).ok_or_else(|| format!("`{name}` is not one of admin, publisher, requester, auditor"))
}

pub async fn run(command: Command, json: bool) -> Outcome {
    match command {
        Command::Create(args) => {
            let new = NewToken { role: args.role, person: args.person, enterprise: args.enterprise, days: args.days };
            let made = create(&Api::new(&args.node)?, &new).await?;
            if json {
                output::json(&made)?;
            } else {
                note!("Shown only once:");
                say!("{}", output::text(&made, "secret"));
            }
        }
        Command::List(args) => {
            let found = Api::new(&args.node)?.all("/v1/tokens", "tokens").await?;
            if json {
                output::json(&found)?;
                return done();
            }
            let rows = output::list(&found, "tokens").iter().map(|token| {
                let [id, role, person, enterprise] =
                    ["id", "role", "person", "enterprise"].map(|name| output::text(token, name));
                let until = format!("until {}", output::time(token, "expires"));
                let until = if output::text(token, "revoked") == "true" { "revoked".to_owned() } else { until };
                (format!("{id}  {role}"), vec![output::joined([person, enterprise, until], ", ")])
            });
            output::entries(rows, "There are no tokens.");
        }
        Command::Revoke(args) => {
            let api = Api::new(&args.node)?;
            api.send(api.request(Method::DELETE, &format!("/v1/tokens/{}", args.id.in_url()))).await?;
            if !json {
                say!("revoked: {}", args.id);
            }
        }
    }
    done()
}

/// Creates a token.
pub async fn create(api: &Api, new: &NewToken) -> anyhow::Result<Value> {
    api.post("/v1/tokens", &serde_json::to_value(new)?).await
}
