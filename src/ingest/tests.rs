use super::*;
use crate::core::id::{DatasetId, ParticipantId};
use crate::dataset::assemble::{AssembleError, Assembled, Job, assemble};
use crate::dataset::container::DataKey;
use crate::dataset::manifest::{ALGORITHM, Container, Manifest, Provenance, SEGMENT_BYTES, SchemaRef, TextRef};
use crate::dataset::open::{OpenError, Package, Stop, Verification};
use crate::dataset::quality::{Detail, Plan, Quality};
use crate::dataset::report::Rejection;
use crate::dataset::unique::in_memory;
use crate::schema::{Schema, built_in};
use proptest::prelude::*;
use std::io::Cursor;
use std::sync::atomic::AtomicU64;

fn key() -> DataKey {
    DataKey::from_bytes([3; 32])
}

fn manifest(schema: &Schema, assembled: &Assembled) -> Manifest {
    Manifest {
        publisher: ParticipantId::parse("did:web:a.example").unwrap(),
        dataset: DatasetId::parse("urn:uuid:1").unwrap(),
        version: 1,
        schema: SchemaRef { id: schema.id().into(), version: schema.version().into(), digest: schema.digest() },
        records: assembled.records,
        container: Container {
            algorithm: ALGORITHM.into(),
            segment: SEGMENT_BYTES,
            size: assembled.size,
            digest: assembled.digest,
        },
        text: TextRef { size: assembled.text_size, digest: assembled.text_digest, frames: assembled.frames },
        provenance: Provenance {
            source: assembled.text_digest,
            format: "csv".into(),
            mapping: None,
            tool: "test".into(),
        },
        policy: schema.digest(),
        published: crate::core::time::Timestamp::from_ms(0),
        quality: Quality { skipped: 0, fields: assembled.quality.clone() },
        changes: None,
        files: assembled.files,
    }
}

/// Indicators as they were at first.
fn indicators() -> Schema {
    built_in().pop().unwrap()
}

fn seal(text: &[u8], form: Form, schema: &Schema) -> Result<(Vec<u8>, Manifest), AssembleError> {
    let opened = Input::plain(Cursor::new(text.to_vec()), form).and_then(|input| Chunks::open(input, schema, None));
    let (mut chunks, decoder) = opened.map_err(AssembleError::Source)?;
    let draft = manifest(
        schema,
        &Assembled {
            records: 0,
            text_size: 0,
            text_digest: crate::core::digest::KeyedHasher::new(&[0; 32], "").finish(),
            quality: Vec::new(),
            frames: 0,
            digest: schema.digest(),
            size: 0,
            files: None,
        },
    );
    let job = Job {
        threads: 2,
        decoder: decoder.as_ref(),
        validator: &schema.validator().unwrap(),
        plan: &Plan::of(schema, Detail::Bounds),
        scratch: &in_memory,
        progress: &AtomicU64::new(0),
    };
    let assembly = assemble(&job, &key(), &draft.associated_data(), || chunks.next_chunk(), Vec::new())?;
    let (sealed, assembled) = assembly.finish()?;
    let manifest = manifest(schema, &assembled);
    Ok((sealed, manifest))
}

fn open(sealed: &[u8], manifest: &Manifest, schema: &Schema) -> Result<String, OpenError> {
    let open = || Package::open(Cursor::new(sealed.to_vec()), &key(), manifest);
    let plan = Plan::of(schema, Detail::Bounds);
    let (key, validator) = (key(), schema.validator().unwrap());
    let (key, validator, plan, stop) = (&key, &validator, &plan, &Stop::default());
    open()?.verify(&Verification { threads: 2, key, manifest, validator, plan, scratch: &in_memory, stop })?;
    let mut text = Vec::new();
    open()?.read(|frame| {
        text.extend_from_slice(frame);
        Ok(())
    })?;
    Ok(String::from_utf8(text).unwrap())
}

