//! Records that are left out, and what is counted of the others.

use super::*;

/// Rejects can be mended and read again: with the reason that stands beside each, and divided once more.
#[test]
fn rejects_are_read_again() {
    use crate::dataset::select::select;
    let schema = &built_in()[2];
    let divided = |text: &[u8], form: Form| {
        let (mut chunks, decoder) = Chunks::open(Input::plain(text, form).unwrap(), schema, None).unwrap();
        let job = Job {
            threads: 2,
            decoder: decoder.as_ref(),
            validator: &schema.validator().unwrap(),
            plan: &Plan::nothing(),
            scratch: &in_memory,
            progress: &AtomicU64::new(0),
        };
        let rejected = select(&job, || chunks.next_chunk()).unwrap().rejected;
        let (mut valid, mut rejects) = (Vec::new(), Vec::new());
        divide(Input::plain(text, form).unwrap(), &rejected, &mut valid, &mut rejects).unwrap();
        (String::from_utf8(valid).unwrap(), String::from_utf8(rejects).unwrap(), rejected.len())
    };
    let csv = "\u{feff}指标,area,period,value,note\r\nGDP,A,2024,1,\"a, \"\"b\"\"\r\nc\"\r\nGDP,B,2024-13,2,\r\n\r\nGDP,A,2024,3,x\r\nGDP,C,2024,y\n";
    let (valid, rejects, count) = divided(csv.as_bytes(), Form::Csv);
    assert_eq!(count, 3);
    assert_eq!(valid, "指标,area,period,value,note\r\nGDP,A,2024,1,\"a, \"\"b\"\"\r\nc\"\r\n");
    assert!(
        rejects.starts_with("\u{feff}指标,area,period,value,note,x-problem\nGDP,B,2024-13,2,,\"/period: "),
        "{rejects}"
    );
    assert!(rejects.contains("GDP,A,2024,3,x,\"line 2 has the same indicator, area, period [x-key]\"\n"), "{rejects}");
    assert!(rejects.contains("GDP,C,2024,y,\"the row has 4 cells, the header has 5 [csv]\"\n"), "{rejects}");
    let mended = rejects.replace("2024-13", "2024-12").replace("GDP,C,2024,y,", "GDP,C,2024,4,,");
    let (valid, none, count) = divided(mended.as_bytes(), Form::Csv);
    assert_eq!((valid.lines().count(), none.lines().count(), count), (4, 1, 0), "{none}");
    let (_, again, count) = divided(rejects.replace("2024-13", "2024-14").as_bytes(), Form::Csv);
    assert!(count == 2 && again.contains("GDP,B,2024-14,2,,\"/period: \"\"2024-14\"\""), "{again}");

    // A column whose name only ends like it is another; a row that is too short keeps all its cells.
    let other = "period,area,value,x-problem,note\n2024,A,1,old,b\n2024,\"B, C\",x\n2024-13,D,1,\"o, ld\",n\n";
    let (_, rejects, _) = divided(other.as_bytes(), Form::Csv);
    assert!(rejects.contains("2024,\"B, C\",x,\"the row has 3 cells") && !rejects.contains("old"), "{rejects}");
    assert!(rejects.contains("2024-13,D,1,\"/period: ") && rejects.ends_with("\",n\n"), "{rejects}");

    let good = r#"{"indicator":"GDP","area":"A","period":"2024","value":1}"#;
    let ndjson = format!("{good}\n{{\"area\":\"B\"}}\n {{\"value\": }}\n[1]\n{{}}\n");
    let (valid, rejects, count) = divided(ndjson.as_bytes(), Form::Ndjson);
    assert_eq!((valid, count), (format!("{good}\n"), 4));
    let lines: Vec<&str> = rejects.lines().collect();
    assert!(lines[0].starts_with(r#"{"x-problem":"/period: "#) && lines[0].ends_with(r#","area":"B"}"#), "{rejects}");
    assert!(lines[1].ends_with(r#"","value": }"#) && lines[2] == "[1]" && lines[3].ends_with("\"}"), "{rejects}");
    let mended = lines[0].replace(r#""area":"B""#, r#""indicator":"GDP","area":"B","period":"2024","value":2"#);
    let (valid, _, count) = divided(format!("{mended}\n{}\n", lines[3]).as_bytes(), Form::Ndjson);
    assert_eq!((valid.lines().count(), count), (1, 1), "{valid}");
    let (_, again, _) = divided(rejects.as_bytes(), Form::Ndjson);
    assert_eq!(again, rejects);
    let spaced = r#"{ "x-problem": "a \" b", "indicator":"GDP","area":"B","period":"2024","value":2}"#;
    assert_eq!(divided(spaced.as_bytes(), Form::Ndjson).2, 0);
    for malformed in
        [r#"{"x-problem":"a""id":1}"#, r#"{"x-problem":"a",}"#, r#"{"x-problem":"a}"#, r#"{"x-problem":1}"#]
    {
        assert_eq!(divided(format!("{good}\n{malformed}").as_bytes(), Form::Ndjson).2, 1, "{malformed}");
    }
}

/// A manifest that states another quality than the records have is found out.
#[test]
fn quality_is_counted_again() {
    let schema = &built_in()[2];
    let line = |n: usize| {
        format!("{{\"area\":\"A{n}\",\"indicator\":\"GDP\",\"period\":\"{}\",\"value\":{n}}}\n", 2000 + n % 20)
    };
    let text: String = (0..3_000).map(line).collect();
    let (sealed, manifest) = seal(text.as_bytes(), Form::Ndjson, schema).unwrap();
    let of = |name: &str| manifest.quality.fields.iter().find(|field| field.field == name).unwrap();
    assert_eq!(
        (of("period").distinct, &of("period").min, &of("period").max),
        (20, &Some("2000".into()), &Some("2019".into()))
    );
    assert_eq!((of("value").present, of("value").estimated, &of("value").max), (3_000, true, &Some(2_999.into())));
    assert_eq!((of("note").present, of("note").distinct), (0, 0));
    assert!(open(&sealed, &manifest, schema).is_ok());
    for change in [
        |quality: &mut Quality| quality.fields[0].present = 2_999,
        |quality: &mut Quality| quality.fields[3].distinct = 21,
        |quality: &mut Quality| quality.fields[4].max = Some(3_000.into()),
        |quality: &mut Quality| quality.fields[4].distinct = 2_000,
        |quality: &mut Quality| quality.fields[1].field = "else".into(),
    ] {
        let mut lie = manifest.clone();
        change(&mut lie.quality);
        let error = open(&sealed, &lie, schema).unwrap_err().to_string();
        assert!(error.contains("the manifest states the quality"), "{error}");
    }
    let mut less = manifest.clone();
    less.quality.fields.truncate(2);
    less.quality.fields.iter_mut().for_each(|field| (field.min, field.max) = (None, None));
    assert!(open(&sealed, &less, schema).is_ok(), "who states less is not wrong");
}
