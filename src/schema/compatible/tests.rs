use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Old schema, new schema, and the pointer of the first breaking change, or "" if there is none.
const CASES: &str = include_str!("cases.json");

#[test]
fn changes_are_classified() {
    let cases: Vec<(Value, Value, Option<String>)> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 80, "{}", cases.len());
    for (old, new, expected) in &cases {
        let found = compare(new, old).unwrap();
        let first = found.first().map(|breaking| breaking.pointer.clone());
        assert_eq!(first, *expected, "{old} -> {new}: {found:?}");
    }
    // Of those that are compatible, about half are changes that only look dangerous.
    let compatible = cases.iter().filter(|(.., expected)| expected.is_none()).count();
    assert!((25..cases.len() - 25).contains(&compatible), "{compatible}");
}

#[test]
fn keys_and_sizes() {
    let schema = |more: Value| {
        let mut value = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:x", "x-version": "1.0.0",
            "type": "object", "properties": {"a": {}, "b": {}},
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Schema::parse(&serde_json::to_vec(&value).unwrap()).unwrap()
    };
    let (none, one, two) = (schema(json!({})), schema(json!({"x-key": ["a"]})), schema(json!({"x-key": ["a", "b"]})));
    for (new, old, breaks) in [(&none, &one, false), (&one, &one, false), (&one, &none, true), (&two, &one, true)] {
        assert_eq!(!breaking(new, old).unwrap().is_empty(), breaks);
    }
    // Every built-in schema is compatible with itself; a schema that contains itself is compared in finite time.
    for schema in crate::schema::built_in() {
        assert_eq!(breaking(&schema, &schema).unwrap(), []);
    }
    let tree = |item: &str| json!({"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"next": {"$ref": "#/$defs/t"}, "v": {"type": item}}}}});
    assert_eq!(compare(&tree("number"), &tree("integer")).unwrap(), []);
    assert_eq!(compare(&tree("integer"), &tree("number")).unwrap()[0].pointer, "/properties/v/type");
}

fn any_instance() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..6).prop_map(Value::from),
        (-6i64..12).prop_map(|n| Value::from(n as f64 / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({"$ref": "#/$defs/d"})),
        prop::sample::subsequence(vec!["null", "boolean", "integer", "number", "string", "array", "object"], 1..4)
            .prop_map(|types| json!({"type": types})),
        (-2i64..4).prop_map(|n| json!({"minimum": n})),
        (-2i64..4).prop_map(|n| json!({"exclusiveMaximum": n})),
        (-2i64..4).prop_map(|n| json!({"maximum": n, "exclusiveMinimum": n - 3})),
        (1u64..4).prop_map(|n| json!({"multipleOf": n})),
        (0u64..3).prop_map(|n| json!({"minLength": n, "maxLength": n + 1})),
        (0u64..3).prop_map(|n| json!({"minItems": n, "uniqueItems": n == 1})),
        (0u64..3).prop_map(|n| json!({"maxProperties": n})),
        Just(json!({"pattern": "^a"})),
        any_instance().prop_map(|value| json!({"const": value})),
        prop::collection::vec(any_instance(), 1..4).prop_map(|values| json!({"enum": values})),
        Just(json!({"required": ["a"]})),
        Just(json!({"required": ["a", "b"]})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"a": a, "b": b}})),
            (inner.clone(), inner.clone())
                .prop_map(|(a, rest)| json!({"properties": {"a": a}, "additionalProperties": rest})),
            (inner.clone(), inner.clone())
                .prop_map(|(a, rest)| json!({"patternProperties": {"^a": a}, "additionalProperties": rest})),
            inner.clone().prop_map(|items| json!({"items": items})),
            (inner.clone(), inner.clone()).prop_map(|(a, items)| json!({"prefixItems": [a], "items": items})),
            (inner.clone(), 0u64..2).prop_map(|(a, n)| json!({"contains": a, "minContains": n})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"allOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"oneOf": [a, b]})),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            inner.clone().prop_map(|a| json!({"not": a})),
            inner.clone().prop_map(|a| json!({"properties": {"b": a}, "unevaluatedProperties": false})),
            (inner.clone(), inner).prop_map(|(a, b)| {
                // Two keywords of different kinds beside each other.
                let mut both = if a.is_object() { a } else { json!({}) };
                if let Some(b) = b.as_object() {
                    both.as_object_mut().unwrap().extend(b.clone());
                }
                both
            }),
        ]
    })
}

/// The schema with some parts replaced or dropped, as `choices` say.
fn altered(schema: &Value, choices: &mut impl Iterator<Item = u8>, spare: &Value) -> Value {
    match (choices.next().unwrap_or(255), schema) {
        (0, _) => spare.clone(),
        (1, Value::Bool(_)) => json!(true),
        (1..=2, Value::Object(members)) if !members.is_empty() => {
            let drop = usize::from(choices.next().unwrap_or(0)) % members.len();
            let kept = members.iter().enumerate().filter(|(n, _)| *n != drop);
            Value::Object(kept.map(|(_, (name, value))| (name.clone(), value.clone())).collect())
        }
        (3, Value::Number(number)) => {
            json!(number.as_f64().unwrap_or(0.0) as i64 + i64::from(choices.next().unwrap_or(0) % 3) - 1)
        }
        (_, Value::Object(members)) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), altered(value, choices, spare))).collect())
        }
        (_, Value::Array(list)) => list.iter().map(|value| altered(value, choices, spare)).collect(),
        (_, other) => other.clone(),
    }
}

fn compiled(schema: &Value) -> Option<jsonschema::Validator> {
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(schema).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, max_global_rejects: 100_000, ..ProptestConfig::default() })]
    /// What the rules call compatible accepts every record that the old schema accepts.
    #[test]
    fn compatible_schemas_accept_what_the_old_one_did(
        (old, d, spare) in (any_schema(), any_schema(), any_schema()),
        choices in prop::collection::vec(prop_oneof![4 => 0u8..6, 6 => Just(255u8)], 0..30),
        instances in prop::collection::vec(any_instance(), 40),
    ) {
        let with_definition = |schema: Value, d: &Value| match schema {
            Value::Object(mut members) => {
                members.insert("$defs".into(), json!({"d": d}));
                Value::Object(members)
            }
            other => other,
        };
        let mut choices = choices.into_iter();
        let new = with_definition(altered(&old, &mut choices, &spare), &altered(&d, &mut choices, &spare));
        let old = with_definition(old, &d);
        let (Some(new_rules), Some(old_rules)) = (compiled(&new), compiled(&old)) else { return Ok(()) };
        if !compare(&new, &old).unwrap().is_empty() {
            return Ok(());
        }
        for instance in instances {
            // A definition that contains nothing but itself has no meaning.
            prop_assert!(!old_rules.is_valid(&instance) || new_rules.is_valid(&instance), "{old} -> {new} refuses {instance}");
        }
    }
}