fn rejection(text: &[u8], form: Form) -> Rejection {
    match seal(text, form, &indicators()) {
        Err(AssembleError::Invalid(rejection)) => rejection,
        other => panic!("{:?}", other.map(|(_, m)| m)),
    }
}

#[test]
fn csv_becomes_typed_canonical_records() {
    let schema = &indicators();
    let csv = "\u{feff}period,area,value,note,estimated\r\n2024,CHN,1.50,\"a \"\"quoted\"\",\r\nnote\",true\r\n\r\n2023,DEU,-7,,\r\n";
    let (sealed, manifest) = seal(csv.as_bytes(), Form::Csv, schema).unwrap();
    let expected = "{\"area\":\"CHN\",\"estimated\":true,\"note\":\"a \\\"quoted\\\",\\r\\nnote\",\"period\":\"2024\",\"value\":1.5}\n{\"area\":\"DEU\",\"period\":\"2023\",\"value\":-7}\n";
    assert_eq!(open(&sealed, &manifest, schema).unwrap(), expected);
    assert_eq!((manifest.records, manifest.text.frames), (2, 1));
}

#[test]
fn invalid_records_are_reported_with_line_pointer_and_rule() {
    for (text, format, line, pointer, rule, part) in [
        (
            "{\"area\":\"C\",\"period\":\"2024\",\"value\":1}\n\n{\"area\":\"C\",\"period\":\"2024\",\"value\":\"x\"}",
            Form::Ndjson,
            3,
            "/value",
            "type",
            "number",
        ),
        ("{\"area\":\"C\",\"area\":\"D\"}", Form::Ndjson, 1, "", "json", "appears twice"),
        ("[1]", Form::Ndjson, 1, "", "json", "object"),
        ("{\"area\":\"C\",\"period\":\"2024\",\"value\":NaN}", Form::Ndjson, 1, "/value", "json", "NaN"),
        (
            "{\"area\":\"C\",\"period\":\"2024\",\"value\":12345678901234567890}",
            Form::Ndjson,
            1,
            "/value",
            "json",
            "a schema in which the property is a string",
        ),
        ("area,period,value\nC,2024,1\nC,2024\n", Form::Csv, 3, "", "csv", "2 cells, the header has 3"),
        ("area,period,value\n\n\"C\nD\",2024,1\nC,2024,007\n", Form::Csv, 5, "/value", "type", "007"),
        ("area,period,value\nC,2024,\"1,000\"\n", Form::Csv, 2, "/value", "type", "thousands"),
        ("area,period,value\nC,2024,\n", Form::Csv, 2, "/value", "required", "value"),
        ("area,period,value,estimated\nC,2024,1,yes\n", Form::Csv, 2, "/estimated", "type", "neither"),
    ] {
        let found = rejection(text.as_bytes(), format);
        let first = &found.first[0];
        assert_eq!(
            (first.line, first.violation.pointer.as_str(), first.violation.rule.as_str()),
            (line, pointer, rule),
            "{text}: {first:?}"
        );
        assert!(first.violation.reason.contains(part), "{first:?}");
    }
    let latin1 = rejection(b"area,period,value\n\xe4,2024,1\n", Form::Csv);
    assert!(latin1.first[0].violation.reason.contains("UTF-8"));
}

