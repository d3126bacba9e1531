use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn canonical(text: &str) -> Result<String, String> {
    canonicalize(text.as_bytes()).map(|b| String::from_utf8(b).unwrap()).map_err(|e| e.to_string())
}

#[test]
fn published_vectors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/jcs");
    let Ok(files) = std::fs::read_dir(&folder) else {
        return eprintln!("skipped: vectors not present");
    };
    let mut seen = 0;
    for path in files.map(|f| f.unwrap().path()).filter(|p| p.to_string_lossy().ends_with(".input.json")) {
        let expected = std::fs::read(path.to_string_lossy().replace(".input.", ".output.")).unwrap();
        match canonicalize(&std::fs::read(&path).unwrap()) {
            Ok(found) => assert_eq!(String::from_utf8(found).unwrap(), String::from_utf8(expected).unwrap().trim_end()),
            // This vector rounds 333333333.33333329 on purpose; this parser rejects such numbers.
            Err(error) => assert!(path.ends_with("values.input.json") && error.problem.contains("333333333.33333329")),
        }
        seen += 1;
    }
    assert!(seen >= 6);
}

#[test]
fn numbers() {
    for (text, expected) in [
        ("1.0", "1"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1e2", "100"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("1E400", ""),
        ("1e-400", ""),
        ("12345678901234567890", ""),
        ("9007199254740993", ""),
        ("9007199254740992", "9007199254740992"),
        ("3521418059.923445", "3521418059.923445"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("1.10", "1.1"),
        ("100000000000000000000", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("0e999999999999999999999", "0"),
        ("01", ""),
        ("1.", ""),
        (".5", ""),
        ("+1", ""),
        ("1e", ""),
        ("0x10", ""),
        ("NaN", ""),
        ("Infinity", ""),
        ("-Infinity", ""),
        ("1_0", ""),
    ] {
        match canonical(text) {
            Ok(found) => assert_eq!(found, expected, "{text}"),
            Err(error) => assert_eq!(expected, "", "{text}: {error}"),
        }
    }
}

#[test]
fn refusals_say_what_and_where() {
    for (text, part) in [
        (r#"{"a":1,"b":2,"a":3}"#, "`a` appears twice"),
        (r#"{"a":1,"\u0061":3}"#, "`a` appears twice"),
        (r#"["\ud800"]"#, "surrogate"),
        ("[\"\u{1}\"]", "control character"),
        ("[1,]", "expected a JSON value"),
        ("[1", "expected `,` or `]`"),
        ("", "ends where a value"),
        ("{} {}", "after the end"),
        (r#"{"n":12345678901234567890}"#, "use a schema in which the property is a string"),
        (&("[".repeat(65) + &"]".repeat(65)), "nested deeper"),
    ] {
        let error = canonical(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(canonicalize(b"[\"\xff\"]").unwrap_err().problem.contains("UTF-8"));
}

#[test]
fn names_are_ordered_by_utf16_units() {
    // U+1F600 is D83D DE00 in UTF-16 and so comes before U+FB33.
    assert_eq!(
        canonical("{\"\u{fb33}\":1,\"\u{1f600}\":2,\"a\":3}").unwrap(),
        "{\"a\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}"
    );
}

#[test]
fn shapes_are_only_a_hint() {
    let mut tape = Tape::default();
    for (text, expected) in [
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"z":{"y":1,"x":2},"a":2}"#, r#"{"a":2,"z":{"x":2,"y":1}}"#),
    ] {
        tape.parse(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        tape.write_canonical(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..8)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_another_implementation(value in any_json()) {
        let text = serde_json::to_vec(&value).unwrap();
        let ours = canonicalize(&text).unwrap();
        prop_assert_eq!(&ours, &serde_json_canonicalizer::to_vec(&value).unwrap());
        prop_assert_eq!(canonicalize(&ours).unwrap(), ours);
    }

    /// What a tape remembers of the objects before changes nothing.
    #[test]
    fn a_used_tape_is_as_good_as_a_new_one(objects in prop::collection::vec(prop::collection::vec("[a-c]{1,2}|é|\u{FF5E}|😀", 0..5), 1..30)) {
        let (mut used, mut shapes) = (Tape::default(), std::collections::HashMap::new());
        for names in objects {
            let members: Vec<String> = names.iter().enumerate().map(|(n, name)| format!("\"{name}\":{n}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let found = used.parse(text.as_bytes()).map(|()| {
                let mut out = Vec::new();
                used.write_canonical(&mut out);
                out
            });
            prop_assert_eq!(&found, &canonicalize(text.as_bytes()));
            if let (Ok(_), Some(shape)) = (found, used.shape()) {
                prop_assert_eq!(shapes.entry(shape).or_insert_with(|| names.clone()), &names);
            }
        }
    }

    #[test]
    fn the_tree_of_the_tape_is_the_tree(value in any_json()) {
        let mut tape = Tape::default();
        let canonical = canonicalize(&serde_json::to_vec(&value).unwrap()).unwrap();
        tape.parse(&canonical).unwrap();
        let expected: Value = serde_json::from_slice(&canonical).unwrap();
        prop_assert!(jsonschema::json::cmp::equal(&tape.root().value(), &expected));
    }

    #[test]
    fn never_panics_and_accepts_no_more_than_serde(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'{'), Just(b'['), Just(b'}'), Just(b']'), Just(b','), Just(b':'), Just(b'\\'), Just(b'u'), Just(b'1'), Just(b'e'), Just(b'.'), Just(b'-'), any::<u8>()], 0..40)) {
        if canonicalize(&bytes).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }

    #[test]
    fn a_number_is_kept_or_refused(lexeme in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
        if let Ok(found) = canonical(&lexeme) {
            // Compare exact decimals by scaling both to integers.
            prop_assert_eq!(exact(&found), exact(&lexeme));
        }
    }
}

/// Digits and exponent by string operations that share no code with the implementation under test.
fn exact(lexeme: &str) -> (String, i64) {
    let lower = lexeme.to_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let point = mantissa.find('.').map_or(0, |at| mantissa.len() - at - 1) as i64;
    let mut digits = mantissa.replace('.', "");
    let mut exponent = exponent.trim_start_matches('+').parse::<i64>().unwrap() - point;
    while digits.ends_with('0') && digits.len() > 1 {
        digits.pop();
        exponent += 1;
    }
    let negative = digits.starts_with('-');
    let digits = digits.trim_start_matches('-').trim_start_matches('0').to_owned();
    if digits.is_empty() {
        (String::new(), 0)
    } else {
        (format!("{}{digits}", if negative { "-" } else { "" }), exponent)
    }
}
