//! Who decides on negotiations and transfers, as a port; by default the policy does.

use crate::negotiation::Negotiation;
use crate::policy::{Channel, Decision, Missing, Permission, Policy};
use crate::transfer::Transfer;
use serde_json::Value;

/// What to do next in a negotiation that waits for this side.
#[derive(Debug, Clone, PartialEq)]
pub enum NegotiationStep {
    /// Nothing yet.
    Wait,
    /// Provider: offer the dataset under its own policy.
    Offer,
    /// Consumer: ask again, under this policy.
    Counter(Value),
    /// Consumer: accept the offer.
    Accept,
    /// Provider: agree.
    Agree,
    /// Consumer: verify the agreement.
    Verify,
    /// Provider: finalize.
    Finalize,
    /// End it, with a reason.
    Terminate(String),
}

/// What to do next in a transfer that waits for this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferStep {
    /// Nothing yet.
    Wait,
    /// Provider: start; either side: go on with what it paused.
    Start,
    /// Pause it, with a reason.
    Suspend(String),
    /// It is done.
    Complete,
    /// End it, with a reason.
    Terminate(String),
}

/// What a decision on a negotiation can rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Provider: what the policy says of the consumer under the terms on the table.
    pub policy: Option<Decision>,
    /// Provider: whether what is asked for is within the offer. Consumer: whether what is offered gives all that was
    /// asked for.
    pub fits: bool,
}

/// Decides where a decision is this side's. The policy's word is an input: who decides may be stricter, never laxer;
/// the service refuses a step that the policy does not permit. It is asked again after each step, until it waits.
pub trait DecisionMaker: Send + Sync {
    /// The next step of a negotiation.
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep;
    /// The next step of a transfer. `policy` is what the policy says of the consumer, where this side is the provider.
    fn transfer(&self, transfer: &Transfer, policy: Option<&Decision>) -> TransferStep;
    /// Consumer: how to ask for the data once the negotiation is finalized; none if not at once.
    fn delivery(&self, negotiation: &Negotiation, connector: bool) -> Option<Channel>;
}

/// The policy decides, and people where it wants their word.
pub struct PolicyDecides;

impl DecisionMaker for PolicyDecides {
    fn negotiation(&self, negotiation: &Negotiation, says: &Assessment) -> NegotiationStep {
        use crate::negotiation::{Role, State};
        use NegotiationStep::{Accept, Agree, Finalize, Offer, Terminate, Verify, Wait};
        let rejected = negotiation.ruling.as_ref().filter(|ruling| !ruling.approved);
        if let Some(ruling) = rejected.filter(|_| !negotiation.state.is_final()) {
            let comment = ruling.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
            return Terminate(format!("a person said no{comment}"));
        }
        match (negotiation.role, negotiation.state) {
            (Role::Provider, State::Requested) if !says.fits => Offer,
            (Role::Provider, State::Requested | State::Accepted) => match &says.policy {
                Some(Decision::Permitted { .. }) => Agree,
                Some(Decision::Refused { reason, .. }) => Terminate(reason.clone()),
                Some(Decision::Undetermined { missing: Missing::Consent, .. }) => Wait,
                _ => Terminate("the policy depends on the purpose: ask for the offer under one purpose".into()),
            },
            (Role::Provider, State::Verified) => Finalize,
            // A first offer waits for a person; so does nothing else.
            (Role::Consumer, State::Offered) if negotiation.subject.asked.is_none() => Wait,
            (Role::Consumer, State::Offered) if says.fits => Accept,
            (Role::Consumer, State::Offered) => {
                Terminate("the terms that are offered do not give what was asked for; read the catalog again".into())
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
                TransferStep::Terminate("the policy leaves this undetermined".into())
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
