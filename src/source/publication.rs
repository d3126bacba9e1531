//! What is said of the records that are published.

use crate::catalog::About;
use crate::core::id::{DatasetId, Text};
use crate::core::limits;
use crate::dataset::quality::Detail;
use crate::ingest::{Format, Reading};
use crate::mapping::Mapping;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Metadata of a publication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Title in the catalog.
    pub title: Text,
    /// Longer description.
    #[serde(default)]
    #[schemars(length(max = limits::DESCRIPTION_CHARS_MAX))]
    pub description: String,
    /// `$id` or digest of the schema.
    pub schema: String,
    /// ODRL policy.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub policy: Value,
    /// Format of the file.
    pub format: Format,
    /// How the file is to be read, as far as its format does not say.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
    /// How the file's records become those of the schema; without it, its columns have the names or titles of properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// Dataset that gets a new version; without it, a new dataset is created.
    #[serde(default)]
    pub dataset: Option<DatasetId>,
    /// Further metadata for the catalog.
    #[serde(default)]
    pub about: About,
    /// How much of the records' quality everyone who sees the dataset may read.
    #[serde(default)]
    pub quality: Detail,
    /// Records that the publisher left out because they are invalid; stated in the manifest.
    #[serde(default)]
    pub skipped: u64,
}
