//! Contract negotiation (Dataspace Protocol 2025-1, "Contract Negotiation Protocol"): states, events, one table.

use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A side of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Wants data.
    Consumer,
    /// Has data.
    Provider,
}

/// The protocol's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The consumer asked.
    Requested,
    /// The provider offered.
    Offered,
    /// The consumer accepted an offer.
    Accepted,
    /// The provider agreed.
    Agreed,
    /// The consumer verified the agreement.
    Verified,
    /// Both are done.
    Finalized,
    /// Over.
    Terminated,
}

/// What moves a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// ContractRequestMessage
    Request,
    /// ContractOfferMessage
    Offer,
    /// ContractNegotiationEventMessage ACCEPTED
    Accept,
    /// ContractAgreementMessage
    Agree,
    /// ContractAgreementVerificationMessage
    Verify,
    /// ContractNegotiationEventMessage FINALIZED
    Finalize,
    /// ContractNegotiationTerminationMessage
    Terminate,
}

impl State {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Offered,
        Self::Accepted,
        Self::Agreed,
        Self::Verified,
        Self::Finalized,
        Self::Terminated,
    ];

    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Offered => "OFFERED",
            Self::Accepted => "ACCEPTED",
            Self::Agreed => "AGREED",
            Self::Verified => "VERIFIED",
            Self::Finalized => "FINALIZED",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finalized | Self::Terminated)
    }

    /// The table: the state after `event` caused by `by`, if that is legal. DSP 2025-1, "Contract Negotiation
    /// States" and its state diagram (which forbids the termination of final states, whatever the text says).
    pub fn next(self, by: Role, event: Event) -> Option<Self> {
        use {Event as E, Role::*, State as S};
        Some(match (self, by, event) {
            (S::Requested, Provider, E::Offer) => S::Offered,
            (S::Requested, Provider, E::Agree) => S::Agreed,
            (S::Offered, Consumer, E::Request) => S::Requested,
            (S::Offered, Consumer, E::Accept) => S::Accepted,
            (S::Accepted, Provider, E::Agree) => S::Agreed,
            (S::Agreed, Consumer, E::Verify) => S::Verified,
            (S::Verified, Provider, E::Finalize) => S::Finalized,
            (S::Requested | S::Offered, _, E::Terminate) => S::Terminated,
            (S::Accepted | S::Verified, Provider, E::Terminate) => S::Terminated,
            (S::Agreed, Consumer, E::Terminate) => S::Terminated,
            _ => return None,
        })
    }
}

/// A negotiation as one side keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Negotiation {
    /// As this node names it.
    pub id: ProcessId,
    /// This node's side.
    pub role: Role,
    /// The other side.
    pub peer: ParticipantId,
    /// As the other side names it, once it is known.
    pub peer_pid: Option<ProcessId>,
    /// State.
    pub state: State,
    /// Counts the changes; a guard of every update.
    pub revision: u64,
    /// What is negotiated.
    pub subject: Subject,
    /// Where the other side wants its messages, if it said so: below what the register has for it.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// What a person of this side decided.
    #[serde(default)]
    pub ruling: Option<Approval>,
    /// The agreement, once there is one.
    pub agreement: Option<Signatures>,
    /// Why it was terminated.
    pub reason: Option<String>,
    /// Digests of the messages that moved it, to recognise repetitions.
    pub seen: Vec<Digest>,
    /// What it is found by, at both parks.
    #[serde(default)]
    pub trace: Option<TraceId>,
    /// When it began.
    pub started: Timestamp,
    /// When it last moved.
    pub updated: Timestamp,
}

/// What is negotiated: the terms on the table, and who asks for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The dataset.
    pub dataset: DatasetId,
    /// The offer.
    pub offer: OfferId,
    /// The policy that was named last, by whomever, in normal form.
    pub policy: Value,
    /// The policy that the consumer named last, in normal form: its own terms while the provider's are on the table.
    #[serde(default)]
    pub asked: Option<Value>,
    /// The consumer's claim, JWS; other connectors make none.
    #[serde(default)]
    pub claim: Option<String>,
    /// What for, as far as it is known.
    #[serde(default)]
    pub purpose: Option<Text>,
    /// On whose behalf, as far as it is known.
    #[serde(default)]
    pub enterprise: Option<Text>,
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Yes or no.
    pub approved: bool,
    /// Why, for the other side and the log.
    pub comment: Option<Text>,
    /// When.
    pub at: Timestamp,
}

/// The signatures on one agreement, JWS each. Between crosspark nodes there are both in the end; another connector signs
/// nothing, and this side's is the only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// By the provider.
    #[serde(default)]
    pub provider: Option<String>,
    /// By the consumer, once it verified.
    #[serde(default)]
    pub consumer: Option<String>,
}

/// An event that is illegal in the present state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible in state {state}")]
pub struct Illegal {
    /// Event.
    pub event: String,
    /// State.
    pub state: &'static str,
}

impl Negotiation {
    /// Moves it, consuming the old state.
    pub fn apply(mut self, by: Role, event: Event, now: Timestamp) -> Result<Self, Illegal> {
        let illegal = || Illegal { event: format!("{event:?} by the {by:?}").to_lowercase(), state: self.state.name() };
        self.state = self.state.next(by, event).ok_or_else(illegal)?;
        self.revision += 1;
        self.updated = now;
        Ok(self)
    }

    /// Remembers a message that moved it.
    pub fn remember(mut self, message: Digest) -> Self {
        if self.seen.len() == limits::PROCESS_MESSAGES_MAX {
            self.seen.remove(0);
        }
        self.seen.push(message);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state with every event by either side; what is not listed is illegal.
    #[test]
    fn every_pair() {
        let events = [
            Event::Request,
            Event::Offer,
            Event::Accept,
            Event::Agree,
            Event::Verify,
            Event::Finalize,
            Event::Terminate,
        ];
        let mut table = String::new();
        for state in State::ALL {
            for by in [Role::Consumer, Role::Provider] {
                for event in events {
                    let next = state.next(by, event).map_or("-", State::name);
                    table += &format!("{} {by:?} {event:?}: {next}\n", state.name());
                }
            }
        }
        insta::assert_snapshot!(table);
    }
}
