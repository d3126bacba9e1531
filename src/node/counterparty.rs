//! The member that a request came from.

use super::{Error, Trust};
use crate::core::id::{ParticipantId, Text};
use crate::identity::endpoint::Endpoint;
use crate::identity::register::{Member, Status};
use std::collections::BTreeSet;

/// The member that sent a request, as listed in one register.
#[derive(Debug, Clone)]
pub struct Counterparty {
    /// Participant id.
    pub participant: ParticipantId,
    /// Membership status. A suspended member may only send receipts and terminations, and read the checkpoint of its
    /// own log that this node holds.
    pub status: Status,
    /// Groups of the register.
    pub groups: BTreeSet<Text>,
    /// Sequence number of that register.
    pub register: u64,
}

impl Counterparty {
    /// The member as `trust` lists it.
    pub fn new(member: &Member, trust: &Trust) -> Self {
        Self {
            participant: member.id.clone(),
            status: member.status,
            groups: member.groups.clone(),
            register: trust.register.body().sequence,
        }
    }

    /// Fails when a callback address from a message is not below an address that the register lists for its sender.
    pub fn check_callback(&self, trust: &Trust, callback: &Endpoint) -> Result<(), Error> {
        let member = trust.member(&self.participant)?;
        if member.callbacks.iter().any(|prefix| prefix.covers(callback)) {
            return Ok(());
        }
        let reason = format!("the register does not list the callback address {callback} for {}", self.participant);
        Err(Error::invalid("callback", reason))
    }
}
