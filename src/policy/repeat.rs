//! An offer's rules as another connector wrote them, to be repeated in the agreement.

use crate::core::json::ld;
use serde_json::{Map, Value};

/// Members of ODRL rules that are repeated.
const RULES: [&str; 3] = ["permission", "prohibition", "obligation"];
/// Members within the rules.
const MEMBERS: [&str; 12] = [
    "action",
    "constraint",
    "duty",
    "leftOperand",
    "operator",
    "rightOperand",
    "@type",
    "@id",
    "@value",
    "@language",
    "@list",
    "@set",
];
const ODRL: [&str; 2] = ["odrl:", "http://www.w3.org/ns/odrl/2/"];

/// The rules of an offer as they were written, if every JSON-LD processor reads them as this program does: all names and
/// terms are plain or ODRL's, and no context redefines them. Otherwise a reader might ignore a constraint that was signed.
pub fn rules_as_written(offer: &Value) -> Option<Value> {
    let offer = offer.as_object()?;
    if offer.contains_key("@context") {
        return None;
    }
    let rules: Map<String, Value> = offer
        .iter()
        .filter(|(name, _)| RULES.contains(&ld::term(name)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (rules.keys().all(|name| is_odrl(name)) && rules.values().all(is_plain)).then_some(Value::Object(rules))
}

/// Whether a name or term has ODRL's prefix, or none.
fn is_odrl(name: &str) -> bool {
    let plain = ODRL.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    !plain.contains(':')
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().all(is_plain),
        Value::Object(members) => members.iter().all(|(name, value)| {
            // What a term is called matters; the operands' values do not.
            let is_term = matches!(ld::term(name), "action" | "leftOperand" | "operator" | "@type");
            let text = value.as_str().or_else(|| value.get("@id")?.as_str());
            is_odrl(name)
                && MEMBERS.contains(&ld::term(name))
                && (!is_term || text.is_none_or(is_odrl))
                && is_plain(value)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_every_reader_understands_is_repeated() {
        let with = |constraint: Value| json!({"permission": [{"action": "use", "constraint": [constraint]}]});
        let good =
            json!({"leftOperand": "odrl:count", "operator": {"@id": "odrl:lteq"}, "rightOperand": {"@value": "2"}});
        let mut offer = with(good.clone());
        offer["assigner"] = json!("did:web:a.example");
        offer["odrl:assignee"] = json!("did:web:anyone.example");
        offer["crosspark:note"] = json!("resale permitted");
        assert_eq!(rules_as_written(&offer), Some(with(good.clone())));
        for bad in [
            json!({"@context": {}, "permission": []}),
            json!({"dct:permission": []}),
            json!({"permission": [{"action": "use", "dct:constraint": [good]}]}),
            json!({"permission": [{"action": "edc:use"}]}),
            json!({"permission": [{"action": {"@id": "edc:use"}}]}),
            json!({"permission": [{"action": "use", "crosspark:more": 1}]}),
            json!({"permission": [{"action": "use", "@context": {}}]}),
            with(json!({"leftOperand": "edc:count", "operator": "lteq", "rightOperand": "2"})),
        ] {
            assert_eq!(rules_as_written(&bad), None, "{bad}");
        }
    }
}
