//! Comparison of policies: the terms of a counter-offer are accepted if they permit nothing beyond the offer.

use super::odrl::{Channel, Constraint, Permission, Policy, Recipients};
use crate::core::id::Text;
use std::collections::BTreeSet;

/// The audience key that stands for all participants.
pub const EVERYBODY: &str = "*";

impl Policy {
    /// Whether `other` permits everything that this policy permits. In doubt, false.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.permissions().iter().all(|own| other.permissions().iter().any(|wider| own.is_subset_of(wider)))
    }

    /// Keys of the participants that may be permitted anything: a necessary condition for database lookups. `*` stands
    /// for all participants, `p:ID` for one participant, `g:NAME` for a group of the register.
    pub fn audience(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for permission in self.permissions() {
            let named = permission.constraints.iter().find_map(|constraint| match constraint {
                Constraint::Recipient(Recipients::Any(who)) => {
                    Some(who.iter().map(|id| format!("p:{id}")).collect::<Vec<_>>())
                }
                Constraint::Recipient(Recipients::Group(group)) => Some(vec![format!("g:{group}")]),
                _ => None,
            });
            keys.extend(named.unwrap_or_else(|| vec![EVERYBODY.to_owned()]));
        }
        keys
    }

    /// The purpose, if the policy permits exactly one; accepting the policy then implies it.
    pub fn sole_purpose(&self) -> Option<&Text> {
        let mut all = BTreeSet::new();
        for permission in self.permissions() {
            let purposes = permission.constraints.iter().find_map(|constraint| match constraint {
                Constraint::Purpose(purposes) => Some(purposes),
                _ => None,
            });
            all.extend(purposes?);
        }
        all.pop_first().filter(|_| all.is_empty())
    }
}

impl Permission {
    fn is_subset_of(&self, wider: &Self) -> bool {
        let implied = |wanted: &Constraint| self.constraints.iter().any(|own| own.implies(wanted));
        let others = wider.constraints.iter().filter(|constraint| !matches!(constraint, Constraint::Channel(_)));
        let channels = self.channels().is_subset(&wider.channels());
        channels && (self.consent || !wider.consent) && others.into_iter().all(implied)
    }

    /// The delivery channels that it permits.
    pub fn channels(&self) -> BTreeSet<Channel> {
        let mut named = self.constraints.iter().filter_map(|constraint| match constraint {
            Constraint::Channel(channels) => Some(BTreeSet::from_iter(channels.iter().copied())),
            _ => None,
        });
        let first = named.next().unwrap_or_else(|| BTreeSet::from([Channel::Sealed]));
        named.fold(first, |all, more| &all & &more)
    }
}

impl Constraint {
    /// Whether `wanted` holds whenever this constraint holds.
    fn implies(&self, wanted: &Self) -> bool {
        use Recipients::{Any, Group, None};
        match (self, wanted) {
            (Self::Recipient(own), Self::Recipient(wanted)) => match (own, wanted) {
                (Any(few), Any(many)) => few.iter().all(|who| many.contains(who)),
                (None(many), None(few)) => few.iter().all(|who| many.contains(who)),
                (Any(few), None(excluded)) => few.iter().all(|who| !excluded.contains(who)),
                (Group(own), Group(wanted)) => own == wanted,
                _ => false,
            },
            (Self::Purpose(few), Self::Purpose(many)) => few.iter().all(|purpose| many.contains(purpose)),
            (Self::From(later), Self::From(earlier)) => later >= earlier,
            (Self::Until(earlier), Self::Until(later)) => earlier <= later,
            (Self::Count(less), Self::Count(more)) => less <= more,
            _ => false,
        }
    }
}
