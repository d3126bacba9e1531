//! The manifest: what a publisher states of a dataset version. FORMATS.md, "Manifest".

use crate::core::digest::{Digest, KeyedDigest};
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::json;
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use serde::{Deserialize, Serialize};

/// The algorithm of the sealed container.
pub const ALGORITHM: &str = "FLOE-AES-256-GCM-HKDF-SHA-384";
/// Length of a container's segments, bytes of ciphertext.
pub const SEGMENT_BYTES: u32 = 1 << 20;

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Who publishes.
    pub publisher: ParticipantId,
    /// Which dataset.
    pub dataset: DatasetId,
    /// Which version of it, from 1.
    pub version: u64,
    /// The schema under which every record is valid.
    pub schema: SchemaRef,
    /// How many records.
    pub records: u64,
    /// The sealed bytes.
    pub container: Container,
    /// The text inside.
    pub text: TextRef,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The policy's digest.
    pub policy: Digest,
    /// When.
    pub published: Timestamp,
}

impl Document for Manifest {
    const TYP: &'static str = "crosspark-manifest+jws";
    const FORMAT: &'static str = "manifest/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.publisher)
    }
}

/// A schema by name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaRef {
    /// `$id`
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// The sealed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// [`ALGORITHM`]
    pub algorithm: String,
    /// [`SEGMENT_BYTES`]
    pub segment: u32,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Digest,
}

/// The canonical NDJSON inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRef {
    /// Bytes, uncompressed.
    pub size: u64,
    /// HMAC-SHA-256 under HKDF(data key, "crosspark/plaintext/v1"): confirms no guess without the key.
    pub digest: KeyedDigest,
    /// Compressed frames.
    pub frames: u64,
}

/// Where a dataset comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// HMAC-SHA-256 of the file that was published, under HKDF(data key, "crosspark/source/v1").
    pub source: KeyedDigest,
    /// Its format: `ndjson` or `csv`.
    pub format: String,
    /// Program and version.
    pub tool: String,
}

/// FLOE's associated data: JCS of publisher, dataset, version and schema digest.
pub fn associated_data(publisher: &ParticipantId, dataset: &DatasetId, version: u64, schema: &Digest) -> Vec<u8> {
    json::to_canonical(&serde_json::json!({
        "publisher": publisher, "dataset": dataset, "version": version, "schema": schema
    }))
}

impl Manifest {
    /// The associated data of its container.
    pub fn associated_data(&self) -> Vec<u8> {
        associated_data(&self.publisher, &self.dataset, self.version, &self.schema.digest)
    }
}
