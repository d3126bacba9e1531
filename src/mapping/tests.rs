use super::*;
use crate::core::json::{Tape, read_value};
use crate::core::notation::Notation;
use crate::schema::Schema;
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> Schema {
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:flat", "x-version": "1.0.0",
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "note": {"type": "string"},
            "rent": {"type": "number"}, "rooms": {"type": "integer"}, "free": {"type": "boolean"},
            "since": {"type": "string", "format": "date"}, "seen": {"type": "string", "format": "date-time"},
            "state": {"enum": ["let", "free"], "type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "sizes": {"type": "array", "items": {"type": "number"}},
            "at": {"type": "object", "properties": {"town": {"type": "string"}, "floor": {"type": "integer"}}}
        }
    });
    Schema::parse(&serde_json::to_vec(&text).unwrap()).unwrap()
}

/// The record that an object becomes, or what is wrong.
fn mapped(rules: &str, record: &Value, notation: Notation) -> Result<Value, String> {
    let mapping = Mapping::parse(&format!("[fields]\n{rules}")).map_err(|error| error.to_string())?;
    let columns: Option<Vec<String>> = None;
    let plan = Plan::of(&mapping, &schema(), columns.as_deref(), notation).map_err(|error| error.to_string())?;
    let (mut tape, mut out) = (Tape::default(), Vec::new());
    tape.parse(&serde_json::to_vec(record).unwrap()).unwrap();
    let wrong = plan.apply(tape.root(), &["n/a".to_owned()], &[], &mut out);
    match wrong.first() {
        Some(wrong) => Err(format!("{}: {}", wrong.pointer, wrong.reason)),
        None => read_value(&out).map_err(|error| error.to_string()),
    }
}

