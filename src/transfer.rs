//! Transfer process (Dataspace Protocol 2025-1, "Transfer Process Protocol"): states, events, one table.

use crate::core::digest::Digest;
use crate::core::id::{AgreementId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use crate::negotiation::{Illegal, Role};
use crate::policy::Channel;
use serde::{Deserialize, Serialize};

/// The format of a distribution: sealed bytes by range, the key by release.
pub const SEALED: &str = Channel::Sealed.name();
/// The format of a distribution for consumers that are not crosspark nodes: plain over TLS, by token.
pub const PULL: &str = Channel::Pull.name();

/// The protocol's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The consumer asked.
    Requested,
    /// Data may flow.
    Started,
    /// Paused.
    Suspended,
    /// Done.
    Completed,
    /// Over.
    Terminated,
}

/// What moves a transfer.
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

    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Started => "STARTED",
            Self::Suspended => "SUSPENDED",
            Self::Completed => "COMPLETED",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Terminated)
    }

    /// The table: the state after `event` caused by `by`, if that is legal. DSP 2025-1, "Transfer Process States".
    /// A consumer may resume what is suspended, though TransferStartMessage is said to be the provider's.
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

/// A transfer as one side keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
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
    /// Under which agreement.
    pub agreement: AgreementId,
    /// The negotiation that led to it, as this node names it.
    pub negotiation: ProcessId,
    /// The format asked for.
    pub format: String,
    /// Where the other side wants its messages, if it said so: below what the register has for it.
    #[serde(default)]
    pub callback: Option<Endpoint>,
    /// Where the data is, if the other side said so: below what the register has for it.
    #[serde(default)]
    pub data: Option<Endpoint>,
    /// Who paused it: only that side goes on with it.
    #[serde(default)]
    pub paused_by: Option<Role>,
    /// Who ended it.
    #[serde(default)]
    pub ended_by: Option<Role>,
    /// When plain text was first served under it, which counted as a use.
    #[serde(default)]
    pub pulled: Option<Timestamp>,
    /// Until when the token of this start is good.
    pub token_until: Option<Timestamp>,
    /// The consumer's copy of the token, wrapped.
    pub wrapped_token: Option<String>,
    /// Why it was terminated or suspended.
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

impl Transfer {
    /// Moves it, consuming the old state.
    pub fn apply(mut self, by: Role, event: Event, now: Timestamp) -> Result<Self, Illegal> {
        let illegal = || Illegal { event: format!("{event:?} by the {by:?}").to_lowercase(), state: self.state.name() };
        self.state = self.state.next(by, event).or_else(|| self.crossed(by, event)).ok_or_else(illegal)?;
        self.paused_by = (event == Event::Suspend).then_some(by);
        self.ended_by = self.state.is_final().then_some(by);
        self.revision += 1;
        self.updated = now;
        Ok(self)
    }

    /// Both sides may end a transfer, so that their last messages can cross on the way. The provider's counts: the consumer,
    /// which has ended it by itself, takes it, so that both come to the same end. (The specification says nothing of it.)
    fn crossed(&self, by: Role, event: Event) -> Option<State> {
        let ended_alone = self.role == Role::Consumer && self.ended_by == Some(Role::Consumer);
        match event {
            Event::Complete if ended_alone && by == Role::Provider => Some(State::Completed),
            Event::Terminate if ended_alone && by == Role::Provider => Some(State::Terminated),
            _ => None,
        }
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
