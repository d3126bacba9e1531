//! Messages of the outbox, in a versioned internal format without bearer tokens; `protocol` converts them to the wire
//! format.

use crate::core::id::{AgreementId, DatasetId, MessageId, OfferId, ParticipantId, ProcessId};
use crate::core::random::Random;
use crate::core::time::Timestamp;
use crate::negotiation::{Negotiation, Role, State};
use crate::storage::Outgoing;
use crate::transfer::Transfer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An outgoing message. `pid` is this side's id of the process, `peer_pid` the peer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// ContractRequestMessage
    ContractRequest {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id, in a counter-offer.
        #[serde(default)]
        peer_pid: Option<ProcessId>,
        /// Offer.
        offer: OfferId,
        /// Dataset.
        dataset: DatasetId,
        /// Requested policy.
        policy: Value,
        /// Claim, JWS; not sent to other connectors.
        #[serde(default)]
        claim: Option<String>,
    },
    /// ContractOfferMessage
    ContractOffer {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id, unless this opens the negotiation.
        peer_pid: Option<ProcessId>,
        /// Offer.
        offer: OfferId,
        /// Dataset.
        dataset: DatasetId,
        /// Policy of the offer.
        policy: Value,
    },
    /// ContractNegotiationEventMessage ACCEPTED
    ContractAccepted {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
        /// Claim, JWS; not sent to other connectors.
        claim: Option<String>,
    },
    /// ContractAgreementMessage
    ContractAgreement {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
        /// Agreement, JWS signed by the provider.
        agreement: String,
        /// The agreed rules as the consumer wrote them; only for other connectors.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Value>,
        /// Time of the signature.
        signed: Timestamp,
    },
    /// ContractAgreementVerificationMessage
    ContractVerification {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
        /// Agreement, JWS signed by the consumer; not sent to other connectors.
        #[serde(default)]
        agreement: Option<String>,
    },
    /// ContractNegotiationEventMessage FINALIZED
    ContractFinalized {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
    },
    /// ContractNegotiationTerminationMessage
    ContractTermination(Termination),
    /// TransferRequestMessage
    TransferRequest {
        /// This side's process id.
        pid: ProcessId,
        /// Agreement.
        agreement: AgreementId,
        /// Format.
        format: String,
    },
    /// TransferStartMessage of a provider; the token is derived when the message is sent.
    TransferStart {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
        /// Expiry of the token.
        until: Timestamp,
    },
    /// TransferStartMessage of a consumer that resumes the transfer.
    TransferResumption {
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
    },
    /// TransferSuspensionMessage
    TransferSuspension(Termination),
    /// TransferCompletionMessage
    TransferCompletion {
        /// Role of this side.
        role: Role,
        /// This side's process id.
        pid: ProcessId,
        /// Peer's process id.
        peer_pid: ProcessId,
    },
    /// TransferTerminationMessage
    TransferTermination(Termination),
    /// Notice of a withdrawn dataset to a member with an agreement on it.
    Withdrawal {
        /// Statement, JWS.
        statement: String,
    },
    /// A receipt for the data plane.
    Receipt {
        /// Provider's id of the transfer.
        transfer: ProcessId,
        /// Receipt, JWS.
        receipt: String,
    },
}

/// Termination or suspension of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// Role of this side.
    pub role: Role,
    /// This side's process id.
    pub pid: ProcessId,
    /// Peer's process id.
    pub peer_pid: ProcessId,
    /// Code for programs.
    pub code: String,
    /// Reason for people.
    pub reason: String,
}

impl Message {
    /// The message as a row of the outbox; messages of one `process` are delivered in order.
    pub fn outgoing(&self, to: &ParticipantId, process: &ProcessId, random: &dyn Random) -> Outgoing {
        // Serialisation of these types cannot fail.
        let mut message = serde_json::to_value(self).unwrap_or_default();
        message["v"] = 1.into();
        let (to, process) = (to.clone(), process.clone());
        let (id, trace) = (MessageId::generate(random), super::trace::current());
        Outgoing { id, to, process, message, callback: None, trace, attempts: 0, conflicts: 0, failure: String::new() }
    }

    /// Whether this is a crosspark message, not one of DSP.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Receipt { .. } | Self::Withdrawal { .. })
    }

    /// The state of the negotiation that the message left, if it belongs to one.
    pub fn negotiation_state(&self) -> Option<State> {
        Some(match self {
            Self::ContractRequest { .. } => State::Requested,
            Self::ContractOffer { .. } => State::Offered,
            Self::ContractAccepted { .. } => State::Accepted,
            Self::ContractAgreement { .. } => State::Agreed,
            Self::ContractVerification { .. } => State::Verified,
            Self::ContractFinalized { .. } => State::Finalized,
            Self::ContractTermination(_) => State::Terminated,
            _ => return None,
        })
    }

    /// The response member with the peer's id of the process that this message opens; `None` if it opens none.
    pub fn answer_pid_member(&self) -> Option<&'static str> {
        match self {
            Self::ContractRequest { peer_pid: None, .. } | Self::TransferRequest { .. } => Some("providerPid"),
            Self::ContractOffer { peer_pid: None, .. } => Some("consumerPid"),
            _ => None,
        }
    }

    /// The request in the current state of a consumer's negotiation.
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

    /// The offer in the current state of a provider's negotiation.
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

    /// The acceptance of an offer; `None` if the peer's process id is unknown.
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

    /// The termination of a negotiation; `None` if the peer's process id is unknown.
    pub fn end_of_negotiation(negotiation: &Negotiation, code: &str, reason: &str) -> Option<Self> {
        let (role, pid) = (negotiation.role, negotiation.id.clone());
        let (code, reason) = (code.to_owned(), reason.to_owned());
        let peer_pid = negotiation.peer_pid.clone()?;
        Some(Self::ContractTermination(Termination { role, pid, peer_pid, code, reason }))
    }

    /// The termination of a transfer; `None` if the peer's process id is unknown.
    pub fn end_of_transfer(transfer: &Transfer, code: &str, reason: &str) -> Option<Self> {
        Some(Self::TransferTermination(termination_of(transfer, code, reason)?))
    }

    /// The suspension of a transfer; `None` if the peer's process id is unknown.
    pub fn pause_of_transfer(transfer: &Transfer, reason: &str) -> Option<Self> {
        Some(Self::TransferSuspension(termination_of(transfer, "suspended", reason)?))
    }
}

fn termination_of(transfer: &Transfer, code: &str, reason: &str) -> Option<Termination> {
    let (role, pid) = (transfer.role, transfer.id.clone());
    let (code, reason) = (code.to_owned(), reason.to_owned());
    Some(Termination { role, pid, peer_pid: transfer.peer_pid.clone()?, code, reason })
}
