//! The receipt: a consumer's statement after verifying a delivery. FORMATS.md, "Receipt".

use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use serde::{Deserialize, Serialize};

/// A consumer's statement that it verified a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Consumer.
    pub consumer: ParticipantId,
    /// Provider.
    pub provider: ParticipantId,
    /// The provider's identifier of the transfer.
    pub transfer: ProcessId,
    /// Digest of the agreement.
    pub agreement: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Size of the sealed container in bytes.
    pub bytes: u64,
    /// Number of verified records.
    pub records: u64,
    /// Time of receipt.
    pub received: Timestamp,
}

impl Document for Receipt {
    const TYP: &'static str = "crosspark-receipt+jws";
    const FORMAT: &'static str = "receipt/1";
    const BYTES_MAX: usize = crate::core::limits::SMALL_DOCUMENT_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.consumer)
    }
}
