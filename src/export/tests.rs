use super::*;
use crate::ingest::{Chunks, Expected, Given, Input, detect};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{Read, Seek};

fn schema() -> Schema {
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:out", "x-version": "1.0.0",
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "count": {"type": "integer"}, "size": {"type": "number"}, "free": {"type": "boolean"},
            "day": {"type": "string", "format": "date"}, "seen": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"type": "string"}}, "empty": {"type": "string"}
        }
    });
    // In this order, which a map of JSON does not keep.
    let order = ["name", "count", "size", "free", "day", "seen", "tags", "empty"];
    let properties: Vec<String> = order.iter().map(|name| format!("\"{name}\":{}", text["properties"][name])).collect();
    let mut text = text;
    text["properties"] = json!("here");
    let text = text.to_string().replace("\"here\"", &format!("{{{}}}", properties.join(",")));
    Schema::parse(text.as_bytes()).unwrap()
}

const RECORDS: &str = concat!(
    "{\"count\":3,\"day\":\"2024-03-05\",\"free\":true,\"name\":\"=1+1, \\\"甲\\\"\",\"seen\":\"2024-03-05T09:07:00.25Z\",\"size\":1.5,\"tags\":[\"x\",\"y\"]}\n",
    "{\"count\":-9007199254740991,\"free\":false,\"name\":\" <a> & _x0041_ \\u0001\\r\\n\"}\n",
    "{\"day\":\"1899-01-01\",\"name\":\"007\",\"size\":-1e-7}\n",
);

fn written(format: Format, choice: Choice, records: &str) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let origin = vec![("title".to_owned(), "Sample".to_owned())];
    let mut export = Export::begin(format, &schema(), choice, &origin, &mut out)?;
    export.text(records.as_bytes())?;
    export.finish()?;
    Ok(out)
}

/// The records of a file, read as any file is that comes in.
fn read_back(format: Format, bytes: &[u8]) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let spool = |source: &mut dyn Read| {
        let mut file = tempfile::tempfile()?;
        io::copy(source, &mut file)?;
        file.rewind()?;
        Ok(file)
    };
    let schema = schema();
    let name = format!("a.{}", format.name());
    let text = matches!(format, Format::Csv).then_some(',');
    let given = Given { encoding: Some("utf-8".into()), delimiter: text, header: text.map(|_| 1), ..Given::default() };
    let found = detect(&mut file, &name, &given, Expected::Schema(&schema), &spool).unwrap();
    let input = Input::open(file, found.format, &found.reading, &spool).unwrap();
    let (mut chunks, decoder) = Chunks::open(input, &schema, None).unwrap();
    let (mut records, mut tape) = (Vec::new(), Tape::default());
    while let Some(chunk) = chunks.next_chunk().unwrap() {
        decoder.decode(&chunk, &mut |record| {
            assert!(record.wrong.is_empty(), "{:?}", record.wrong);
            tape.parse(record.json.unwrap()).unwrap();
            tape.write_canonical(&mut records);
            records.push(b'\n');
        });
    }
    String::from_utf8(records).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Zip) {
        let choice = Choice { raw: true, ..Choice::default() };
        let found = read_back(format, &written(format, choice, RECORDS).unwrap());
        assert_eq!(found, RECORDS, "{}", format.name());
    }
}

