//! What is said of the records that are published, in arguments.

use super::outcome::{Outcome, exit};
use super::output::note;
use crate::catalog::About;
use crate::core::id::{DatasetId, Text};
use crate::core::json;
use crate::dataset::quality::Detail;
use crate::ingest::{Format, Reading};
use crate::mapping::Mapping;
use crate::policy::Policy;
use crate::source::Publication;
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Metadata of a publication.
#[derive(clap::Args)]
pub struct PublicationArgs {
    /// $id of the shared schema, such as urn:crosspark:schema:enterprise.
    #[arg(long)]
    pub schema: String,
    /// File of the policy: an ODRL permission.
    #[arg(long)]
    policy: PathBuf,
    /// Title in the catalog.
    #[arg(long)]
    title: Text,
    /// Longer description.
    #[arg(long, default_value = "")]
    description: String,
    /// Id of the dataset of which this is a new version.
    #[arg(long)]
    dataset: Option<DatasetId>,
    #[command(flatten)]
    about: AboutArgs,
    /// What everyone who sees the dataset may read of its quality: none; counts (filled and different values of each
    /// field); bounds (also the smallest and largest numbers and dates).
    #[arg(long, default_value = "counts", value_parser = parse_quality)]
    quality: Detail,
}

/// What the catalog says of the dataset besides its title.
#[derive(clap::Args)]
struct AboutArgs {
    /// Licence, as a name or a URL.
    #[arg(long)]
    licence: Option<Text>,
    /// Contact for questions about the dataset.
    #[arg(long)]
    contact: Option<Text>,
    /// Update frequency, such as `monthly`.
    #[arg(long)]
    frequency: Option<Text>,
    /// Sector of the dataset.
    #[arg(long)]
    theme: Option<Text>,
    /// File of up to 20 records (NDJSON) that everyone who sees the dataset may read.
    #[arg(long)]
    samples: Option<PathBuf>,
    /// List the dataset in the catalog for all members, including those that may not obtain it.
    #[arg(long)]
    listed: bool,
}

/// A policy that is not valid.
pub struct InvalidPolicy(String);

impl InvalidPolicy {
    /// Says where it is not, and refuses.
    pub fn told(self, as_json: bool) -> Outcome {
        if as_json {
            note!("{}", serde_json::json!({"detail": self.0}))
        } else {
            note!("error: {}", self.0)
        }
        Ok(ExitCode::from(exit::REFUSED))
    }
}

impl PublicationArgs {
    /// The policy; an invalid one is found, with its position, before anything is sent.
    pub fn policy(&self) -> anyhow::Result<Result<Value, InvalidPolicy>> {
        let name = self.policy.display();
        let text = std::fs::read(&self.policy).with_context(|| format!("the policy {name}"))?;
        match Policy::parse(&text) {
            Ok(_) => Ok(Ok(json::read(&text)?)),
            Err(error) => Ok(Err(InvalidPolicy(format!("{name}: {error}")))),
        }
    }

    /// The publication of records that are read so.
    pub fn with(
        self,
        policy: Value,
        (format, reading, mapping): (Format, Reading, Option<Mapping>),
    ) -> anyhow::Result<Publication> {
        let about = self.about;
        Ok(Publication {
            title: self.title,
            description: self.description,
            schema: self.schema,
            policy,
            format,
            reading,
            mapping,
            dataset: self.dataset,
            about: About {
                licence: about.licence,
                contact: about.contact,
                frequency: about.frequency,
                theme: about.theme,
                samples: about.samples.as_deref().map(samples).transpose()?.unwrap_or_default(),
                listed: about.listed,
            },
            quality: self.quality,
            skipped: 0,
        })
    }
}

/// Reads the sample records, one per line.
fn samples(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the samples {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            json::read_value(line.as_bytes())
                .with_context(|| format!("line {} of the samples is not an NDJSON record", n + 1))
        })
        .collect()
}

fn parse_quality(name: &str) -> Result<Detail, String> {
    match name {
        "none" => Ok(Detail::None),
        "counts" => Ok(Detail::Counts),
        "bounds" => Ok(Detail::Bounds),
        _ => Err("expected none, counts or bounds".into()),
    }
}
