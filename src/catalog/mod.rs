//! The catalog of a participant's offers (DCAT 3 in the profile of the Dataspace Protocol 2025-1).

mod filter;

pub use filter::{Filter, FilterError, Part};

use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, Text};
use crate::core::json::{self, ld};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::dataset::manifest::SchemaRef;
use crate::dataset::quality::Quality;
use crate::policy::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A publisher's optional metadata of a dataset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name or URL of the licence (`dct:license`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Text>,
    /// Contact for questions (`dcat:contactPoint`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Text>,
    /// Frequency of publication (`dct:accrualPeriodicity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency: Option<Text>,
    /// Sector (`dcat:theme`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theme: Option<Text>,
    /// Sample records, at most [`limits::SAMPLES_MAX`], that the publisher approved for everyone who sees the dataset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, Value>>", length(max = limits::SAMPLES_MAX))]
    pub samples: Vec<Value>,
    /// Whether all members see the dataset, including those that are not permitted to use it.
    #[serde(default)]
    pub listed: bool,
}

/// The newest version of a dataset on offer. Datasets of other connectors lack some of the members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Offered {
    /// Dataset.
    pub dataset: DatasetId,
    /// Title.
    pub title: Text,
    /// Longer description.
    pub description: String,
    /// Offer.
    pub offer: OfferId,
    /// Policy in normal form.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub policy: Value,
    /// Version number.
    pub version: Option<u64>,
    /// Digest of the manifest.
    pub manifest: Option<Digest>,
    /// Schema of the records.
    pub schema: Option<SchemaRef>,
    /// Whether the reader's register lists the schema; otherwise it is the publisher's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// Number of records.
    pub records: Option<u64>,
    /// Size of the sealed container in bytes.
    pub bytes: Option<u64>,
    /// Time of publication of this version.
    pub published: Option<Timestamp>,
    /// Delivery formats that the policy permits.
    #[serde(default)]
    pub formats: Vec<String>,
    /// Optional metadata from the publisher.
    #[serde(default)]
    pub about: About,
    /// What the records have in their fields, as far as the publisher states it.
    #[serde(default, skip_serializing_if = "Quality::is_empty")]
    pub quality: Quality,
    /// Reason why the recipient of the catalog may not use a dataset that is listed for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Why a dataset of a peer's catalog cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the peer's catalog cannot be read: {0}")]
pub struct CatalogError(String);

impl Offered {
    /// Converts to a DCAT dataset. DSP 2025-1, "Catalog Protocol": an offer in a dataset has no `target`.
    pub fn to_dcat(&self, endpoint: &str) -> Value {
        let mut offer = json!({"@id": self.offer, "@type": "Offer"});
        if let (Some(offer), Some(policy)) = (offer.as_object_mut(), self.policy.as_object()) {
            offer.extend(policy.clone());
        }
        let distribution =
            |format: &String| json!({"@type": "Distribution", "format": format, "accessService": service(endpoint)});
        let mut dataset = json!({
            "@id": self.dataset,
            "@type": "Dataset",
            "hasPolicy": [offer],
            "distribution": self.formats.iter().map(distribution).collect::<Vec<_>>(),
            "title": self.title,
            "description": self.description,
        });
        let mut add = |name: &str, value: Value| {
            if !value.is_null() {
                dataset[name] = value;
            }
        };
        let about = &self.about;
        add("issued", json!(self.published));
        add("license", json!(about.licence));
        add("contactPoint", json!(about.contact));
        add("accrualPeriodicity", json!(about.frequency));
        add("theme", json!(about.theme));
        add("crosspark:version", json!(self.version));
        add("crosspark:manifest", json!(self.manifest));
        add("crosspark:schema", json!(self.schema));
        add("crosspark:records", json!(self.records));
        add("crosspark:bytes", json!(self.bytes));
        add("crosspark:refused", json!(self.refused));
        if !self.quality.is_empty() {
            add("crosspark:quality", json!(self.quality));
        }
        if !about.samples.is_empty() {
            add("crosspark:samples", json!(about.samples));
        }
        dataset
    }

