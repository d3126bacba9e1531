//! The member that a request came from.

use super::Trust;
use crate::core::id::{ParticipantId, Text};
use crate::identity::register::{Member, Status};
use std::collections::BTreeSet;

/// A member at the other end of a connection, as listed in one register.
#[derive(Debug, Clone)]
pub struct Counterparty {
    /// Participant id.
    pub participant: ParticipantId,
    /// Membership status. A suspended member may only send receipts, destruction statements, terminations and
    /// checkpoints.
    pub status: Status,
    /// Groups of the register.
    pub groups: BTreeSet<Text>,
    /// Sequence of the register that lists it so.
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
