//! Evaluation: a pure function of a policy and facts. Three-valued, because a catalog is asked before purpose and
//! person are known: undetermined may be listed and requested, never released.

use super::odrl::{Constraint, Permission, Policy, Recipients};
use crate::core::id::{ParticipantId, Text};
use crate::core::time::Timestamp;
use std::collections::BTreeSet;

/// What a decision may depend on.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The consuming participant.
    pub recipient: &'a ParticipantId,
    /// Its groups in the register.
    pub groups: &'a BTreeSet<Text>,
    /// The purpose, once it is stated.
    pub purpose: Option<&'a Text>,
    /// Now.
    pub now: Timestamp,
    /// Releases so far under the agreement; none before there is one.
    pub used: u64,
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Permitted {
        /// The permission that permits, as a JSON pointer.
        rule: String,
        /// The count that it allows; a guard of the commit.
        count_max: Option<u64>,
    },
    /// No.
    Refused {
        /// The constraint that fails, as a JSON pointer.
        rule: String,
        /// For people.
        reason: String,
    },
    /// It depends on what is not known yet.
    Undetermined {
        /// The constraint that waits, as a JSON pointer.
        rule: String,
    },
}

enum Holds {
    Yes,
    No(String),
    Unknown,
}

impl Policy {
    /// Decides. Of several permissions, one that permits decides; else one that may still permit; else the first.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Decision {
        let mut undecided: Option<Decision> = None;
        for (i, permission) in self.permissions().iter().enumerate() {
            match permission.evaluate(facts, i) {
                permitted @ Decision::Permitted { .. } => return permitted,
                waiting @ Decision::Undetermined { .. }
                    if !matches!(undecided, Some(Decision::Undetermined { .. })) =>
                {
                    undecided = Some(waiting);
                }
                other => undecided = undecided.or(Some(other)),
            }
        }
        // A policy has at least one permission; without one, the answer would be no.
        undecided.unwrap_or_else(|| Decision::Refused { rule: "/permission".into(), reason: "no permission".into() })
    }
}

impl Permission {
    fn evaluate(&self, facts: &Facts<'_>, i: usize) -> Decision {
        let mut waiting = None;
        let mut count_max: Option<u64> = None;
        for (k, constraint) in self.constraints.iter().enumerate() {
            let rule = format!("/permission/{i}/constraint/{k}");
            match constraint.holds(facts) {
                Holds::Yes => {}
                Holds::No(reason) => return Decision::Refused { rule, reason },
                Holds::Unknown => waiting = waiting.or(Some(rule)),
            }
            if let Constraint::Count(max) = constraint {
                count_max = Some(count_max.map_or(*max, |least| least.min(*max)));
            }
        }
        match waiting {
            Some(rule) => Decision::Undetermined { rule },
            None => Decision::Permitted { rule: format!("/permission/{i}"), count_max },
        }
    }
}

