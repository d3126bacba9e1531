//! Files of all formats are published, delivered, and are the same data.

use crate::harness::*;
use crate::schemas::at;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Publishes `file`, requests it at the other park, and returns what it received.
async fn through(a: &Park, b: &Park, schema: &str, file: &Path) -> Vec<Value> {
    let terms = a.folder.with_extension("policy");
    std::fs::write(&terms, research().to_string()).unwrap();
    let args = ["publish", text(file), "--schema", schema, "--policy", text(&terms), "--title", "Sample"];
    let published = at(a, "publisher", &args).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let view = b.request(a, dataset_of(&published), "research").await;
    assert_eq!(view["stage"], "verified", "{view}");
    b.data(&view, "ndjson").await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of the source, by a reader of another make.
fn records(source: &Path, names: &[&str]) -> Vec<Value> {
    let mut reader = csv::Reader::from_path(source).unwrap();
    let value = |cell: &str| serde_json::from_str(cell).unwrap_or_else(|_| Value::from(cell));
    let record = |row: csv::StringRecord| {
        let members = names.iter().zip(row.iter()).map(|(name, cell)| ((*name).to_owned(), value(cell)));
        Value::Object(members.collect::<Map<_, _>>())
    };
    reader.records().map(|row| record(row.unwrap())).collect()
}

/// Numbers are equal as numbers.
fn same(found: &[Value], expected: &[Value]) -> bool {
    let equal = |one: &Value, other: &Value| match (one.as_f64(), other.as_f64()) {
        // Spreadsheets and JSON writers keep 15 digits.
        (Some(one), Some(other)) => (one - other).abs() <= other.abs() * 1e-14,
        _ => one == other,
    };
    let record = |(one, other): (&Value, &Value)| {
        let (one, other) = (one.as_object().unwrap(), other.as_object().unwrap());
        one.len() == other.len() && one.iter().all(|(name, value)| equal(value, &other[name]))
    };
    found.len() == expected.len() && found.iter().zip(expected).all(record)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_programs_are_the_same_data() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/economy-gdp.csv");
    if !source.is_file() {
        return println!("skipped: the sample data is not present");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/make.py");
    // An environment of its own may have what the system's has not.
    let python = ["target/contracts/bin/python", "python3"].map(PathBuf::from);
    let made = python.iter().any(|python| {
        let ran = std::process::Command::new(python).args([&script, &source, folder.path()]).output();
        ran.is_ok_and(|ran| ran.status.success())
    });
    if !made {
        println!("skipped: pandas cannot write all formats (pip install pandas pyarrow openpyxl odfpy xlwt)");
    }
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let id = format!("{}/gdp", a.id);
    let inferred = good(&["schema", "infer", text(&source), "--id", &id]);
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, inferred["schema"].to_string()).unwrap();
    at(&a, "publisher", &["schema", "add", text(&schema), "--unfinished"]).await.unwrap();
    let expected = records(&source, &["country_name", "country_code", "year", "value"]);
    assert!(same(&through(&a, &b, &id, &source).await, &expected));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| *file != schema);
    assert!(files.len() == 13 || !made, "{files:?}");
    for file in files {
        if file.ends_with("records.json") {
            // Its members have the names of the columns, which the schema has as titles.
            let inferred = good(&["schema", "infer", text(&file)]);
            assert_eq!(inferred["records"], expected.len());
            continue;
        }
        let found = through(&a, &b, &id, &file).await;
        assert!(same(&found, &expected), "{}: {:?}", file.display(), found.first());
    }
    run_a.stop();
    run_b.stop();
}