#[test]
fn what_is_no_such_file_is_an_error() {
    for (text, format, part) in [
        ("", Form::Ndjson, "no record"),
        ("\n \n", Form::Ndjson, "no record"),
        ("", Form::Csv, "has no header"),
        ("area,period,value\n", Form::Csv, "no record"),
        ("area,Periode,value\nC,2024,1\n", Form::Csv, "`Periode` is neither a property"),
        ("area,area,value\nC,2024,1\n", Form::Csv, "appears twice"),
        ("area,period,value\nC,2024,\"1\n", Form::Csv, "line 2: the quote that begins a cell here is never closed"),
        ("area,period,value\nC\"x,2024,1\n", Form::Csv, "line 2: a quote inside"),
        ("area,period,value\n\"C\"x,2024,1\n", Form::Csv, "line 2: text after"),
        ("PK\x03\x04...", Form::Csv, "an Office document (xlsx, ods), not text"),
        ("%PDF-1.7", Form::Ndjson, "a PDF"),
    ] {
        let error = seal(text.as_bytes(), format, &indicators()).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let huge = format!("{{\"area\":\"{}\"}}\n", "x".repeat(6 << 20));
    assert!(seal(huge.as_bytes(), Form::Ndjson, &indicators()).unwrap_err().to_string().contains("longer than"));
}

/// Lists and objects in cells: what was exported can be published again, in the order in which the schema was written.
#[test]
fn lists_in_cells() {
    let schema = br#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:lists",
        "x-version": "1.0.0", "type": "object", "additionalProperties": false, "properties": {
            "name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}},
            "age": {"type": "integer"}, "at": {"type": "object"}}}"#;
    let schema = Schema::parse(schema).unwrap();
    let text =
        "{\"age\":3,\"at\":{\"x\":[1,2]},\"name\":\"a\",\"tags\":[\"p,q\",\"r\\\"\"]}\n{\"name\":\"b\",\"tags\":[]}\n";
    // As an export writes it.
    let csv = b"name,tags,age,at\r\na,\"[\"\"p,q\"\",\"\"r\\\"\"\"\"]\",3,\"{\"\"x\"\":[1,2]}\"\r\nb,[],,\r\n";
    let (sealed, manifest) = seal(csv, Form::Csv, &schema).unwrap();
    assert_eq!(open(&sealed, &manifest, &schema).unwrap(), text);
    for (cell, part) in [
        ("a;b", "neither a list nor an object"),
        ("\"[1,]\"", "not valid JSON"),
        ("\"[1],\"\"age\"\":[2]\"", "not valid JSON"),
        ("\"[1]}{[2]\"", "not valid JSON"),
    ] {
        match seal(format!("name,tags\nx,{cell}\n").as_bytes(), Form::Csv, &schema) {
            Err(AssembleError::Invalid(found)) => {
                assert!(found.first[0].violation.reason.contains(part), "{cell}: {found:?}");
            }
            other => panic!("{cell}: {:?}", other.map(|(_, manifest)| manifest)),
        }
    }
}

#[test]
fn only_the_first_hundred_are_described_and_all_are_counted() {
    let bad = "{\"area\":\"C\",\"period\":\"2024\"}\n".repeat(50_000);
    let found = rejection(bad.as_bytes(), Form::Ndjson);
    assert_eq!((found.records, found.invalid, found.first.len()), (50_000, 50_000, 100));
    assert!(found.first.iter().enumerate().all(|(i, invalid)| invalid.line == i as u64 + 1));
}

