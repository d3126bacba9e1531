//! Messages of the outbox: versioned, ours, without bearer secrets. `protocol` writes them as the wire wants them.

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
        /// The other side's, in a counter-offer.
        #[serde(default)]
        peer_pid: Option<ProcessId>,
        /// Offer.
        offer: OfferId,
        /// Dataset.
        dataset: DatasetId,
        /// The offer's policy.
        policy: Value,
        /// The claim, JWS; nothing that another connector is told.
        #[serde(default)]
        claim: Option<String>,
    },
    /// ContractOfferMessage
    ContractOffer {
        /// Process.
        pid: ProcessId,
        /// The other side's, unless this begins the negotiation.
        peer_pid: Option<ProcessId>,
        /// Offer.
        offer: OfferId,
        /// Dataset.
        dataset: DatasetId,
        /// The offer's policy.
        policy: Value,
    },
    /// ContractNegotiationEventMessage ACCEPTED
    ContractAccepted {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
        /// The claim, JWS; nothing that another connector is told.
        claim: Option<String>,
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
        /// The agreement, JWS by the consumer; another connector gets none.
        #[serde(default)]
        agreement: Option<String>,
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
    /// TransferStartMessage of a consumer that goes on with what it paused.
    TransferResumption {
        /// Process.
        pid: ProcessId,
        /// The other side's.
        peer_pid: ProcessId,
    },
    /// TransferSuspensionMessage
    TransferSuspension(Termination),
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
    /// That a dataset is withdrawn, for those who have an agreement on it.
    Withdrawal {
        /// The statement, JWS.
        statement: String,
    },
    /// A receipt for the data plane.
    Receipt {
        /// The transfer, as the provider names it.
        transfer: ProcessId,
        /// The receipt, JWS.
        receipt: String,
    },
}

/// The end or pause of a process.
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
        let (id, trace) = (MessageId::generate(random), super::trace::current());
        Outgoing { id, to, process, message, callback: None, trace, attempts: 0 }
    }

    /// Whether it is of our data plane, not of the protocol.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Receipt { .. } | Self::Withdrawal { .. })
    }

    /// Where the answer tells the other side's name for a process that this message opens; none if it opens none.
    pub fn answer_pid_member(&self) -> Option<&'static str> {
        match self {
            Self::ContractRequest { peer_pid: None, .. } | Self::TransferRequest { .. } => Some("providerPid"),
            Self::ContractOffer { peer_pid: None, .. } => Some("consumerPid"),
            _ => None,
        }
    }

    /// The request that a consumer's negotiation stands at.
    pub fn request(negotiation: &Negotiation, connector: bool) -> Self {
        let subject = &negotiation.subject;
        Self::ContractRequest {
            pid: negotiation.id.clone(),
            peer_pid: negotiation.peer_pid.clone(),
            offer: subject.offer.clone(),
            dataset: subject.dataset.clone(),
            policy: subject.policy.clone(),
            claim: subject.claim.clone().filter(|_| !connector),
        }
    }

    /// The offer that a provider's negotiation stands at.
    pub fn offer(negotiation: &Negotiation) -> Self {
        let subject = &negotiation.subject;
        Self::ContractOffer {
            pid: negotiation.id.clone(),
            peer_pid: negotiation.peer_pid.clone(),
            offer: subject.offer.clone(),
            dataset: subject.dataset.clone(),
            policy: subject.policy.clone(),
        }
    }

    /// That the offer is accepted; none if the other side's name for the negotiation is not known.
    pub fn accept(negotiation: &Negotiation, connector: bool) -> Option<Self> {
        let (pid, claim) = (negotiation.id.clone(), negotiation.subject.claim.clone().filter(|_| !connector));
        Some(Self::ContractAccepted { pid, peer_pid: negotiation.peer_pid.clone()?, claim })
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
        Some(Self::TransferTermination(termination_of(transfer, code, reason)?))
    }

    /// The pause of a transfer; none if the other side's name for it is not known.
    pub fn pause_of_transfer(transfer: &Transfer, reason: &str) -> Option<Self> {
        Some(Self::TransferSuspension(termination_of(transfer, "suspended", reason)?))
    }
}

fn termination_of(transfer: &Transfer, code: &str, reason: &str) -> Option<Termination> {
    let (role, pid) = (transfer.role, transfer.id.clone());
    let (code, reason) = (code.to_owned(), reason.to_owned());
    Some(Termination { role, pid, peer_pid: transfer.peer_pid.clone()?, code, reason })
}
