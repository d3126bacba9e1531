//! The member that a request came from.

use super::Trust;
use crate::core::id::{ParticipantId, Text};
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
}