#[test]
fn values_become_those_of_the_fields() {
    for (rules, record, expected) in [
        (r#"name = "Name""#, json!({"Name": "A"}), json!({"name": "A"})),
        (r#"name = ["Firm", "Name"]"#, json!({"Name": "A"}), json!({"name": "A"})),
        (r#"name = {from = "Name", trim = true}"#, json!({"Name": " A "}), json!({"name": "A"})),
        (r#"name = "Name""#, json!({"Name": " A "}), json!({"name": " A "})),
        (r#"name = "/firm/names/1""#, json!({"firm": {"names": ["A", "B"]}}), json!({"name": "B"})),
        (r#"name = "id""#, json!({"id": 12}), json!({"name": "12"})),
        (r#"name = {value = "CHN"}"#, json!({"Name": "A"}), json!({"name": "CHN"})),
        (r#"rooms = {value = 3}"#, json!({}), json!({"rooms": 3})),
        (
            r#"name = {join = {columns = ["a", "b", "c"], with = ", "}}"#,
            json!({"a": "1", "b": "", "c": "3"}),
            json!({"name": "1, 3"}),
        ),
        (r#"name = {from = "a", missing = ["无"], default = "-"}"#, json!({"a": "无"}), json!({"name": "-"})),
        (r#"rent = "a""#, json!({"a": "n/a"}), json!({})),
        (r#"name = "a""#, json!({"a": "n/a"}), json!({"name": "n/a"})),
        (r#"rent = "a""#, json!({"a": "1,5"}), json!({"rent": 1.5})),
        (r#"rent = "a""#, json!({"a": 2.5}), json!({"rent": 2.5})),
        (r#"rent = {from = "a", number = {factor = 10000}}"#, json!({"a": "3,2"}), json!({"rent": 32000})),
        (r#"rent = {from = "a", number = {factor = 0.01}}"#, json!({"a": 5}), json!({"rent": 0.05})),
        (
            r#"rent = {from = "a", number = {units = {"万" = 10000, "亿" = 1e8, "千万" = 1e7}}}"#,
            json!({"a": "3,2 千万"}),
            json!({"rent": 32000000}),
        ),
        (
            r#"rent = {from = "a", number = {units = {"¥" = 1}, decimal = ".", thousands = ","}}"#,
            json!({"a": "¥1,234.50"}),
            json!({"rent": 1234.5}),
        ),
        (r#"rooms = {from = "a", number = {units = {"%" = "0.01"}}}"#, json!({"a": "300%"}), json!({"rooms": 3})),
        (
            r#"since = {from = "a", date = "%Y年%m月%d日"}"#,
            json!({"a": " 2024年3月5日 "}),
            json!({"since": "2024-03-05"}),
        ),
        (
            r#"since = {from = "a", date = ["%d.%m.%Y", "%Y"]}"#,
            json!({"a": "5.3.2024"}),
            json!({"since": "2024-03-05"}),
        ),
        (
            r#"seen = {from = "a", date = {formats = ["%Y/%m/%d %H:%M"], zone = "+08:00"}}"#,
            json!({"a": "2024/3/5 9:07"}),
            json!({"seen": "2024-03-05T09:07:00+08:00"}),
        ),
        (
            r#"name = {from = "a", date = {formats = "%Y-%m-%d", to = "%Y"}}"#,
            json!({"a": "2024-03-05"}),
            json!({"name": "2024"}),
        ),
        (
            r#"rooms = {from = "a", date = {formats = "%Y-%m-%d", to = "%Y"}}"#,
            json!({"a": "2024-03-05"}),
            json!({"rooms": 2024}),
        ),
        (
            r#"state = {from = "a", table = {"租出" = "let", "空置" = "free"}}"#,
            json!({"a": "空置 "}),
            json!({"state": "free"}),
        ),
        (
            r#"state = {from = "a", table = {"租出" = "let"}, otherwise = "free"}"#,
            json!({"a": "?"}),
            json!({"state": "free"}),
        ),
        (r#"free = {from = "a", table = {"是" = true, "否" = false}}"#, json!({"a": "否"}), json!({"free": false})),
        (r#"free = "a""#, json!({"a": "TRUE"}), json!({"free": true})),
        (r#"tags = {from = "a", split = "、"}"#, json!({"a": "x、 y、、"}), json!({"tags": ["x", "y"]})),
        (r#"tags = {from = "a", split = ",", table = {"a" = "A"}}"#, json!({"a": "a,a"}), json!({"tags": ["A", "A"]})),
        (r#"sizes = {from = "a", split = ";"}"#, json!({"a": "1,5;2"}), json!({"sizes": [1.5, 2]})),
        (r#"tags = "a""#, json!({"a": ["x"]}), json!({"tags": ["x"]})),
        (r#"tags = "a""#, json!({"a": "[\"x\"]"}), json!({"tags": ["x"]})),
        (
            "\"/at/town\" = \"t\"\n\"/at/floor\" = \"f\"",
            json!({"t": "X", "f": "3"}),
            json!({"at": {"town": "X", "floor": 3}}),
        ),
        ("\"/at/town\" = \"t\"\n\"/at/floor\" = \"f\"", json!({}), json!({})),
        (r#"name = "a""#, json!({"a": null, "b": 1}), json!({})),
    ] {
        let notation = Notation { decimal: ',', thousands: None };
        assert_eq!(mapped(rules, &record, notation), Ok(expected), "{rules} {record}");
    }
}

#[test]
fn what_cannot_be_meant_is_told() {
    for (rules, record, part) in [
        (r#"rent = "a""#, json!({"a": "x"}), "/rent: `x` (from a) is not a number"),
        (
            r#"rent = {from = "a", number = {factor = 2}}"#,
            json!({"a": "1234567890123456789012345678901234567890"}),
            "too many digits",
        ),
        (r#"since = {from = "a", date = "%d.%m.%Y"}"#, json!({"a": "31.2.2024"}), "is not a date like %d.%m.%Y"),
        (r#"state = {from = "a", table = {"租出" = "let"}}"#, json!({"a": "?"}), "is not in the table, which has 租出"),
        (r#"free = "a""#, json!({"a": "是"}), "a table in the rule"),
        (r#"tags = "a""#, json!({"a": "x;y"}), "split makes a list"),
        (r#"rant = "a""#, json!({}), "fields.rant: urn:test:flat has no such field; it has at, free, name"),
        (r#"rent = {}"#, json!({}), "state one of from, join, value and jq"),
        (r#"rent = {from = "a", value = 1}"#, json!({}), "state one of"),
        (r#"rent = {form = "a"}"#, json!({}), "unknown field `form`"),
        (r#"rent = 3"#, json!({}), "the name of a column or a rule"),
        (r#"since = {from = "a", date = "YYYY-MM-DD"}"#, json!({}), "has no year"),
        (r#"since = {value = 2024-03-05}"#, json!({}), "in quotes"),
        (r#"rent = {value = 12345678901234567.5}"#, json!({}), "has more than 15 digits"),
        (r#"rent = {value = [1, 9007199254740993]}"#, json!({}), "cannot be kept exactly"),
        (r#"rent = {from = "a", number = {factor = 0.12345678901234567}}"#, json!({}), "needs quotes"),
        (r#"rent = {from = "a", number = {units = {"10" = 2}}}"#, json!({}), "is not a unit"),
        (r#"rent = {from = "a", otherwise = 2}"#, json!({}), "otherwise needs a table"),
        ("at = \"a\"\n\"/at/town\" = \"b\"", json!({}), "already"),
        ("name = \"a\"\n\"/name\" = \"b\"", json!({}), "already"),
        ("", json!({}), "rules for 1 to"),
    ] {
        let found = mapped(rules, &record, Notation::default()).unwrap_err();
        assert!(found.contains(part), "{rules}: {found}");
    }
}

/// A few bytes do not become very many.
#[test]
fn what_is_made_of_a_record_is_bounded() {
    let long = "x,".repeat(500_000);
    let columns = vec!["\"a\""; 60].join(", ");
    for rules in [
        format!("name = {{join = {{columns = [{columns}]}}}}"),
        format!("tags = {{from = \"a\", split = \",\", table = {{x = \"{}\"}}}}", "y".repeat(60_000)),
        "name = \"a\"\nnote = \"a\"\n\"/at/town\" = \"a\"\nstate = \"a\"\nsince = \"a\"\nseen = \"a\"".to_owned(),
    ] {
        let found = mapped(&rules, &json!({"a": long}), Notation::default()).unwrap_err();
        assert!(found.contains("the mapping makes more than 4194304 bytes of one record"), "{found}");
    }
    for (rules, part) in [
        (format!("name = [{}]", vec!["\"a\""; 65].join(", ")), "at most 64 columns"),
        (format!("since = {{from = \"a\", date = [{}]}}", vec!["\"%Y\""; 17].join(", ")), "1 to 16 formats"),
        ("rent = {from = \"a\", number = {thousands = \".\"}}".into(), "state both"),
        ("rent = {from = \"a\", number = {thousands = \"5\"}}".into(), "thousands is a comma"),
        ("rent = {from = \"a\", number = {factor = 0}}".into(), "other than zero"),
        ("rent = {value = 5, number = {factor = 10}}".into(), "nothing else is done"),
        ("rent = {from = \"a\", table = {x = 1}, number = {factor = 10}}".into(), "beside it"),
        ("name = {from = \"a\", number = {factor = 10}}".into(), "fields that hold numbers"),
    ] {
        let found = mapped(&rules, &json!({"a": "1"}), Notation::default()).unwrap_err();
        assert!(found.contains(part), "{rules}: {found}");
    }
}

#[test]
fn columns_are_found_without_regard_to_case() {
    let mapping = Mapping::parse("fields = {name = [\"Firma\", \"NAME\"], rent = \"Rent\"}").unwrap();
    let columns = ["name", "rent", "Rent", "other"].map(str::to_owned);
    let plan = Plan::of(&mapping, &schema(), Some(&columns), Notation::default()).unwrap();
    assert_eq!(plan.unread(), ["rent", "other"]);
    let missing = Plan::of(&mapping, &schema(), Some(&["x".to_owned()]), Notation::default());
    let problem = missing.err().unwrap().to_string();
    assert_eq!(problem, "fields.name: the file has no column `Firma`, `NAME`; it has x");
}

#[test]
fn long_and_odd_names_are_fields() {
    let long = "n".repeat(100);
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:long", "x-version": "1.0.0",
        "type": "object", "properties": {long.as_str(): {"type": "number"}, "a/b~c": {"type": "string"}}
    });
    let schema = Schema::parse(&serde_json::to_vec(&text).unwrap()).unwrap();
    let mapping = Mapping::parse(&format!("[fields]\n{long} = \"x\"\n\"a/b~c\" = \"y\"")).unwrap();
    let plan = Plan::of(&mapping, &schema, None, Notation::default()).unwrap();
    let (mut tape, mut out) = (Tape::default(), Vec::new());
    tape.parse(br#"{"x": "1.5", "y": "z"}"#).unwrap();
    assert!(plan.apply(tape.root(), &[], &[], &mut out).is_empty());
    assert_eq!(read_value(&out).unwrap(), json!({long: 1.5, "a/b~c": "z"}));
}

#[test]
fn a_mapping_has_one_digest_and_one_form() {
    let text = "fields = {name = \"a\", rent = {from = [\"b\"], number = {factor = 10}}}";
    let mapping = Mapping::parse(text).unwrap();
    let json = serde_json::to_string(&mapping).unwrap();
    assert_eq!(json, r#"{"fields":{"name":{"from":["a"]},"rent":{"from":["b"],"number":{"factor":"10"}}}}"#);
    let again: Mapping = serde_json::from_str(&json).unwrap();
    assert_eq!(again, mapping);
    assert_eq!(Mapping::parse(&toml::to_string(&mapping).unwrap()).unwrap().digest(), mapping.digest());
}

proptest! {
    /// Whatever stands in a cell, the record is one JSON object or there is a violation.
    #[test]
    fn cells_do_not_break_out(cell in "\\PC{0,20}|[\\[\\]{}\",:0-9.]{0,12}", rule in 0usize..5) {
        let rules = [
            "name = \"a\"", "rent = \"a\"", "tags = \"a\"", "tags = {from = \"a\", split = \",\"}",
            "rent = {from = \"a\", number = {factor = \"0.001\", units = {\"a\" = 3}}}",
        ];
        if let Ok(value) = mapped(rules[rule], &json!({"a": cell}), Notation::default()) {
            prop_assert!(value.as_object().unwrap().len() <= 1);
        }
    }

    /// A factor changes no digit.
    #[test]
    fn factors_are_exact(number in -1_000_000_000i64..1_000_000_000, shift in 0u32..6) {
        let factor = 10i64.pow(shift);
        let rules = format!("rent = {{from = \"a\", number = {{factor = {factor}}}}}");
        let found = mapped(&rules, &json!({"a": number.to_string()}), Notation::default()).unwrap();
        prop_assert_eq!(found, json!({"rent": number * factor}));
    }
}
