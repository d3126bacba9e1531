//! Evaluation: a pure function of a policy and facts. It is three-valued, because catalogs are read before purpose and
//! approval are known: an undetermined dataset may be listed and requested, but its key is never released.

use super::odrl::{Channel, Constraint, Permission, Policy, Recipients};
use crate::core::id::{ParticipantId, Text};
use crate::core::time::Timestamp;
use std::collections::BTreeSet;

/// The facts that a decision depends on.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The consumer.
    pub recipient: &'a ParticipantId,
    /// The consumer's groups in the register.
    pub groups: &'a BTreeSet<Text>,
    /// The purpose, once stated.
    pub purpose: Option<&'a Text>,
    /// The current time.
    pub now: Timestamp,
    /// Uses so far under the agreement; 0 before there is one.
    pub used: u64,
    /// The delivery channel, once known.
    pub channel: Option<Channel>,
    /// Whether a person at the provider has approved.
    pub approved: bool,
}

/// The missing fact that makes a decision undetermined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The purpose.
    Purpose,
    /// The approval of a person.
    Consent,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The use is permitted.
    Permitted {
        /// JSON pointer to the permission.
        rule: String,
        /// The maximum number of uses, which guards the commit.
        count_max: Option<u64>,
    },
    /// The use is refused.
    Refused {
        /// JSON pointer to the constraint that does not hold.
        rule: String,
        /// Explanation for people.
        reason: String,
    },
    /// The decision depends on a missing fact.
    Undetermined {
        /// JSON pointer to the constraint or duty that needs the fact.
        rule: String,
        /// The missing fact.
        missing: Missing,
    },
}

enum Holds {
    Yes,
    No(String),
    Unknown,
}

