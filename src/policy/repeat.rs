//! An offer's rules as another connector wrote them, to be repeated in the agreement.

use serde_json::{Map, Value};

/// The rules of an offer.
const RULES: [&str; 3] = ["permission", "prohibition", "obligation"];

/// The rules of an offer as they were written, if they are in the protocol's form, in which every reader understands them
/// as this program does: plain names, terms as strings, no context of their own. Only left operands may have ODRL's
/// prefix, and right operands may be typed.
pub fn rules_as_written(offer: &Value) -> Option<Value> {
    let offer = offer.as_object()?;
    if offer.contains_key("@context") {
        return None;
    }
    let rules: Map<String, Value> =
        RULES.iter().filter_map(|name| Some(((*name).to_owned(), offer.get(*name)?.clone()))).collect();
    (rules.contains_key("permission") && rules.values().all(is_plain)).then_some(Value::Object(rules))
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().all(is_plain),
        Value::Object(members) => members.iter().all(|(name, value)| match (name.as_str(), value) {
            ("rightOperand", _) => true,
            ("leftOperand", Value::String(term)) => !term.strip_prefix("odrl:").unwrap_or(term).contains(':'),
            ("action" | "operator" | "@type", Value::String(term)) => !term.contains(':'),
            ("constraint" | "duty", value) => is_plain(value),
            _ => false,
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_every_reader_understands_is_repeated() {
        let with = |constraint: Value| json!({"permission": [{"action": "use", "constraint": [constraint]}]});
        let good = json!({"leftOperand": "odrl:count", "operator": "lteq", "rightOperand": {"@value": "2"}});
        let mut offer = with(good.clone());
        offer["assigner"] = json!("did:web:a.example");
        offer["odrl:assignee"] = json!("did:web:anyone.example");
        offer["crosspark:note"] = json!("resale permitted");
        assert_eq!(rules_as_written(&offer), Some(with(good.clone())));
        for bad in [
            json!({"@context": {}, "permission": []}),
            json!({"odrl:permission": [], "prohibition": []}),
            json!({"permission": [{"action": "use", "dct:constraint": [good]}]}),
            json!({"permission": [{"action": "use", "odrl:constraint": [good]}]}),
            json!({"permission": [{"action": "edc:use"}]}),
            json!({"permission": [{"action": {"@id": "odrl:use"}}]}),
            json!({"permission": [{"action": "use", "crosspark:more": 1}]}),
            json!({"permission": [{"action": "use", "@context": {}}]}),
            with(json!({"leftOperand": "edc:count", "operator": "lteq", "rightOperand": "2"})),
        ] {
            assert_eq!(rules_as_written(&bad), None, "{bad}");
        }
    }
}
