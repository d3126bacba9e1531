//! Transfer process (Dataspace Protocol 2025-1, "Transfer Process Protocol"): states, events and transitions.

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Illegal, Role};
use crate::policy::Channel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Distribution format of crosspark nodes: sealed bytes by range, and the release of the key.
pub const SEALED: &str = Channel::Sealed.name();
/// Distribution format for other connectors: plain text over TLS with a token.
pub const PULL: &str = Channel::Pull.name();

/// States of a transfer process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The consumer sent a transfer request.
    Requested,
    /// The data is available to the consumer.
    Started,
    /// Suspended by either party.
    Suspended,
    /// Completed.
    Completed,
    /// Either party ended the transfer.
    Terminated,
}

/// Messages that change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// TransferStartMessage
    Start,
    /// TransferSuspensionMessage
    Suspend,
    /// TransferCompletionMessage
    Complete,
    /// TransferTerminationMessage
    Terminate,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Requested, Self::Started, Self::Suspended, Self::Completed, Self::Terminated];

    /// The state's name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Started => "STARTED",
            Self::Suspended => "SUSPENDED",
            Self::Completed => "COMPLETED",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Whether no transition leaves this state.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Terminated)
    }

    /// The state after `event` by `by`, or `None` if the transition is illegal. DSP 2025-1, "Transfer Process States".
    /// A consumer may resume a suspended transfer, although the text assigns TransferStartMessage to the provider.
    pub fn next(self, by: Role, event: Event) -> Option<Self> {
        use {Event as E, State as S};
        Some(match (self, by, event) {
            (S::Requested, Role::Provider, E::Start) => S::Started,
            (S::Suspended, _, E::Start) => S::Started,
            (S::Started, _, E::Suspend) => S::Suspended,
            (S::Started, _, E::Complete) => S::Completed,
            (S::Requested | S::Started | S::Suspended, _, E::Terminate) => S::Terminated,
            _ => return None,
        })
    }
}

/// One party's record of a transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// This node's identifier of the transfer.
    pub id: ProcessId,
    /// This node's role.
    pub role: Role,
    /// The peer.
    pub peer: ParticipantId,
    /// The peer's identifier of the transfer, once known.
    pub peer_pid: Option<ProcessId>,
    /// Current state.
    pub state: State,
    /// Number of changes; guards every update.
    pub revision: u64,
    /// Agreement that permits the transfer.
    pub agreement: AgreementId,
    /// This node's identifier of the negotiation that led to the agreement.
    pub negotiation: ProcessId,
    /// Requested distribution format.
    pub format: String,
    /// Callback address that the peer sent, if any; used only if the register lists a prefix of it.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// Data address that the peer sent, if any; used only if the register lists a prefix of it.
    #[serde(default)]
    pub data: Option<Endpoint>,
    /// Party that suspended the transfer: only that party may resume it.
    #[serde(default, rename = "paused_by")]
    pub suspended_by: Option<Role>,
    /// Party that ended the transfer.
    #[serde(default)]
    pub ended_by: Option<Role>,
    /// Whether a user of this side terminated it.
    #[serde(default)]
    pub cancelled: bool,
    /// Time of the first plain download, which counted as a use.
    #[serde(default)]
    pub pulled: Option<Timestamp>,
    /// Expiry of the current transfer token.
    pub token_until: Option<Timestamp>,
    /// The consumer's copy of the token, wrapped.
    pub wrapped_token: Option<String>,
    /// Reason for the suspension or termination.
    pub reason: Option<String>,
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

impl Transfer {
    /// Applies a transition.
    pub fn apply(mut self, by: Role, event: Event, now: Timestamp) -> Result<Self, Illegal> {
        let illegal = || Illegal { event: format!("{event:?} by the {by:?}").to_lowercase(), state: self.state.name() };
        self.state = self.state.next(by, event).or_else(|| self.crossed(by, event)).ok_or_else(illegal)?;
        self.suspended_by = (event == Event::Suspend).then_some(by);
        self.ended_by = self.state.is_final().then_some(by);
        self.revision += 1;
        self.updated = now;
        Ok(self)
    }

    /// Either party may end a transfer, so their final messages can cross. The provider's prevails: a consumer that has
    /// ended the transfer itself adopts the provider's final state. (The specification does not cover this case.)
    fn crossed(&self, by: Role, event: Event) -> Option<State> {
        let ended_alone = self.role == Role::Consumer && self.ended_by == Some(Role::Consumer);
        match event {
            Event::Complete if ended_alone && by == Role::Provider => Some(State::Completed),
            Event::Terminate if ended_alone && by == Role::Provider => Some(State::Terminated),
            _ => None,
        }
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
        let mut table = String::new();
        for state in State::ALL {
            for by in [Role::Consumer, Role::Provider] {
                for event in [Event::Start, Event::Suspend, Event::Complete, Event::Terminate] {
                    let next = state.next(by, event).map_or("-", State::name);
                    table += &format!("{} {by:?} {event:?}: {next}\n", state.name());
                }
            }
        }
        insta::assert_snapshot!(table);
    }
}
