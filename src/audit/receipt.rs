//! The receipt: what a consumer states after it verified a delivery. FORMATS.md, "Receipt".

use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, ProcessId};
use crate::core::time::Timestamp;
use crate::identity::document::Document;
use serde::{Deserialize, Serialize};

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who received.
    pub consumer: ParticipantId,
    /// From whom.
    pub provider: ParticipantId,
    /// The transfer, as the provider names it.
    pub transfer: ProcessId,
    /// The agreement's digest.
    pub agreement: Digest,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Sealed bytes.
    pub bytes: u64,
    /// Records that were verified.
    pub records: u64,
    /// When.
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
