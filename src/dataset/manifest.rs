//! The manifest: the publisher's statement about a dataset version. FORMATS.md, "Manifest".

use super::changes::Changes;
use super::quality::Quality;
use crate::core::digest::{Digest, KeyedDigest};
use crate::core::id::{DatasetId, ParticipantId};
use crate::core::json;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The algorithm of the sealed container.
pub const ALGORITHM: &str = "FLOE-AES-256-GCM-HKDF-SHA-384";
/// Length of a container's segments, bytes of ciphertext.
pub const SEGMENT_BYTES: u32 = 1 << 20;

/// A publisher's statement about a dataset version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Publisher.
    pub publisher: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Version number, from 1.
    pub version: u64,
    /// The schema to which every record conforms.
    pub schema: SchemaRef,
    /// Number of records.
    pub records: u64,
    /// The sealed container.
    pub container: Container,
    /// The text in the container.
    pub text: TextRef,
    /// Origin of the dataset.
    pub provenance: Provenance,
    /// Digest of the policy.
    pub policy: Digest,
    /// Time of publication.
    pub published: Timestamp,
    /// What the records have in their fields, as far as the publisher states it.
    #[serde(default, skip_serializing_if = "Quality::is_empty")]
    pub quality: Quality,
    /// What is otherwise than in the version before, if the schema has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// The files, if the records describe files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesRef>,
}

impl Document for Manifest {
    const TYP: &'static str = "crosspark-manifest+jws";
    const FORMAT: &'static str = "manifest/1";
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.publisher)
    }
}

/// A schema identified by name and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRef {
    /// `$id`
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// The sealed container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// [`ALGORITHM`]
    pub algorithm: String,
    /// [`SEGMENT_BYTES`]
    pub segment: u32,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the container.
    pub digest: Digest,
}

/// The canonical NDJSON in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRef {
    /// Size in bytes, uncompressed.
    pub size: u64,
    /// HMAC-SHA-256 under HKDF(data key, "crosspark/plaintext/v1"); without the key, a guess cannot be confirmed.
    pub digest: KeyedDigest,
    /// Number of compressed frames.
    pub frames: u64,
}

/// The contents of files in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesRef {
    /// Size of all in bytes.
    pub size: u64,
    /// Number of their frames, which follow those of the text.
    pub frames: u64,
}

/// Origin of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// HMAC-SHA-256 of the published file under HKDF(data key, "crosspark/source/v1").
    pub source: KeyedDigest,
    /// Format of that file, such as `ndjson` or `csv`.
    pub format: String,
    /// Digest of the mapping by which its records became those of the schema, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Digest>,
    /// Name and version of the program.
    pub tool: String,
}

/// FLOE's associated data: JCS of publisher, dataset, version and schema digest.
pub fn associated_data(publisher: &ParticipantId, dataset: &DatasetId, version: u64, schema: &Digest) -> Vec<u8> {
    json::to_canonical(&serde_json::json!({
        "publisher": publisher, "dataset": dataset, "version": version, "schema": schema
    }))
}

/// Whether content is compressed so much that a few sealed bytes would keep a consumer busy for long.
pub fn is_too_dense(content: u64, sealed: u64) -> bool {
    content > limits::TEXT_BYTES_SMALL.max(sealed.saturating_mul(limits::TEXT_RATIO_MAX))
}

impl Manifest {
    /// What it says of where the records come from, as names and values.
    pub fn origin(&self) -> Vec<(String, String)> {
        let pairs = [
            ("publisher", self.publisher.to_string()),
            ("dataset", self.dataset.to_string()),
            ("version", self.version.to_string()),
            ("published", self.published.to_string()),
            ("schema", format!("{} {}", self.schema.id, self.schema.version)),
            ("records", self.records.to_string()),
            ("left out as invalid", self.quality.skipped.to_string()),
        ];
        let changes = self.changes.map(|changes| ("changes", changes.in_words()));
        pairs.into_iter().chain(changes).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Bytes of the text and of the files, uncompressed.
    pub fn content_size(&self) -> u64 {
        self.text.size.saturating_add(self.files.map_or(0, |files| files.size))
    }

    /// The associated data of the container.
    pub fn associated_data(&self) -> Vec<u8> {
        associated_data(&self.publisher, &self.dataset, self.version, &self.schema.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_do_not_become_very_many() {
        const MIB: u64 = 1 << 20;
        for (text, sealed, dense) in [
            (60 * MIB, 5_000, false),
            (65 * MIB, 5_000, true),
            (15_261_000_000, 1_700_000, true),
            (1_700_000_000, 1_700_000, false),
            (1_700_000_001, 1_700_000, true),
            (u64::MAX, 1 << 60, false),
        ] {
            assert_eq!(is_too_dense(text, sealed), dense, "{text} {sealed}");
        }
    }
}