    /// Reads a DCAT dataset of a crosspark node or another connector, in plain form ([`ld::plain`]); its first supported
    /// offer is used.
    pub fn from_dcat(value: &Value) -> Result<Self, CatalogError> {
        let dataset: DatasetId = needed(value, "@id")?;
        let mut problem = "a dataset without an offer".to_owned();
        for offer in ld::elements(value.get("hasPolicy")) {
            match Policy::from_value(offer) {
                Ok(policy) => return Self::of(dataset, needed(offer, "@id")?, &policy, value),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(CatalogError(problem))
    }

    fn of(dataset: DatasetId, offer: OfferId, policy: &Policy, value: &Value) -> Result<Self, CatalogError> {
        let text = |name: &str| said(value, name).filter(|text| !text.is_empty());
        let short = |name: &str| {
            let cut: String = text(name)?.chars().take(limits::TEXT_CHARS_MAX).collect();
            Text::parse(cut.trim()).ok()
        };
        let title = short("title").or_else(|| short("name")).or_else(|| Text::parse(dataset.as_str()).ok());
        let title = title.ok_or_else(|| CatalogError("a dataset without a title".into()))?;
        let description: String =
            text("description").unwrap_or_default().chars().take(limits::DESCRIPTION_CHARS_MAX).collect();
        let samples: Vec<Value> = known(value, "crosspark:samples").unwrap_or_default();
        let short_enough = json::to_canonical(&samples).len() <= limits::SAMPLES_BYTES_MAX;
        let samples = if short_enough { samples } else { Vec::new() };
        let quality = known(value, "crosspark:quality").filter(Quality::is_short).unwrap_or_default();
        Ok(Self {
            title,
            description,
            offer,
            policy: policy.to_value(),
            version: known(value, "crosspark:version"),
            manifest: known(value, "crosspark:manifest"),
            schema: known(value, "crosspark:schema"),
            shared: None,
            records: known(value, "crosspark:records"),
            bytes: known(value, "crosspark:bytes"),
            published: known(value, "issued"),
            formats: formats(value),
            about: About {
                licence: short("license"),
                contact: short("contactPoint"),
                frequency: short("accrualPeriodicity"),
                theme: short("theme"),
                samples: samples.into_iter().take(limits::SAMPLES_MAX).collect(),
                listed: false,
            },
            refused: text("crosspark:refused"),
            quality,
            dataset,
        })
    }
}

fn needed<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Result<T, CatalogError> {
    let member = value.get(name).cloned().unwrap_or_default();
    serde_json::from_value(member).map_err(|error| CatalogError(format!("`{name}`: {error}")))
}

fn known<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
    serde_json::from_value(value.get(name)?.clone()).ok()
}

/// A text, the first of several, or the name of an object.
fn said(value: &Value, name: &str) -> Option<String> {
    let first = ld::elements(value.get(name)).next()?;
    let text = first.as_str().or_else(|| first.get("@id")?.as_str())?;
    Some(text.chars().filter(|c| !c.is_control()).collect())
}

/// The formats of a dataset's distributions.
fn formats(dataset: &Value) -> Vec<String> {
    let format = |one: &Value| one.get("format").and_then(Value::as_str).map(str::to_owned);
    ld::elements(dataset.get("distribution")).filter_map(format).collect()
}

fn service(endpoint: &str) -> Value {
    json!({"@id": format!("{endpoint}#connector"), "@type": "DataService", "endpointURL": endpoint})
}

/// The root catalog of a participant; omits arrays that would be empty.
pub fn to_dcat(participant: &ParticipantId, endpoint: &str, offered: &[Offered]) -> Value {
    let mut catalog = json!({
        "@id": format!("{endpoint}#catalog"),
        "@type": "Catalog",
        "participantId": participant,
        "service": [service(endpoint)],
    });
    if let (Some(catalog), false) = (catalog.as_object_mut(), offered.is_empty()) {
        let datasets = offered.iter().map(|offered| offered.to_dcat(endpoint)).collect();
        catalog.insert("dataset".into(), Value::Array(datasets));
    }
    catalog
}
