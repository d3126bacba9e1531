//! Messages of the outbox: versioned, ours, without bearer secrets. `protocol` writes them as the wire wants them.

use crate::agreement::Claim;
use crate::core::id::{AgreementId, DatasetId, MessageId, OfferId, ParticipantId, ProcessId};
use crate::core::random::Random;
use crate::core::time::Timestamp;
use crate::negotiation::{Negotiation, Role};
use crate::storage::Outgoing;
use crate::transfer::Transfer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An outgoing message. `peer_pid` is the other side's name of the process, `pid` this side's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// ContractRequestMessage
    ContractRequest {
        /// Process.
        pid: ProcessId,
        /// Offer.
        offer: OfferId,
        /// Dataset.
        dataset: DatasetId,
        /// The offer's policy.
        policy: Value,
        /// The claim, JWS.
        claim: String,
    },
    /// ContractAgreementMessage
    ContractAgreement {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
        /// The agreement, JWS by the provider.
        agreement: String,
        /// When it was signed.
        signed: Timestamp,
    },
    /// ContractAgreementVerificationMessage
    ContractVerification {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
        /// The agreement, JWS by the consumer.
        agreement: String,
    },
    /// ContractNegotiationEventMessage FINALIZED
    ContractFinalized {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
    },
    /// ContractNegotiationTerminationMessage
    ContractTermination(Termination),
    /// TransferRequestMessage
    TransferRequest {
        /// Process.
        pid: ProcessId,
        /// Under which agreement.
        agreement: AgreementId,
        /// Format.
        format: String,
    },
    /// TransferStartMessage; its token is derived when it is sent.
    TransferStart {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
        /// Until when the token is good.
        until: Timestamp,
    },
    /// TransferCompletionMessage
    TransferCompletion {
        /// This side.
        role: Role,
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
    },
    /// TransferTerminationMessage
    TransferTermination(Termination),
    /// A receipt for the data plane.
    Receipt {
        /// The transfer, as the provider names it.
        transfer: ProcessId,
        /// The receipt, JWS.
        receipt: String,
    },
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// This side.
    pub role: Role,
    /// Process.
    pub pid: ProcessId,
    /// The other side's.
    pub peer_pid: ProcessId,
    /// For programs.
    pub code: String,
    /// For people.
    pub reason: String,
}

impl Message {
    /// As a row of the outbox, in the order of `process`.
    pub fn outgoing(&self, to: &ParticipantId, process: &ProcessId, random: &dyn Random) -> Outgoing {
        // Enums of strings and numbers serialise.
        let mut message = serde_json::to_value(self).unwrap_or_default();
        message["v"] = 1.into();
        let (to, process) = (to.clone(), process.clone());
        Outgoing { id: MessageId::generate(random), to, process, message, trace: super::trace::current(), attempts: 0 }
    }

    /// Reads a row of the outbox.
    pub fn read(row: &Outgoing) -> Option<Self> {
        if row.message.get("v")? != 1 {
            return None;
        }
        serde_json::from_value(row.message.clone()).ok()
    }

    /// The end of a negotiation; none if the other side's name for it is not known.
    pub fn end_of_negotiation(negotiation: &Negotiation, code: &str, reason: &str) -> Option<Self> {
        let (role, pid) = (negotiation.role, negotiation.id.clone());
        let (code, reason) = (code.to_owned(), reason.to_owned());
        let peer_pid = negotiation.peer_pid.clone()?;
        Some(Self::ContractTermination(Termination { role, pid, peer_pid, code, reason }))
    }

    /// The end of a transfer; none if the other side's name for it is not known.
    pub fn end_of_transfer(transfer: &Transfer, code: &str, reason: &str) -> Option<Self> {
        let (role, pid) = (transfer.role, transfer.id.clone());
        let (code, reason) = (code.to_owned(), reason.to_owned());
        let peer_pid = transfer.peer_pid.clone()?;
        Some(Self::TransferTermination(Termination { role, pid, peer_pid, code, reason }))
    }
}

/// The claim's facts that a negotiation repeats.
pub fn subject_of(claim: &Claim, jws: &str, policy: Value) -> crate::negotiation::Subject {
    crate::negotiation::Subject {
        dataset: claim.dataset.clone(),
        offer: claim.offer.clone(),
        policy,
        claim: jws.to_owned(),
        purpose: claim.purpose.clone(),
        enterprise: claim.enterprise.clone(),
    }
}
