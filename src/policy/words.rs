//! Policies in words, for requesters.

use super::odrl::{Channel, Constraint, Permission, Policy, Recipients};
use crate::core::id::{ParticipantId, Text};
use crate::core::time::Timestamp;
use std::fmt::Display;

fn listed(items: &[impl Display]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    match texts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

impl Policy {
    /// What the policy permits, a line for each condition; alternatives are separated by `or`.
    pub fn in_words(&self) -> String {
        self.permissions().iter().map(Permission::in_words).collect::<Vec<_>>().join("\nor\n")
    }
}

impl Policy {
    /// Terms that nobody meets at present: participants and groups that are not in the register, and times past.
    pub fn unmet(
        &self,
        knows: impl Fn(&ParticipantId) -> bool,
        has_group: impl Fn(&Text) -> bool,
        now: Timestamp,
    ) -> Vec<String> {
        let mut unmet = Vec::new();
        for constraint in self.permissions().iter().flat_map(|permission| &permission.constraints) {
            match constraint {
                Constraint::Recipient(Recipients::Any(who) | Recipients::None(who)) => {
                    unmet.extend(who.iter().filter(|id| !knows(id)).map(|id| format!("{id} is not a member")));
                }
                Constraint::Recipient(Recipients::Group(group)) if !has_group(group) => {
                    unmet.push(format!("no member is in the group {group}"));
                }
                Constraint::Until(at) if *at <= now => unmet.push(format!("use ended at {at}")),
                Constraint::From(at) if *at > now => unmet.push(format!("use begins at {at}")),
                _ => {}
            }
        }
        unmet
    }
}

impl Permission {
    fn in_words(&self) -> String {
        let mut lines: Vec<String> = self.constraints.iter().filter_map(Constraint::in_words).collect();
        let channels: Vec<&str> = self.channels().into_iter().map(Channel::name).collect();
        if channels != [Channel::Sealed.name()] {
            lines.push(format!("delivered as {}", listed(&channels)));
        }
        lines.push(if self.consent { "a person at the provider decides" } else { "decided automatically" }.to_owned());
        lines.join("\n")
    }
}

impl Constraint {
    fn in_words(&self) -> Option<String> {
        Some(match self {
            Self::Recipient(Recipients::Any(who)) => format!("for {}", listed(who)),
            Self::Recipient(Recipients::None(who)) => format!("not for {}", listed(who)),
            Self::Recipient(Recipients::Group(group)) => format!("for members of the group {group}"),
            Self::Purpose(purposes) => format!("purpose: {}", listed(purposes)),
            Self::From(at) => format!("from {at}"),
            Self::Until(at) => format!("before {at}"),
            Self::Count(1) => "once per agreement".to_owned(),
            Self::Count(max) => format!("at most {max} times per agreement"),
            // All channels of a permission are named together.
            Self::Channel(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn words() {
        let constraint = |left: &str, operator: &str, right: Value| json!({"leftOperand": left, "operator": operator, "rightOperand": right});
        for (permissions, words) in [
            (json!([{"action": "use"}]), "decided automatically"),
            (
                json!([{"action": "use", "duty": [{"action": "obtainConsent"}], "constraint": [
                    constraint("purpose", "isAnyOf", json!(["research", "planning", "teaching"])),
                    constraint("count", "lteq", json!("3")),
                ]}]),
                "purpose: research, planning or teaching\nat most 3 times per agreement\na person at the provider decides",
            ),
            (
                json!([
                    {"action": "use", "constraint": [constraint("recipient", "isPartOf", json!("pilot"))]},
                    {"action": "use", "constraint": [
                        constraint("recipient", "eq", json!("did:web:a.example")),
                        constraint("deliveryChannel", "eq", json!("HttpData-PULL")),
                    ]},
                ]),
                "for members of the group pilot\ndecided automatically\nor\nfor did:web:a.example\n\
                 delivered as HttpData-PULL\ndecided automatically",
            ),
        ] {
            let policy = Policy::from_value(&json!({"permission": permissions})).unwrap();
            assert_eq!(policy.in_words(), words);
        }
    }
}
