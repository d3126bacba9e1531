//! The port for decisions on negotiations and transfers, and the default: the policy decides.

use crate::negotiation::Negotiation;
use crate::policy::{Channel, Decision, Missing, Permission, Policy};
use crate::transfer::Transfer;
use serde_json::Value;

/// Next step of this side in a negotiation.
#[derive(Debug, Clone, PartialEq)]
pub enum NegotiationStep {
    /// Do nothing yet.
    Wait,
    /// Provider: offer the dataset under its own policy.
    Offer,
    /// Consumer: make a counter-offer with this policy.
    Counter(Value),
    /// Consumer: accept the offer.
    Accept,
    /// Provider: agree.
    Agree,
    /// Consumer: verify the agreement.
    Verify,
    /// Provider: finalize.
    Finalize,
    /// Terminate, for this reason.
    Terminate(String),
}

/// Next step of this side in a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferStep {
    /// Do nothing yet.
    Wait,
    /// Provider: start. Either side: resume a transfer that it suspended.
    Start,
    /// Suspend, for this reason.
    Suspend(String),
    /// Complete.
    Complete,
    /// Terminate, for this reason.
    Terminate(String),
}

/// Input of a decision on a negotiation.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Provider: result of evaluating the current terms for the consumer.
    pub policy: Option<Decision>,
    /// Provider: whether the requested terms are within the offer. Consumer: whether the offered terms grant everything
    /// that was requested.
    pub fits: bool,
}

/// Decides the steps of this side. It may be stricter than the policy, never laxer: a step that the policy does not
/// permit is refused by the caller. It is called again after each step, until it returns `Wait`.
pub trait DecisionMaker: Send + Sync {
    /// The next step of a negotiation.
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep;
    /// The next step of a transfer. `policy` is the policy decision for the consumer, if this side is the provider.
    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep;
    /// Consumer: the channel to request the data on once the negotiation is finalized; `None` requests nothing.
    fn delivery(&self, negotiation: &Negotiation, connector: bool) -> Option<Channel>;
}

/// The policy decides, and people where it requires their consent.
pub struct PolicyDecides;

impl DecisionMaker for PolicyDecides {
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep {
        use crate::negotiation::{Role, State};
        use NegotiationStep::{Accept, Agree, Finalize, Offer, Terminate, Verify, Wait};
        let rejected = negotiation.approval.as_ref().filter(|approval| !approval.approved);
        if let Some(approval) = rejected.filter(|_| !negotiation.state.is_final()) {
            let comment = approval.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
            return Terminate(format!("rejected by a person{comment}"));
        }
        match (negotiation.role, negotiation.state) {
            (Role::Provider, State::Requested) if !says.fits => Offer,
            (Role::Provider, State::Requested | State::Accepted) => match &says.policy {
                Some(Decision::Permitted { .. }) => Agree,
                Some(Decision::Refused { reason, .. }) => Terminate(reason.clone()),
                Some(Decision::Undetermined { missing: Missing::Consent, .. }) => Wait,
                _ => Terminate("the policy depends on the purpose: request the offer with exactly one purpose".into()),
            },
            (Role::Provider, State::Verified) => Finalize,
            // The provider's first offer waits for a person.
            (Role::Consumer, State::Offered) if negotiation.subject.asked.is_none() => Wait,
            (Role::Consumer, State::Offered) if says.fits => Accept,
            (Role::Consumer, State::Offered) => {
                Terminate("the offered terms do not grant everything that was requested; read the catalog again".into())
            }
            (Role::Consumer, State::Agreed) => Verify,
            _ => Wait,
        }
    }

    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep {
        use crate::{negotiation::Role, transfer::State};
        match (transfer.role, transfer.state, policy) {
            (Role::Provider, State::Requested, Some(Decision::Permitted { .. })) => TransferStep::Start,
            (Role::Provider, State::Requested, Some(Decision::Refused { reason, .. })) => {
                TransferStep::Terminate(reason.clone())
            }
            (Role::Provider, State::Requested, _) => {
                TransferStep::Terminate("the policy neither permits nor refuses this transfer".into())
            }
            _ => TransferStep::Wait,
        }
    }

    fn delivery(&self, negotiation: &Negotiation, connector: bool) -> Option<Channel> {
        let policy = Policy::from_value(&negotiation.subject.policy).ok();
        let sealed = |permission: &Permission| permission.channels().contains(&Channel::Sealed);
        let can_be_sealed = policy.is_some_and(|policy| policy.permissions().iter().any(sealed));
        Some(if can_be_sealed && !connector { Channel::Sealed } else { Channel::Pull })
    }
}