/// What the API is told of a file counts; without it, a file is UTF-8 and RFC 4180.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_reads_as_it_is_told() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let token = a.token_of("publisher").await;
    let client = crosspark::net::own_node_client().unwrap();
    let publish = async |reading: Value, format: &str, file: &[u8]| {
        let metadata = json!({
            "title": "Sample", "schema": "urn:crosspark:schema:economic-indicator", "policy": research(),
            "format": format, "reading": reading,
        });
        let file = reqwest::multipart::Part::bytes(file.to_vec());
        let form = reqwest::multipart::Form::new().text("metadata", metadata.to_string()).part("records", file);
        let sent = client.post(format!("{}/v1/datasets", a.management)).bearer_auth(&token).multipart(form);
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let rows = "指标;地区代码;时期;数值\nGDP;CHN;2024;1,5\n";
    let gb18030 = encoding_rs::GB18030.encode(rows).0.into_owned();
    let told = json!({"encoding": "gb18030", "delimiter": ";", "decimal": ","});
    let titles = good(&["schema", "show", "economic-indicator"]);
    assert_eq!(titles["properties"]["value"]["x-zh"]["title"], "数值");
    let (status, published) = publish(told, "csv", &gb18030).await;
    assert_eq!(status, 201, "{published}");
    assert_eq!(published["records"], 1);
    for (reading, format, file, part) in [
        (json!({}), "csv", gb18030.as_slice(), "not UTF-8"),
        (json!({"encoding": "gb18030"}), "csv", &gb18030, "is one column"),
        (json!({"encoding": "klingon"}), "csv", &gb18030, "the encoding `klingon` is unknown"),
        (json!({"delimiter": "x"}), "csv", &gb18030, "is no delimiter"),
        (json!({"packing": "gzip"}), "csv", &gb18030, "damaged"),
        (json!({}), "xlsx", &gb18030, "not a workbook"),
        (json!({"header": 0}), "csv", &gb18030, "one of the lines 1 to"),
    ] {
        let (status, refused) = publish(reading, format, file).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains(part), "{part}: {refused}");
    }
    run.stop();
}

/// What is left out of a file in another dialect, or of a workbook, is a table that is mended and published.
#[tokio::test(flavor = "multi_thread")]
async fn rejects_of_other_files_are_mended() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let terms = a.folder.with_extension("policy");
    std::fs::write(&terms, research().to_string()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("gdp.csv");
    // With the numbers of the rows, as pandas writes them.
    let rows = "园区指标;;;;\n;指标;地区代码;时期;数值\n0;GDP;CHN;2024;1,5\n1;GDP;DEU;二〇二四;2,5\n";
    std::fs::write(&csv, encoding_rs::GB18030.encode(rows).0).unwrap();
    let book = folder.path().join("book.xlsx");
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write(0, 0, "园区指标").unwrap();
    sheet.write_row(1, 0, ["指标", "地区代码", "时期", "数值"]).unwrap();
    for (row, (area, period, value)) in [("CHN", "2024", 1.5), ("DEU", "二〇二四", 2.5)].iter().enumerate() {
        let row = row as u32 + 2;
        sheet.write_row(row, 0, ["GDP", area, period]).unwrap();
        sheet.write(row, 3, *value).unwrap();
    }
    workbook.save(&book).unwrap();
    for file in [csv, book] {
        let schema = "urn:crosspark:schema:economic-indicator";
        let args = async |file: &Path, more: &[&str]| {
            let args = ["publish", text(file), "--schema", schema, "--policy", text(&terms), "--title", "Sample"];
            at(&a, "publisher", &[&args[..], more].concat()).await
        };
        let published = args(&file, &["--skip-invalid"]).await.unwrap();
        assert_eq!(published["records"], 1, "{published}");
        let rejects = file.with_extension("rejects.csv");
        let left_out = std::fs::read_to_string(&rejects).unwrap();
        assert!(left_out.starts_with('\u{FEFF}') && left_out.contains("x-problem"), "{left_out}");
        assert!(left_out.contains("DEU") && left_out.contains("/period: ") && !left_out.contains("CHN"), "{left_out}");
        std::fs::write(&rejects, left_out.replace("二〇二四", "2024")).unwrap();
        let mended = args(&rejects, &[]).await.unwrap();
        assert_eq!(mended["records"], 1, "{mended}");
    }
    run.stop();
}
