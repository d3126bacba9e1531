//! Verification of the releases in a log: whether their own time and count contradict the agreement.

use super::entry::{Decision, Entry, Kind};
use crate::agreement::Agreement;
use crate::core::digest::Digest;
use crate::core::id::AgreementId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document;
use crate::policy::Policy;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// What an agreement says about time and uses.
struct Terms {
    /// Releases in the log so far.
    releases: u64,
    policy: Arc<Policy>,
    from: Timestamp,
    until: Timestamp,
}

/// What was found about a release.
#[derive(Debug, PartialEq)]
pub(super) enum Finding {
    /// It contradicts its agreement.
    Contradiction(String),
    /// It could not be checked.
    Unchecked(String),
}

/// The agreements in the log so far. Many agreements have one policy, which is kept once.
#[derive(Default)]
pub(super) struct Releases {
    agreements: HashMap<AgreementId, Terms>,
    policies: HashMap<Digest, Arc<Policy>>,
}

impl Releases {
    /// Examines the next entry. The signatures of agreements are not verified here: the parties verify them, and an
    /// altered one is an altered entry.
    pub(super) fn examine(&mut self, entry: &Entry) -> Option<Finding> {
        match entry.kind {
            Kind::NegotiationTransition => {
                self.remember(entry);
                None
            }
            Kind::KeyReleased | Kind::DataReleased => self.contradiction(entry),
            Kind::TransferTransition if is_start(entry) => self.contradiction(entry),
            _ => None,
        }
    }

    fn remember(&mut self, entry: &Entry) -> Option<()> {
        let text = |name: &str| entry.facts.detail.get(name).and_then(Value::as_str);
        if text("role") != Some("provider") {
            return None;
        }
        let agreement: Agreement = document::claimed(text("providerSignature")?).ok()?;
        let policy = Policy::from_value(&agreement.policy).ok()?;
        let policy = self.policies.entry(policy.digest()).or_insert_with(|| Arc::new(policy)).clone();
        let terms = Terms { releases: 0, policy, from: agreement.valid_from, until: agreement.valid_until };
        self.agreements.entry(agreement.id).or_insert(terms);
        Some(())
    }

    fn contradiction(&mut self, entry: &Entry) -> Option<Finding> {
        let Some(id) = entry.facts.agreement.as_ref() else {
            return Some(Finding::Unchecked(
                "it releases data and names no agreement, so its terms are unknown".into(),
            ));
        };
        let Some(terms) = self.agreements.get_mut(id) else {
            return Some(Finding::Unchecked(format!(
                "it releases data under the agreement {id}, which is not in the log before it, so its terms are unknown"
            )));
        };
        // The decision was made some time before the commit.
        let decided = [entry.time, entry.time.plus_ms(-limits::DECISION_AGE_MS_MAX)];
        let is_release = entry.kind != Kind::TransferTransition;
        let stated = entry.facts.detail.get("used").and_then(Value::as_u64).unwrap_or(0);
        let used = if is_release { stated.max(terms.releases) } else { 0 };
        terms.releases += u64::from(is_release);
        let permitted = |at: &Timestamp| {
            terms.from <= *at && *at < terms.until && terms.policy.could_permit(*at, used, entry.facts.purpose.as_ref())
        };
        let time = entry.time;
        (!decided.iter().any(permitted)).then(|| {
            let reason = format!("it releases data at {time} after {used} uses, which its agreement does not permit");
            Finding::Contradiction(reason)
        })
    }
}