#[test]
fn many_frames_and_a_manifest_that_lies() {
    let schema = &indicators();
    let text: String = (0..60_000)
        .map(|i| {
            format!("{{\"area\":\"A{i}\",\"note\":\"{}\",\"period\":\"2024\",\"value\":{i}}}\n", "n".repeat(i % 90))
        })
        .collect();
    let (sealed, manifest) = seal(text.as_bytes(), Form::Ndjson, schema).unwrap();
    assert!(manifest.text.frames > 3);
    assert_eq!(open(&sealed, &manifest, schema).unwrap(), text);
    type Lie = (&'static str, fn(&mut Manifest));
    let lies: [Lie; 6] = [
        ("records", |m| m.records += 1),
        ("frames", |m| m.text.frames += 1),
        ("bytes of text", |m| m.text.size += 1),
        ("keyed digest", |m| m.text.digest = crate::core::digest::KeyedHasher::new(&[0; 32], "").finish()),
        ("does not open", |m| m.version += 1),
        ("the seal", |m| m.container.segment += 1),
    ];
    for (part, lie) in lies {
        let mut altered = manifest.clone();
        lie(&mut altered);
        let error = open(&sealed, &altered, schema).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn real_files_survive_unchanged() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let Ok(gdp) = std::fs::read_to_string(folder.join("economy-gdp.csv")) else {
        return eprintln!("skipped: data not present");
    };
    let schema = &indicators();
    let renamed = gdp.replacen("Country Name,Country Code,Year,Value", "area_name,area,period,value", 1);
    let (sealed, manifest) = seal(renamed.as_bytes(), Form::Csv, schema).unwrap();
    let text = open(&sealed, &manifest, schema).unwrap();
    let mut source = ::csv::Reader::from_reader(gdp.as_bytes());
    let mut count = 0;
    for (row, line) in source.records().zip(text.lines()) {
        let (row, record): (_, serde_json::Value) = (row.unwrap(), serde_json::from_str(line).unwrap());
        assert_eq!(
            (&row[0], &row[1], &row[2]),
            (
                record["area_name"].as_str().unwrap(),
                record["area"].as_str().unwrap(),
                record["period"].as_str().unwrap()
            )
        );
        assert_eq!(row[3].parse::<f64>().unwrap(), record["value"].as_f64().unwrap());
        count += 1;
    }
    assert_eq!((count, text.lines().count()), (manifest.records as usize, manifest.records as usize));
}

proptest! {
    #[test]
    fn any_table_survives_csv(rows in prop::collection::vec(("[^\u{0}]{1,12}", "[a-z\",\r\n é数]{0,20}", any::<i32>()), 1..30)) {
        let schema = &indicators();
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(["area", "period", "note", "value"]).unwrap();
        for (area, note, value) in &rows {
            writer.write_record([area.as_str(), "2024", note, &value.to_string()]).unwrap();
        }
        let (sealed, manifest) = seal(&writer.into_inner().unwrap(), Form::Csv, schema).unwrap();
        let text = open(&sealed, &manifest, schema).unwrap();
        for ((area, note, value), line) in rows.iter().zip(text.lines()) {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(record["area"].as_str().unwrap(), area);
            prop_assert_eq!(record["note"].as_str().unwrap_or_default(), note);
            prop_assert_eq!(record["value"].as_i64().unwrap(), i64::from(*value));
        }
        prop_assert_eq!(text.lines().count(), rows.len());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..100)) {
        let mut csv = b"area,period,value\n".to_vec();
        csv.extend(&bytes);
        let _ = seal(&csv, Form::Csv, &indicators());
        let _ = seal(&bytes, Form::Ndjson, &indicators());
    }
}

#[test]
fn a_verification_stops_when_told_and_at_the_stated_size() {
    let schema = &indicators();
    let line = "{\"area\":\"CHN\",\"period\":\"2024\",\"value\":1}\n";
    let (sealed, manifest) = seal(line.repeat(100_000).as_bytes(), Form::Ndjson, schema).unwrap();
    let verify = |manifest: &Manifest, stop: &Stop| {
        let package = Package::open(Cursor::new(sealed.clone()), &key(), manifest).unwrap();
        let (key, validator) = (&key(), &schema.validator().unwrap());
        let plan = &Plan::of(schema, Detail::Bounds);
        package.verify(&Verification { threads: 2, key, manifest, validator, plan, scratch: &in_memory, stop })
    };
    verify(&manifest, &Stop::default()).unwrap();
    let stop = Stop::default();
    stop.stop();
    assert!(matches!(verify(&manifest, &stop), Err(OpenError::Stopped)));
    let mut less = manifest;
    less.text.size = 10;
    // The first frames of text are enough to know it.
    match verify(&less, &Stop::default()) {
        Err(OpenError::Contradiction { what: "bytes of text", found, .. }) => {
            assert!(found.parse::<usize>().unwrap() < line.len() * 100_000, "{found}");
        }
        other => panic!("{other:?}"),
    }
}

/// A record whose key an earlier one has is a violation: at the publisher, and at a consumer whose publisher did not look.
#[test]
fn a_key_stands_once() {
    let schema = &built_in()[2];
    let line = |area: &str| format!("{{\"area\":\"{area}\",\"indicator\":\"GDP\",\"period\":\"2024\",\"value\":1}}\n");
    let text = [line("A"), line("B"), line("A"), line("C"), line("B"), line("A")].concat();
    match seal(text.as_bytes(), Form::Ndjson, schema) {
        Err(AssembleError::Invalid(Rejection { records: 6, invalid: 3, first, .. })) => {
            let found: Vec<_> = first.iter().map(|one| (one.line, one.violation.reason.as_str())).collect();
            let same = |line: u64| format!("line {line} has the same indicator, area, period");
            assert_eq!(found, [(3, same(1).as_str()), (5, same(2).as_str()), (6, same(1).as_str())]);
            assert!(first.iter().all(|one| one.violation.rule == "x-key" && one.violation.pointer.is_empty()));
        }
        other => panic!("{other:?}"),
    }
    let mut without_key = schema.value().clone();
    without_key.as_object_mut().unwrap().remove("x-key");
    let without_key = Schema::parse(&serde_json::to_vec(&without_key).unwrap()).unwrap();
    let (sealed, manifest) = seal(text.as_bytes(), Form::Ndjson, &without_key).unwrap();
    assert!(open(&sealed, &manifest, &without_key).is_ok());
    match open(&sealed, &manifest, schema) {
        Err(OpenError::Record { number: 3, rule, reason, .. }) => {
            assert_eq!((rule.as_str(), reason.as_str()), ("x-key", "record 1 has the same indicator, area, period"));
        }
        other => panic!("{other:?}"),
    }
}

/// A column may have the property's title, in English or Chinese, as its header.
#[test]
fn columns_are_named_by_titles() {
    let schema = &built_in()[2];
    let csv = "指标,Area,时期,value\nGDP,CHN,2024,1.5\n";
    let (sealed, manifest) = seal(csv.as_bytes(), Form::Csv, schema).unwrap();
    let expected = "{\"area\":\"CHN\",\"indicator\":\"GDP\",\"period\":\"2024\",\"value\":1.5}\n";
    assert_eq!(open(&sealed, &manifest, schema).unwrap(), expected);
    for (header, said) in [
        ("指标,Indicator", "`Indicator` (it is `indicator`) appears twice"),
        ("指标,指标", "`指标` (it is `indicator`) appears twice"),
        ("指数", "neither a property of urn:crosspark:schema:economic-indicator nor the title of one"),
    ] {
        let error = seal(format!("{header}\na,b\n").as_bytes(), Form::Csv, schema).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A field that holds binary doubles takes what other programs write for them; all other numbers are exact decimals.
#[test]
fn doubles_are_taken_where_the_schema_says() {
    let schema = |format: &str| {
        let text = format!(
            r#"{{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"urn:test:x","x-version":"1.0.0",
                "properties":{{"x":{{"type":"number"{format}}},"n":{{"type":"number"}}}}}}"#
        );
        Schema::parse(text.as_bytes()).unwrap()
    };
    let (exact, double) = (schema(""), schema(r#","format":"double""#));
    // As C's "%.17g" writes 40300.61996 and 0.1.
    for (lexeme, kept) in [("40300.619960000004", "40300.61996"), ("0.10000000000000001", "0.1"), ("1.50", "1.5")] {
        let csv = format!("x\n{lexeme}\n");
        let (sealed, manifest) = seal(csv.as_bytes(), Form::Csv, &double).unwrap();
        assert_eq!(open(&sealed, &manifest, &double).unwrap(), format!("{{\"x\":{kept}}}\n"));
        assert_eq!(seal(csv.as_bytes(), Form::Csv, &exact).is_ok(), lexeme == "1.50");
    }
    for text in [r#"{"n":0.10000000000000001}"#, r#"{"o":{"x":0.10000000000000001}}"#, r#"{"x":1e999}"#] {
        assert!(seal(text.as_bytes(), Form::Ndjson, &double).is_err(), "{text}");
    }
    assert!(seal(br#"{"x":[0.10000000000000001]}"#, Form::Ndjson, &double).is_err());
}

proptest! {
    /// A schema that is inferred from a table accepts the table.
    #[test]
    fn a_table_is_valid_under_its_schema(
        headers in prop::collection::btree_set(prop::sample::select(vec![
            "id", "Value", "value", "企业名称", "enterprise", "Country Name", "country_name", "面积（平方米）", "a,b", "备注 ", "2019",
        ]), 1..6),
        rows in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            "", "1", "1.0", "-3", "0.10000000000000001", "12345678901234567890", "007", "1e3", "true", "false", "TRUE",
            "[1,2]", "{\"a\":1}", "2024-01-31", "2024", "CN", " ", "a \"b\"", "甲", "\u{202e}x", "1e999", "http://a b",
        ]), 6), 1..20),
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let line = |cells: &mut dyn Iterator<Item = &str>| cells.map(quoted).collect::<Vec<_>>().join(",") + "\n";
        let mut csv = line(&mut headers.iter().copied());
        for row in &rows {
            csv += &line(&mut row.iter().copied().take(headers.len()));
        }
        if rows.iter().all(|row| row[..headers.len()].iter().all(|cell| cell.trim().is_empty())) {
            return Ok(());
        }
        let proposal = Input::plain(csv.as_bytes(), Form::Csv).and_then(sketch).unwrap().proposal("urn:test:x", "X");
        let schema = Schema::parse(proposal.text.as_bytes());
        prop_assert!(schema.is_ok(), "{:?} {}", schema.err(), proposal.text);
        let sealed = seal(csv.as_bytes(), Form::Csv, &schema.unwrap());
        prop_assert!(sealed.is_ok(), "{:?}\n{csv}\n{}", sealed.err(), proposal.text);
    }
}

mod arrow;
mod files;
mod rejects;

proptest! {
    /// Two versions are compared as by a map.
    #[test]
    fn changes_are_those_of_a_map(before in prop::collection::btree_map(0u8..30, 0u8..3, 1..25), after in prop::collection::btree_map(0u8..30, 0u8..3, 1..25)) {
        use crate::dataset::{changes::Changes, compare::compare};
        let schema = Schema::parse(br#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:keyed",
            "x-version": "1.0.0", "type": "object", "properties": {"id": {"type": "integer"}, "v": {"type": "integer"}}}"#).unwrap();
        let sealed = |records: &std::collections::BTreeMap<u8, u8>| {
            let text: String = records.iter().map(|(id, v)| format!("{{\"id\":{id},\"v\":{v}}}\n")).collect();
            let (sealed, manifest) = seal(text.as_bytes(), Form::Ndjson, &schema).unwrap();
            Package::open(Cursor::new(sealed), &key(), &manifest).unwrap()
        };
        let found = compare((4, &mut sealed(&before)), &mut sealed(&after), &["id".into()], &in_memory).unwrap();
        let count = |test: &dyn Fn(&u8, &u8) -> bool, of: &std::collections::BTreeMap<u8, u8>| of.iter().filter(|(id, v)| test(id, v)).count() as u64;
        prop_assert_eq!(found, Changes {
            since: 4,
            added: count(&|id, _| !before.contains_key(id), &after),
            removed: count(&|id, _| !after.contains_key(id), &before),
            changed: count(&|id, v| before.get(id).is_some_and(|old| old != v), &after),
        });
    }
}
