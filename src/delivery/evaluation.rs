//! Evaluation of an agreement's policy.

use crate::core::time::Timestamp;
use crate::identity::register::Status;
use crate::node::{Error, Node, TRANSFER_SUSPENDED, Trust};
use crate::policy::{self, Channel, Decision};
use crate::storage::{AgreementRow, StoreError, VersionRow};
use crate::transfer::State;

/// Evaluates the agreement and its policy for delivery on `channel`.
pub fn evaluate_agreement(trust: &Trust, row: &AgreementRow, channel: Channel, now: Timestamp) -> Decision {
    let refused = |rule: &str, reason: &str| Decision::Refused { rule: rule.into(), reason: reason.into() };
    let member = trust.register.member(&row.peer).filter(|member| member.status == Status::Active);
    let Some(member) = member else { return refused("membership", "the consumer is not an active member") };
    if !trust.register.is_current(now) {
        return refused("register", "the register has expired");
    }
    if !row.agreement.is_valid(now) {
        return refused("agreement", "the agreement has ended or is not valid yet");
    }
    let Ok(policy) = row.agreement.policy() else {
        return refused("policy", "the policy of the agreement is not understood");
    };
    let (purpose, groups) = (row.agreement.purpose.as_ref(), &member.groups);
    let (channel, approved) = (Some(channel), row.approved);
    policy.evaluate(&policy::Facts { recipient: &row.peer, groups, purpose, now, used: row.used, channel, approved })
}

/// Whether the dataset version of an agreement is withdrawn.
pub async fn is_withdrawn(node: &Node, row: &AgreementRow) -> Result<bool, StoreError> {
    let Some(manifest) = row.agreement.manifest else { return Ok(false) };
    Ok(node.store().version_by_manifest(&manifest).await?.is_some_and(|version| version.withdrawn.is_some()))
}

/// Fails when the version is withdrawn: it is not delivered any more, even under an agreement.
pub fn ensure_not_withdrawn(version: &VersionRow) -> Result<(), Error> {
    match version.withdrawn {
        Some(at) => Err(Error::forbidden("withdrawn", format!("the provider withdrew the dataset at {at}"))),
        None => Ok(()),
    }
}

/// Code of a refusal because of the transfer's state.
pub fn state_code(state: State) -> &'static str {
    if state == State::Suspended { TRANSFER_SUSPENDED } else { "state" }
}