impl Policy {
    /// Evaluates the policy. One permission that permits is enough. Otherwise the result is that of the first
    /// undetermined permission or, if each refuses, of the first permission.
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
        // A policy has at least one permission, so the default is not reached.
        undecided.unwrap_or_else(|| Decision::Refused { rule: "/permission".into(), reason: "no permission".into() })
    }

    /// Whether a release at this time, after so many uses and for this purpose, can have been permitted to some
    /// recipient, on some channel and with approval: for the verification of logs, which do not contain these facts.
    pub fn could_permit(&self, at: Timestamp, used: u64, purpose: Option<&Text>) -> bool {
        let could = |constraint: &Constraint| match constraint {
            Constraint::From(from) => at >= *from,
            Constraint::Until(until) => at < *until,
            Constraint::Count(max) => used < *max,
            Constraint::Purpose(purposes) => purpose.is_some_and(|purpose| purposes.contains(purpose)),
            Constraint::Recipient(_) | Constraint::Channel(_) => true,
        };
        self.permissions().iter().any(|permission| permission.constraints.iter().all(could))
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
                Holds::Unknown => waiting = waiting.or(Some((rule, Missing::Purpose))),
            }
            if let Constraint::Count(max) = constraint {
                count_max = Some(count_max.map_or(*max, |least| least.min(*max)));
            }
        }
        let rule = format!("/permission/{i}");
        if let Some(channel) = facts.channel.filter(|channel| !self.channels().contains(channel)) {
            return Decision::Refused { rule, reason: format!("delivery as {} is not permitted", channel.name()) };
        }
        if self.consent && !facts.approved {
            waiting = waiting.or(Some((format!("/permission/{i}/duty/0"), Missing::Consent)));
        }
        match waiting {
            Some((rule, missing)) => Decision::Undetermined { rule, missing },
            None => Decision::Permitted { rule, count_max },
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
            Self::From(at) => (facts.now >= *at, format!("use is permitted only from {at}")),
            Self::Until(at) => (facts.now < *at, format!("use is permitted only before {at}")),
            Self::Count(max) => (facts.used < *max, format!("all {max} uses under this agreement have been made")),
            // The channels of a permission are evaluated together, by `Permission::evaluate`.
            Self::Channel(_) => return Holds::Yes,
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
        let recipient = park(recipient);
        let purpose = purpose.as_ref();
        policy.evaluate(&Facts {
            recipient: &recipient,
            groups: &groups,
            purpose,
            now,
            used,
            channel: None,
            approved: false,
        })
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
            (json!({"permission": [{"action": "use", "duty": [{"action": "compensate"}]}]}), "/permission/0/duty/0"),
            (json!({"permission": [{"action": "use", "refinement": [{}]}]}), "/permission/0/refinement"),
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

    #[test]
    fn a_persons_word_and_the_channel() {
        let policy = Policy::from_value(&json!({"permission": [{
            "action": "use", "duty": [{"action": "obtainConsent"}],
            "constraint": [constraint("deliveryChannel", "isAnyOf", json!(["crosspark-sealed", "HttpData-PULL"]))],
        }]}))
        .unwrap();
        assert_eq!(Policy::from_value(&policy.to_value()).unwrap(), policy);
        let (me, groups, now) = (park("a"), BTreeSet::new(), Timestamp::from_ms(0));
        let facts =
            Facts { recipient: &me, groups: &groups, purpose: None, now, used: 0, channel: None, approved: false };
        let waits = Decision::Undetermined { rule: "/permission/0/duty/0".into(), missing: Missing::Consent };
        assert_eq!(policy.evaluate(&facts), waits);
        let plain = Facts { approved: true, channel: Some(Channel::Pull), ..facts.clone() };
        assert!(matches!(policy.evaluate(&plain), Decision::Permitted { .. }));
        // A policy that names no channel permits sealed delivery only.
        let sealed = self::policy(vec![]);
        assert!(matches!(sealed.evaluate(&plain), Decision::Refused { .. }));
        assert!(matches!(
            sealed.evaluate(&Facts { channel: Some(Channel::Sealed), ..facts }),
            Decision::Permitted { .. }
        ));
        assert!(sealed.is_subset_of(&self::policy(vec![constraint(
            "deliveryChannel",
            "isAnyOf",
            json!(["crosspark-sealed", "HttpData-PULL"])
        )])));
        assert!(!self::policy(vec![constraint("deliveryChannel", "eq", json!("HttpData-PULL"))]).is_subset_of(&sealed));
    }

    #[test]
    fn one_purpose_is_stated_by_agreeing() {
        let purpose = |names: Value| constraint("purpose", "isAnyOf", names);
        assert_eq!(policy(vec![purpose(json!(["research"]))]).sole_purpose().unwrap().as_str(), "research");
        assert_eq!(policy(vec![purpose(json!(["research", "teaching"]))]).sole_purpose(), None);
        assert_eq!(policy(vec![]).sole_purpose(), None);
    }

    fn any_constraint() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[a-d]".prop_map(|p| constraint("recipient", "isAnyOf", json!([format!("did:web:{p}.example")]))),
            "[a-d]".prop_map(|p| constraint("recipient", "isNoneOf", json!([format!("did:web:{p}.example")]))),
            "[a-d]".prop_map(|p| constraint("purpose", "isAnyOf", json!([p]))),
            (0i64..10).prop_map(|s| constraint("dateTime", "lt", json!(Timestamp::from_ms(s * 1_000)))),
            (0i64..10).prop_map(|s| constraint("dateTime", "gteq", json!(Timestamp::from_ms(s * 1_000)))),
            (1u64..5).prop_map(|n| constraint("count", "lteq", json!(n.to_string()))),
            prop_oneof![Just(vec!["HttpData-PULL"]), Just(vec!["crosspark-sealed", "HttpData-PULL"])]
                .prop_map(|names| constraint("deliveryChannel", "isAnyOf", json!(names))),
        ]
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let permission =
            (prop::collection::vec(any_constraint(), 0..4), any::<bool>()).prop_map(|(constraints, consent)| {
                let duty = if consent { json!([{"action": "obtainConsent"}]) } else { json!([]) };
                json!({"action": "use", "constraint": constraints, "duty": duty})
            });
        prop::collection::vec(permission, 1..3)
            .prop_map(|permissions| Policy::from_value(&json!({"permission": permissions})).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_within_permits_nothing_more(
            narrow in any_policy(), wide in any_policy(), who in "[a-d]", purpose in "[a-d]", s in 0i64..10,
            used in 0u64..5, pull in any::<bool>(), approved in any::<bool>()
        ) {
            prop_assert!(narrow.is_subset_of(&narrow));
            let (recipient, groups, purpose) = (park(&who), BTreeSet::new(), Text::parse(&purpose).unwrap());
            let facts = Facts {
                recipient: &recipient, groups: &groups, purpose: Some(&purpose), now: Timestamp::from_ms(s * 1_000), used,
                channel: Some(if pull { Channel::Pull } else { Channel::Sealed }), approved,
            };
            let permits = |policy: &Policy| matches!(policy.evaluate(&facts), Decision::Permitted { .. });
            let audience = narrow.audience();
            let named = audience.contains("*") || audience.contains(&format!("p:{recipient}"));
            prop_assert!(named || !permits(&narrow), "a permitted participant is in the audience");
            if narrow.is_subset_of(&wide) && permits(&narrow) {
                prop_assert!(permits(&wide), "{:?} is a subset of {:?}", narrow, wide);
            }
        }

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
            // A decision made without the purpose does not change when the purpose becomes known.
            prop_assert!(!permitted(&whole, None) || permitted(&whole, Some(&purpose)));
            if matches!(decide(&whole, &who, None, &now, used), Decision::Refused { .. }) {
                prop_assert!(!permitted(&whole, Some(&purpose)));
            }
        }
    }
}