/// Whether this side permitted a transfer to start.
fn is_start(entry: &Entry) -> bool {
    let detail = &entry.facts.detail;
    let is = |name: &str, value: &str| detail.get(name).and_then(Value::as_str) == Some(value);
    is("role", "provider")
        && is("by", "provider")
        && is("state", "STARTED")
        && entry.facts.decision == Some(Decision::Permitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Versions;
    use crate::audit::entry::{Draft, Facts};
    use crate::core::id::ParticipantId;
    use crate::core::json;
    use crate::core::random::SystemRandomness;
    use crate::identity::key::SigningKey;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn entry(kind: Kind, time: &str, id: &AgreementId, detail: Value) -> Entry {
        let Value::Object(detail) = detail else { panic!("{detail}") };
        let purpose = crate::core::id::Text::parse("research").ok();
        let facts = Facts { agreement: Some(id.clone()), purpose, detail, ..Facts::default() };
        let park = ParticipantId::parse("did:web:a.example").unwrap();
        Draft::new(kind, facts, &SystemRandomness::new()).at(&park.log_origin(0), at(time))
    }

    #[test]
    fn a_release_must_agree_with_its_agreement() {
        let [a, b] = ["a", "b"].map(|name| ParticipantId::parse(&format!("did:web:{name}.example")).unwrap());
        let policy = json!({"permission": [{"action": "use", "constraint": [
            {"leftOperand": "dateTime", "operator": "lt", "rightOperand": "2026-06-01T12:00:00Z"},
            {"leftOperand": "count", "operator": "lteq", "rightOperand": "2"},
            {"leftOperand": "recipient", "operator": "isPartOf", "rightOperand": "pilot"},
            {"leftOperand": "purpose", "operator": "eq", "rightOperand": "research"},
        ]}]});
        let id = AgreementId::parse("urn:uuid:agreement").unwrap();
        let agreement = Agreement {
            id: id.clone(),
            provider: a.clone(),
            consumer: b,
            dataset: crate::core::id::DatasetId::parse("urn:uuid:dataset").unwrap(),
            versions: Versions::All,
            manifest: None,
            policy_digest: Digest::of(&json::to_canonical(&policy)),
            policy,
            purpose: None,
            enterprise: None,
            person: None,
            valid_from: at("2026-06-01T08:00:00Z"),
            valid_until: at("2027-06-01T08:00:00Z"),
        };
        let signed = document::sign(agreement, &SigningKey::from_seed(a.key(2), &[7; 32].into()));
        let agreed = json!({"role": "provider", "state": "AGREED", "providerSignature": signed.jws()});
        let agreed = entry(Kind::NegotiationTransition, "2026-06-01T08:00:00Z", &id, agreed);
        let mut releases = Releases::default();
        let early = entry(Kind::KeyReleased, "2026-06-01T09:00:00Z", &id, json!({"used": 0}));
        assert!(matches!(releases.examine(&early), Some(Finding::Unchecked(_))));
        assert_eq!(releases.examine(&agreed), None);
        for (kind, time, used, good) in [
            (Kind::KeyReleased, "2026-06-01T09:00:00Z", 0, true),
            (Kind::KeyReleased, "2026-06-01T07:00:00Z", 1, false),
            (Kind::KeyReleased, "2026-06-01T09:00:00Z", 2, false),
            (Kind::KeyRefused, "2026-06-01T15:00:00Z", 2, true),
        ] {
            let found = releases.examine(&entry(kind, time, &id, json!({"used": used})));
            assert_eq!(found.is_none(), good, "{time} {used}: {found:?}");
        }
        // Each in a log of its own, as the only release.
        for (kind, time, used, good) in [
            (Kind::KeyReleased, "2026-06-01T11:59:59Z", 1, true),
            (Kind::DataReleased, "2026-06-01T11:59:59Z", 1, true),
            // Decided before the end, committed just after it.
            (Kind::KeyReleased, "2026-06-01T12:00:30Z", 1, true),
            (Kind::KeyReleased, "2026-06-01T12:01:00Z", 1, false),
            (Kind::DataReleased, "2026-06-01T15:00:00Z", 0, false),
        ] {
            let mut releases = Releases::default();
            assert_eq!(releases.examine(&agreed), None);
            let found = releases.examine(&entry(kind, time, &id, json!({"used": used})));
            assert_eq!(found.is_none(), good, "{time} {used}: {found:?}");
        }
        // A count that is never stated is counted.
        let mut releases = Releases::default();
        assert_eq!(releases.examine(&agreed), None);
        let silent = entry(Kind::DataReleased, "2026-06-01T09:00:00Z", &id, json!({}));
        let found: Vec<bool> = (0..3).map(|_| releases.examine(&silent).is_none()).collect();
        assert_eq!(found, [true, true, false]);
        let nameless = Entry { facts: Facts { agreement: None, ..silent.facts.clone() }, ..silent };
        assert!(matches!(releases.examine(&nameless), Some(Finding::Unchecked(_))));
    }
}
