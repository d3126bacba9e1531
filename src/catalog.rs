//! The catalog (DCAT 3 as the Dataspace Protocol 2025-1 profiles it): what a participant offers.

use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, Text};
use crate::core::time::Timestamp;
use crate::dataset::manifest::SchemaRef;
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A dataset as it is offered: its newest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its title.
    pub title: Text,
    /// More about it.
    pub description: String,
    /// The offer.
    pub offer: OfferId,
    /// Its policy in normal form.
    pub policy: Value,
    /// Version.
    pub version: u64,
    /// Digest of the version's manifest.
    pub manifest: Digest,
    /// Schema of its records.
    pub schema: SchemaRef,
    /// Records.
    pub records: u64,
    /// Sealed bytes.
    pub bytes: u64,
    /// When this version was published.
    pub published: Timestamp,
    /// How it can be delivered, by the policy.
    #[serde(default)]
    pub formats: Vec<String>,
}

/// A text that is no dataset of a catalog.
#[derive(Debug, thiserror::Error)]
#[error("the peer's catalog is not understood: {0}")]
pub struct CatalogError(String);

impl Offered {
    /// As a DCAT dataset. DSP 2025-1, "Catalog Protocol": an offer inside a dataset has no `target`.
    pub fn to_dcat(&self, endpoint: &str) -> Value {
        let mut offer = json!({"@id": self.offer, "@type": "Offer"});
        if let (Some(offer), Some(policy)) = (offer.as_object_mut(), self.policy.as_object()) {
            offer.extend(policy.clone());
        }
        let distribution =
            |format: &String| json!({"@type": "Distribution", "format": format, "accessService": service(endpoint)});
        json!({
            "@id": self.dataset,
            "@type": "Dataset",
            "hasPolicy": [offer],
            "distribution": self.formats.iter().map(distribution).collect::<Vec<_>>(),
            "title": self.title,
            "description": self.description,
            "issued": self.published,
            "crosspark:version": self.version,
            "crosspark:manifest": self.manifest,
            "crosspark:schema": self.schema,
            "crosspark:records": self.records,
            "crosspark:bytes": self.bytes,
        })
    }

    /// Reads a DCAT dataset of another crosspark node. Its first offer that is understood counts.
    pub fn from_dcat(value: &Value) -> Result<Self, CatalogError> {
        fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Result<T, CatalogError> {
            let member = value.get(name).cloned().unwrap_or_default();
            serde_json::from_value(member).map_err(|error| CatalogError(format!("`{name}`: {error}")))
        }
        let offers: Vec<Value> = field(value, "hasPolicy")?;
        let mut problem = "a dataset without offer".to_owned();
        for offer in offers {
            match Policy::from_value(&offer) {
                Ok(policy) => {
                    return Ok(Self {
                        dataset: field(value, "@id")?,
                        title: field(value, "title")?,
                        description: field(value, "description")?,
                        offer: field(&offer, "@id")?,
                        policy: policy.to_value(),
                        version: field(value, "crosspark:version")?,
                        manifest: field(value, "crosspark:manifest")?,
                        schema: field(value, "crosspark:schema")?,
                        records: field(value, "crosspark:records")?,
                        bytes: field(value, "crosspark:bytes")?,
                        published: field(value, "issued")?,
                        formats: formats(value),
                    });
                }
                Err(error) => problem = error.to_string(),
            }
        }
        Err(CatalogError(problem))
    }
}

/// The formats of a dataset's distributions.
fn formats(dataset: &Value) -> Vec<String> {
    let all = dataset.get("distribution").and_then(Value::as_array);
    let format = |one: &Value| one.get("format").and_then(Value::as_str).map(str::to_owned);
    all.into_iter().flatten().filter_map(format).collect()
}

fn service(endpoint: &str) -> Value {
    json!({"@id": format!("{endpoint}#connector"), "@type": "DataService", "endpointURL": endpoint})
}

/// The root catalog of a participant. Arrays that would be empty are left out.
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
