//! `crosspark search` and `crosspark withdraw`.

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, say};
use crate::core::id::{DatasetId, ParticipantId, Text};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Search {
    #[command(flatten)]
    node: NodeArgs,
    /// Search words, which must all occur. English words match by stem, Chinese words from two characters on.
    words: Vec<String>,
    /// Only datasets of this park.
    #[arg(long)]
    park: Option<ParticipantId>,
    /// Only datasets under this schema, given by its $id.
    #[arg(long)]
    schema: Option<String>,
    /// Only datasets of this sector.
    #[arg(long)]
    theme: Option<String>,
    /// Maximum age.
    #[arg(long, value_parser = ["day", "week", "month", "year"])]
    max_age: Option<String>,
    /// Order.
    #[arg(long, default_value = "relevance", value_parser = ["relevance", "newest", "title"])]
    sort: String,
    /// Maximum number of results.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
}

#[derive(clap::Args)]
pub struct Withdraw {
    #[command(flatten)]
    node: NodeArgs,
    /// Id of the dataset.
    dataset: DatasetId,
    /// Reason, sent to the peers that have an agreement on the dataset or see it.
    #[arg(long)]
    reason: Text,
}

pub async fn search(args: Search, as_json: bool) -> Outcome {
    let words = args.words.join(" ");
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("q", &words).append_pair("sort", &args.sort).append_pair("limit", &args.limit.to_string());
    let park = args.park.map(|park| park.to_string());
    let filtered = park.is_some() || args.schema.is_some() || args.theme.is_some() || args.max_age.is_some();
    for (name, value) in [("park", park), ("schema", args.schema), ("theme", args.theme), ("maxAge", args.max_age)] {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    let found = Api::new(&args.node)?.get(&format!("/v1/search?{}", query.finish())).await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "datasets").iter().map(|hit| {
        let offered = hit.get("offered").cloned().unwrap_or_default();
        let stale = hit.get("staleSince").is_some_and(|since| !since.is_null());
        let note = if stale { "stale: the park cannot be reached" } else { "" };
        let (title, details) = output::dataset(&offered, &output::text(hit, "participant"));
        (title, [details, vec![note.to_owned()]].concat())
    });
    let nothing = match filtered {
        true => {
            "Nothing was found. Leave out --park, --schema, --theme or --max-age, or use fewer words; only datasets \
                 that this park may see are searched."
        }
        false => "Nothing was found. Use fewer words; only datasets that this park may see are searched.",
    };
    output::entries(rows, nothing);
    let more = if found.get("more") == Some(&Value::Bool(true)) { "more than " } else { "" };
    if !output::list(&found, "datasets").is_empty() {
        say!("{more}{} found", output::text(&found, "total"));
    }
    for (name, values) in found.get("facets").and_then(Value::as_object).into_iter().flatten() {
        let values = values.as_array().into_iter().flatten().take(8);
        let shown: Vec<String> = values
            .filter_map(|facet| Some(format!("{} ({})", facet.get("value")?.as_str()?, facet.get("count")?.as_u64()?)))
            .collect();
        if !shown.is_empty() {
            say!("  {name}: {}", shown.join(", "));
        }
    }
    done()
}

pub async fn withdraw(args: Withdraw, as_json: bool) -> Outcome {
    let path = format!("/v1/datasets/{}/withdrawal", args.dataset.in_url());
    let withdrawn = Api::new(&args.node)?.post(&path, &json!({"reason": args.reason})).await?;
    if as_json {
        output::json(&withdrawn)?;
    } else {
        say!(
            "Withdrawn. Notified parks, which have an agreement on it or see it: {}.",
            output::text(&withdrawn, "notified")
        );
    }
    done()
}
