//! `crosspark schema add | propose | list | show` at a node.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, note, say};
use super::validate;
use crate::core::id::in_url;
use crate::core::json;
use crate::durable::write_whole;
use crate::schema::{self, Schema};
use anyhow::Context;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Add {
    /// Schema file. Its $id begins with the park's id and a slash, as in did:web:park-a.example/rents.
    file: PathBuf,
    /// Accept that records which were valid may be refused. The major version must be larger, too.
    #[arg(long)]
    breaking: bool,
    /// Publish it although `crosspark schema lint` finds shortcomings. What is published stays published.
    #[arg(long)]
    unfinished: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(clap::Args)]
pub struct Propose {
    /// $id of a schema of this park; a certain version is $id@VERSION.
    schema: String,
    /// File to write the proposal to.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub async fn add(args: Add, as_json: bool) -> Outcome {
    let name = args.file.display();
    let schema = validate::read_schema(&args.file)?;
    let advice = schema::advice(&Schema::parse(&schema).with_context(|| name.to_string())?);
    if !advice.is_empty() && !args.unfinished {
        let count = output::count(advice.len() as u64, "shortcoming", "shortcomings");
        anyhow::bail!(
            "{name} has {count}, and what is published stays published: `crosspark schema lint {name}` names them; mend \
             them, or give --unfinished"
        );
    }
    let api = Api::new(&args.node)?;
    let path = if args.breaking { "/v1/schemas?breaking=true" } else { "/v1/schemas" };
    let request = api.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(schema);
    let added: Value = json::read(&api.send(request).await?.bytes().await?)?;
    if as_json {
        output::json(&added)?;
        return done();
    }
    let (id, version) = (text(&added, "id"), text(&added, "version"));
    match added.get("new").and_then(Value::as_bool) {
        Some(false) => say!("{id} {version} was a schema of this park already; nothing changes."),
        _ => {
            say!("{id} {version} is a schema of this park now. Publish data: crosspark publish FILE --schema {id} ...")
        }
    }
    done()
}

pub async fn propose(args: Propose, as_json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let proposal = api.get(&format!("/v1/schemas/{}/proposal", in_url(&args.schema))).await?;
    let out = args.out.display();
    write_whole(&args.out, &serde_json::to_vec_pretty(&proposal)?).with_context(|| out.to_string())?;
    if as_json {
        output::json(&proposal)?;
    } else {
        say!("Send {out} to the alliance's operator, who adds it: crosspark alliance schema add FOLDER {out}");
    }
    done()
}

/// Lists the schemas of a node.
pub async fn list(node: &NodeArgs, as_json: bool) -> Outcome {
    let found = Api::new(node)?.get("/v1/schemas").await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let all = found.get("schemas").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines = all.iter().map(|schema| {
        let of = match (text(schema, "of"), text(schema, "owner")) {
            ("alliance", "") => "shared".to_owned(),
            ("alliance", owner) => format!("shared, maintained by {owner}"),
            (_, owner) => format!("of the park {owner}"),
        };
        let end = text(schema, "deprecated");
        let end = if end.is_empty() { String::new() } else { format!("deprecated: no more data from {end} on") };
        let title = match text(schema, "title") {
            "" => "not fetched yet",
            title => title,
        };
        (format!("{} {}", text(schema, "id"), text(schema, "version")), vec![title.to_owned(), of, end])
    });
    output::entries(lines, "This node knows no schemas.");
    note!("A schema of another park appears here when this node receives data under it.");
    done()
}

/// A schema of a node.
pub async fn show(node: &NodeArgs, name: &str) -> anyhow::Result<Value> {
    Api::new(node)?.get(&format!("/v1/schemas/{}", in_url(name))).await
}
