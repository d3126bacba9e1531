//! Contract negotiation (Dataspace Protocol 2025-1, "Contract Negotiation Protocol"): states, events and transitions.

use crate::core::digest::Digest;
use crate::core::id::{DatasetId, OfferId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A party's role in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Requests data.
    Consumer,
    /// Offers data.
    Provider,
}

/// States of a contract negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The consumer sent a contract request.
    Requested,
    /// The provider made an offer.
    Offered,
    /// The consumer accepted an offer.
    Accepted,
    /// The provider sent an agreement.
    Agreed,
    /// The consumer verified the agreement.
    Verified,
    /// The provider finalized the agreement.
    Finalized,
    /// Either party ended the negotiation.
    Terminated,
}

/// Messages that change the state.
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
    /// No message: the peer refused one of this side's messages, or never took it.
    Abandon,
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

    /// The state's name in the protocol.
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

    /// Whether no transition leaves this state.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finalized | Self::Terminated)
    }

    /// The state after `event` by `by`, or `None` if the transition is illegal. DSP 2025-1, "Contract Negotiation
    /// States" and its state diagram, which, unlike the text, forbids the termination of final states and lets only one
    /// side terminate after REQUESTED and OFFERED. A negotiation whose messages the peer does not take ends in any state;
    /// otherwise both sides would wait forever.
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
            (state, _, E::Abandon) if !state.is_final() => S::Terminated,
            _ => return None,
        })
    }
}

/// One party's record of a negotiation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Negotiation {
    /// This node's identifier of the negotiation.
    pub id: ProcessId,
    /// This node's role.
    pub role: Role,
    /// The peer.
    pub peer: ParticipantId,
    /// The peer's identifier of the negotiation, once known.
    pub peer_pid: Option<ProcessId>,
    /// Current state.
    pub state: State,
    /// Number of changes; guards every update.
    pub revision: u64,
    /// Subject of the negotiation.
    pub subject: Subject,
    /// Callback address that the peer sent, if any; used only if the register lists a prefix of it.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// Decision of a person at this park.
    #[serde(default, rename = "ruling")]
    pub approval: Option<Approval>,
    /// Signatures on the agreement, once there is one.
    pub agreement: Option<Signatures>,
    /// Reason for the termination.
    pub reason: Option<String>,
    /// Whether a user of this side ended it.
    #[serde(default)]
    pub cancelled: bool,
    /// Digests of the messages already applied, to recognise repetitions.
    pub seen: Vec<Digest>,
    /// Trace id, the same at both parks.
    #[serde(default)]
    pub trace: Option<TraceId>,
    /// Time of the first message.
    pub started: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
}

/// Subject of a negotiation: dataset, current terms and the consumer's statements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Dataset.
    pub dataset: DatasetId,
    /// Offer.
    pub offer: OfferId,
    /// The policy proposed last, by either party, in normal form.
    pub policy: Value,
    /// The policy that the consumer proposed last, in normal form; kept while a counter-offer of the provider is open.
    #[serde(default)]
    pub asked: Option<Value>,
    /// The rules of the consumer's offer as another connector wrote them. Some connectors compare the agreement with it literally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Value>,
    /// The consumer's claim as a JWS; only crosspark nodes send one.
    #[serde(default)]
    pub claim: Option<String>,
    /// Purpose of the use, if known.
    #[serde(default)]
    pub purpose: Option<Text>,
    /// Enterprise on whose behalf the consumer asks, if known.
    #[serde(default)]
    pub enterprise: Option<Text>,
}

/// A person's decision on a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether the request was approved.
    pub approved: bool,
    /// Comment for the peer and the log.
    pub comment: Option<Text>,
    /// Time of the decision.
    pub at: Timestamp,
}

/// The signatures on one agreement, each a JWS. Two crosspark nodes end up with both; another connector does not
/// sign, so that only this node's signature exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// The provider's signature.
    #[serde(default)]
    pub provider: Option<String>,
    /// The consumer's signature, once it has verified the agreement.
    #[serde(default)]
    pub consumer: Option<String>,
}

/// An event that is illegal in the current state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible in state {state}")]
pub struct Illegal {
    /// The event and the party that caused it.
    pub event: String,
    /// The current state.
    pub state: &'static str,
}

impl Negotiation {
    /// Applies a transition.
    pub fn apply(mut self, by: Role, event: Event, now: Timestamp) -> Result<Self, Illegal> {
        let illegal = || Illegal { event: format!("{event:?} by the {by:?}").to_lowercase(), state: self.state.name() };
        self.state = self.state.next(by, event).ok_or_else(illegal)?;
        self.revision += 1;
        self.updated = now;
        Ok(self)
    }

    /// Records a message that was applied.
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

    /// Every state with every event by either party; the snapshot shows the illegal ones as `-`.
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
            Event::Abandon,
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