#[test]
fn columns_and_rows_are_chosen() {
    let rows = |text: &str| text.parse::<Rows>();
    let csv = |columns: &[&str], conditions: &str| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice { columns, rows: rows(conditions).unwrap(), ..Choice::default() };
        written(Format::Csv, choice, RECORDS).map(|bytes| String::from_utf8(bytes).unwrap())
    };
    for (conditions, expected) in [
        ("", "size,count\r\n1.5,3\r\n,-9007199254740991\r\n-1e-7,\r\n"),
        ("count>=3", "size,count\r\n1.5,3\r\n"),
        ("count != 3", "size,count\r\n,-9007199254740991\r\n-1e-7,\r\n"),
        ("name=007", "size,count\r\n-1e-7,\r\n"),
        ("name ~ 甲 and free=true", "size,count\r\n1.5,3\r\n"),
        ("name=\"007\" AND size<0", "size,count\r\n-1e-7,\r\n"),
        ("name=\"007\" and size<0", "size,count\r\n-1e-7,\r\n"),
        ("day<2000-01-01", "size,count\r\n-1e-7,\r\n"),
        ("empty=x", "size,count\r\n"),
        ("seen>=2024-03-05T10:07:00.25+01:00 AND seen<2024-03-05T17:07:01+08:00", "size,count\r\n1.5,3\r\n"),
        ("seen>2024-03-05T10:07:00.25+01:00", "size,count\r\n"),
    ] {
        assert_eq!(csv(&["size", "count"], conditions).unwrap(), expected, "{conditions}");
    }
    for conditions in [
        "count",
        "=3",
        "count==",
        "name=\"a",
        "name=\"a\" or x",
        "count=three",
        "nothing=3",
        "count==3",
        "name='a'",
        "count=9007199254740993",
        "seen>2024",
    ] {
        let refused = rows(conditions)
            .map_err(wrong)
            .and_then(|rows| written(Format::Csv, Choice { rows, ..Choice::default() }, RECORDS));
        assert!(refused.is_err(), "{conditions}");
    }
    assert!(csv(&["nothing"], "").unwrap_err().to_string().contains("no property `nothing`; it has name, count"));
}

#[test]
fn texts_are_no_formulas() {
    let csv = |raw, mark| {
        let choice = Choice { columns: vec!["name".into()], raw, mark, ..Choice::default() };
        String::from_utf8(written(Format::Csv, choice, RECORDS).unwrap()).unwrap()
    };
    assert!(csv(false, false).starts_with("name\r\n\"'=1+1, \"\"甲\"\"\"\r\n"));
    assert!(csv(true, true).starts_with("\u{FEFF}name\r\n\"=1+1, "));
    let book = written(Format::Xlsx, Choice::default(), RECORDS).unwrap();
    let mut sheet = String::new();
    let mut archive = zip::ZipArchive::new(io::Cursor::new(book)).unwrap();
    archive.by_name("xl/worksheets/sheet1.xml").unwrap().read_to_string(&mut sheet).unwrap();
    assert!(!sheet.contains("<f>") && sheet.contains("=1+1"), "{sheet}");
    assert!(
        sheet.contains("<c s=\"3\" t=\"inlineStr\"><is><t xml:space=\"preserve\">-9007199254740991</t>"),
        "{sheet}"
    );
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    for (format, record, part) in [
        (Format::Parquet, json!({"count": 1e20}), "record 1: count: `100000000000000000000` is not a 64-bit integer"),
        (Format::Parquet, json!({"seen": "2016-12-31T23:59:60Z"}), "is not an instant"),
        (Format::Xlsx, json!({"name": "x".repeat(32_768)}), "record 1: name: a cell has at most"),
    ] {
        let problem = written(format, Choice::default(), &format!("{record}\n")).unwrap_err().to_string();
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn empty_columns_are_left_out() {
    let mut filled = Filled::default();
    filled.text(RECORDS.as_bytes()).unwrap();
    assert_eq!(filled.columns(&schema()), ["name", "count", "size", "free", "day", "seen", "tags"]);
}

proptest! {
    #[test]
    fn any_text_comes_back(texts in prop::collection::vec("\\PC{1,12}|[=+@\",;\\n_x0-9A-F]{1,12}", 1..5)) {
        let records: Vec<Value> = texts.iter().map(|text| json!({"name": text, "count": 1})).collect();
        let records: String = records.iter().map(|record| format!("{{\"count\":1,\"name\":{}}}\n", record["name"])).collect();
        for format in [Format::Csv, Format::Xlsx, Format::Parquet, Format::Json] {
            let choice = Choice { raw: true, columns: vec!["name".into(), "count".into()], ..Choice::default() };
            let found = read_back(format, &written(format, choice, &records).unwrap());
            prop_assert_eq!(&found, &records, "{}", format.name());
        }
    }

    #[test]
    fn conditions_do_not_panic(text in "[a-z=<>!~\" ]{0,24}|\\PC{0,12}") {
        let _ = text.parse::<Rows>();
    }
}
