//! Changes of admitted members: their entries, status and removal.

use super::{Alliance, AllianceError};
use crate::core::id::{ParticipantId, Text};
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::identity::register::{Member, Status};
use std::collections::{BTreeMap, BTreeSet};

/// New values of a member's entry; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct MemberChange {
    /// Names by language tag.
    pub names: Option<BTreeMap<String, Text>>,
    /// Address of its peer listener, or base URL of a connector's protocol paths.
    pub endpoint: Option<Endpoint>,
    /// Further prefixes of its callback addresses.
    pub callbacks: Option<Vec<Endpoint>>,
    /// Groups.
    pub groups: Option<BTreeSet<Text>>,
}

impl MemberChange {
    fn apply(self, member: &mut Member) {
        let further = member.callbacks.iter().filter(|callback| **callback != member.endpoint).cloned();
        let further = self.callbacks.unwrap_or_else(|| further.collect());
        let had_own = member.callbacks.contains(&member.endpoint);
        member.endpoint = self.endpoint.unwrap_or_else(|| member.endpoint.clone());
        // The endpoint itself is a callback address if it was one before.
        let own = Some(member.endpoint.clone()).filter(|endpoint| had_own && !further.contains(endpoint));
        member.callbacks = own.into_iter().chain(further).collect();
        member.names = self.names.unwrap_or_else(|| std::mem::take(&mut member.names));
        member.groups = self.groups.unwrap_or_else(|| std::mem::take(&mut member.groups));
    }
}

impl Alliance {
    pub(super) fn listed(&self, id: &ParticipantId) -> Result<&Member, AllianceError> {
        // The stated entry, not what the register makes of it: keys without proof stay as they are.
        let found = self.register.stated().members.iter().find(|member| member.id == *id);
        found.ok_or_else(|| AllianceError::Refused(format!("{id} is not a member")))
    }

    fn replace(&mut self, member: Member, now: Timestamp) -> Result<(), AllianceError> {
        self.next(now, |register| {
            register.members.iter_mut().filter(|known| known.id == member.id).for_each(|known| *known = member.clone());
        })
    }

    /// Changes a member's entry; false if nothing is new.
    pub fn change(&mut self, id: &ParticipantId, change: MemberChange, now: Timestamp) -> Result<bool, AllianceError> {
        let before = self.listed(id)?;
        let mut member = before.clone();
        change.apply(&mut member);
        if member == *before {
            return Ok(false);
        }
        if member.endpoint != before.endpoint {
            self.check_endpoint(id, &member.endpoint)?;
        }
        self.replace(member, now).map(|()| true)
    }

    /// Suspends a member, for a reason that all members can read, or reinstates it.
    pub fn set_status(
        &mut self,
        id: &ParticipantId,
        status: Status,
        reason: Option<Text>,
        now: Timestamp,
    ) -> Result<(), AllianceError> {
        let member = self.listed(id)?;
        if member.status == status && (member.reason == reason || reason.is_none()) {
            return Err(AllianceError::Refused(format!("{id} is already {status:?}").to_lowercase()));
        }
        let member = Member { status, reason, ..member.clone() };
        self.replace(member, now)
    }

    /// Removes a member from the register. Earlier registers still list it, so that evidence about it stays verifiable.
    pub fn remove(&mut self, id: &ParticipantId, now: Timestamp) -> Result<(), AllianceError> {
        self.listed(id)?;
        self.next(now, |register| register.members.retain(|member| member.id != *id))
    }
}