impl Constraint {
    fn holds(&self, facts: &Facts<'_>) -> Holds {
        let (holds, reason) = match self {
            Self::Recipient(Recipients::Any(who)) => {
                (who.contains(facts.recipient), format!("{} is not among the recipients", facts.recipient))
            }
            Self::Recipient(Recipients::None(who)) => {
                (!who.contains(facts.recipient), format!("{} is excluded", facts.recipient))
            }
            Self::Recipient(Recipients::Group(group)) => {
                (facts.groups.contains(group), format!("{} is not in the group {group}", facts.recipient))
            }
            Self::Purpose(purposes) => match facts.purpose {
                None => return Holds::Unknown,
                Some(purpose) => (purposes.contains(purpose), format!("the purpose `{purpose}` is not permitted")),
            },
            Self::From(at) => (facts.now >= *at, format!("not before {at}")),
            Self::Until(at) => (facts.now < *at, format!("only before {at}")),
            Self::Count(max) => (facts.used < *max, format!("all {max} uses under this agreement are made")),
        };
        if holds { Holds::Yes } else { Holds::No(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn park(name: &str) -> ParticipantId {
        ParticipantId::parse(&format!("did:web:{name}.example")).unwrap()
    }

    fn constraint(left: &str, operator: &str, right: Value) -> Value {
        json!({"leftOperand": left, "operator": operator, "rightOperand": right})
    }

    fn policy(constraints: Vec<Value>) -> Policy {
        Policy::from_value(&json!({"permission": [{"action": "use", "constraint": constraints}]})).unwrap()
    }

    fn decide(policy: &Policy, recipient: &str, purpose: Option<&str>, now: &str, used: u64) -> Decision {
        let purpose = purpose.map(|p| Text::parse(p).unwrap());
        let groups = BTreeSet::from([Text::parse("pilot").unwrap()]);
        let now = Timestamp::parse(now).unwrap();
        policy.evaluate(&Facts { recipient: &park(recipient), groups: &groups, purpose: purpose.as_ref(), now, used })
    }

    #[test]
    fn every_constraint_decides() {
        let now = "2026-06-01T00:00:00Z";
        for (c, recipient, purpose, used, expected) in [
            (constraint("recipient", "eq", json!("did:web:a.example")), "a", None, 0, "yes"),
            (constraint("recipient", "isAnyOf", json!(["did:web:a.example", "did:web:b.example"])), "c", None, 0, "no"),
            (constraint("recipient", "isNoneOf", json!(["did:web:a.example"])), "a", None, 0, "no"),
            (constraint("recipient", "isPartOf", json!("pilot")), "a", None, 0, "yes"),
            (constraint("recipient", "isPartOf", json!("other")), "a", None, 0, "no"),
            (constraint("purpose", "eq", json!("research")), "a", Some("research"), 0, "yes"),
            (constraint("purpose", "eq", json!("research")), "a", Some("advertising"), 0, "no"),
            (constraint("purpose", "eq", json!("research")), "a", None, 0, "unknown"),
            (constraint("dateTime", "lt", json!("2026-06-01T00:00:00Z")), "a", None, 0, "no"),
            (constraint("dateTime", "gteq", json!("2026-06-01T00:00:00Z")), "a", None, 0, "yes"),
            (constraint("count", "lteq", json!("2")), "a", None, 1, "yes"),
            (constraint("count", "lteq", json!("2")), "a", None, 2, "no"),
        ] {
            let found = decide(&policy(vec![c.clone()]), recipient, purpose, now, used);
            let word = match &found {
                Decision::Permitted { .. } => "yes",
                Decision::Refused { rule, .. } => {
                    assert_eq!(rule, "/permission/0/constraint/0");
                    "no"
                }
                Decision::Undetermined { .. } => "unknown",
            };
            assert_eq!(word, expected, "{c}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (value, pointer) in [
            (json!({}), "/permission"),
            (json!({"permission": []}), "/permission"),
            (json!({"permission": [{"action": "distribute"}]}), "/permission/0/action"),
            (json!({"permission": [{"action": "use", "duty": []}]}), "/permission/0/duty"),
            (json!({"permission": [{"action": "use"}], "prohibition": [{"action": "use"}]}), "/prohibition"),
            (json!({"permission": [{"action": "use"}], "inheritFrom": "x"}), "/inheritFrom"),
            (
                json!({"permission": [{"action": "use", "constraint": [constraint("spatial", "eq", json!("CN"))]}]}),
                "/permission/0/constraint/0/leftOperand",
            ),
            (
                json!({"permission": [{"action": "use", "constraint": [constraint("count", "lteq", json!(5))]}]}),
                "/permission/0/constraint/0/rightOperand",
            ),
            (
                json!({"permission": [{"action": "use", "constraint": [constraint("count", "gt", json!("5"))]}]}),
                "/permission/0/constraint/0/operator",
            ),
            (json!({"permission": [{"action": "use", "constraint": [{"and": []}]}]}), "/permission/0/constraint/0/and"),
            (
                json!({"permission": [{"action": "use", "constraint": [constraint("dateTime", "lt", json!("tomorrow"))]}]}),
                "/permission/0/constraint/0/rightOperand",
            ),
        ] {
            assert_eq!(Policy::from_value(&value).unwrap_err().pointer, pointer, "{value}");
        }
    }

    #[test]
    fn one_permission_of_several_is_enough() {
        let policy = Policy::from_value(&json!({"permission": [
            {"action": "use", "constraint": [constraint("recipient", "eq", json!("did:web:b.example"))]},
            {"action": "use", "constraint": [constraint("purpose", "eq", json!("research")), constraint("count", "lteq", json!("3"))]},
        ]})).unwrap();
        let now = "2026-06-01T00:00:00Z";
        assert!(matches!(decide(&policy, "a", None, now, 0), Decision::Undetermined { .. }));
        assert_eq!(
            decide(&policy, "a", Some("research"), now, 0),
            Decision::Permitted { rule: "/permission/1".into(), count_max: Some(3) }
        );
        assert!(matches!(decide(&policy, "a", Some("x"), now, 0), Decision::Refused { .. }));
        assert_eq!(policy.end(), None);
    }

    fn any_constraint() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[a-d]".prop_map(|p| constraint("recipient", "isAnyOf", json!([format!("did:web:{p}.example")]))),
            "[a-d]".prop_map(|p| constraint("recipient", "isNoneOf", json!([format!("did:web:{p}.example")]))),
            "[a-d]".prop_map(|p| constraint("purpose", "isAnyOf", json!([p]))),
            (0i64..10).prop_map(|s| constraint("dateTime", "lt", json!(Timestamp::from_ms(s * 1_000)))),
            (0i64..10).prop_map(|s| constraint("dateTime", "gteq", json!(Timestamp::from_ms(s * 1_000)))),
            (1u64..5).prop_map(|n| constraint("count", "lteq", json!(n.to_string()))),
        ]
    }

    proptest! {
        #[test]
        fn normal_form_is_stable_and_more_constraints_never_permit_more(
            constraints in prop::collection::vec(any_constraint(), 1..6), who in "[a-d]", purpose in "[a-d]", s in 0i64..10, used in 0u64..5
        ) {
            let whole = policy(constraints.clone());
            prop_assert_eq!(&Policy::from_value(&whole.to_value()).unwrap(), &whole);
            let fewer = policy(constraints[..constraints.len() - 1].to_vec());
            let now = Timestamp::from_ms(s * 1_000).to_string();
            let permitted = |p: &Policy, purpose: Option<&str>| matches!(decide(p, &who, purpose, &now, used), Decision::Permitted { .. });
            prop_assert!(!permitted(&whole, Some(&purpose)) || permitted(&fewer, Some(&purpose)));
            // What is permitted without knowing the purpose stays permitted, and refused stays refused.
            prop_assert!(!permitted(&whole, None) || permitted(&whole, Some(&purpose)));
            if matches!(decide(&whole, &who, None, &now, used), Decision::Refused { .. }) {
                prop_assert!(!permitted(&whole, Some(&purpose)));
            }
        }
    }
}
