//! Files with other columns are mapped, published, delivered, and are the same data.

use crate::harness::*;
use crate::schemas::at;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const FIRMS: &str = "名称,代码,成立日期,营业收入（万元）,省份,产品,高企,Beds\n\
    示例一,A1,2010年5月3日,\"1,234.5\",北京市,传感器、芯片,是,3\n\
    示例二,A2,2011年12月30日,3.2,上海市,,否,4\n\
    合计,,,,,,,\n";

const MAPPING: &str = r#"
schema = "urn:crosspark:schema:enterprise"

[fields]
id = "代码"
name = "名称"
founded = { from = "成立日期", date = { formats = "%Y年%m月%d日", to = "%Y" } }
revenue_cny = { from = "营业收入（万元）", number = { factor = 10000, thousands = "," } }
subdivision = { from = "省份", table = { "北京市" = "CN-BJ", "上海市" = "CN-SH" } }
products = { from = "产品", split = "、" }
high_tech = { from = "高企", table = { "是" = true, "否" = false } }
country = { value = "CN" }
sector = { value = "电子" }
employees = { jq = '.Beds | if . then tonumber * 10 else empty end' }
"#;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn map(command: &str, file: &Path, mapping: &Path) -> (i32, String, String) {
    let args = ["map", command, text(file), "--schema", "enterprise", "--mapping", text(mapping)];
    let ran = crosspark(&args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code().unwrap(), text(ran.stdout), text(ran.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_other_columns_is_published_by_a_mapping() {
    let files = Files::new();
    let (file, mapping) = (files.put("firms.csv", FIRMS), files.put("firms.toml", MAPPING));
    let (code, made, told) = map("run", &file, &mapping);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains(":4: /id: "), "a row of sums has no id: {told}");
    let made: Vec<Value> = made.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = json!({
        "id": "A1", "name": "示例一", "founded": "2010", "revenue_cny": 12_345_000, "subdivision": "CN-BJ",
        "products": ["传感器", "芯片"], "high_tech": true, "country": "CN", "sector": "电子", "employees": 30,
    });
    assert_eq!((made.len(), &made[0]), (2, &expected));
    let (_, shown, _) = map("check", &file, &mapping);
    assert!(shown.contains("revenue_cny: 12345000   ← 营业收入（万元） 1,234.5"), "{shown}");
    assert!(shown.contains("2 of 3 records are valid"), "{shown}");

    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let terms = files.put("policy.json", &research().to_string());
    let publish = [
        "publish",
        text(&file),
        "--schema",
        "urn:crosspark:schema:enterprise",
        "--policy",
        text(&terms),
        "--title",
        "Firms",
        "--mapping",
        text(&mapping),
    ];
    assert!(at(&a, "publisher", &publish).await.is_err(), "nothing is published unless every record is valid");
    let published = at(&a, "publisher", &[&publish[..], &["--skip-invalid"]].concat()).await.unwrap();
    assert_eq!(published["records"], 2);
    let view = b.request(&a, dataset_of(&published), "research").await;
    let received = b.data(&view, "ndjson").await;
    let received: Vec<Value> = received.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(received, made);
    // What was left out can be mended and published by the same mapping.
    let rejects = std::fs::read_to_string(files.folder.path().join("firms.rejects.csv")).unwrap();
    assert!(rejects.starts_with("名称,") && rejects.contains("合计"), "{rejects}");
    run_a.stop();
    run_b.stop();
}

/// Programs that never end, or take all memory or stack, make their record invalid, and nothing else.
#[test]
fn programs_are_bounded() {
    let files = Files::new();
    let file = files.put("firms.csv", "名称,代码\n示例一,1\n示例二,2\n示例三,3\n");
    for (program, part) in [
        ("if .\"代码\" == \"2\" then def f: f; f else \"x\" end", "takes more than 2 seconds"),
        ("if .\"代码\" == \"2\" then [range(1000000000000)] | length | tostring else \"x\" end", "takes more than"),
        ("if .\"代码\" == \"2\" then (\"x\" * 10000000000) else \"x\" end", "takes more than"),
        ("if .\"代码\" == \"2\" then def f: 1 + f; f else \"x\" end", "calls itself too often"),
        ("if .\"代码\" == \"2\" then halt else \"x\" end", "it halts"),
        ("if .\"代码\" == \"2\" then \"a\", \"b\" else \"x\" end", "more than one result"),
        ("if .\"代码\" == \"2\" then error(\"no\") else \"x\" end", "fails: \"no\""),
    ] {
        let mapping = files.put(
            "m.toml",
            &format!("[fields]\nid = \"代码\"\nname = \"名称\"\nsector = \"名称\"\nseat = {{ jq = '{program}' }}\n"),
        );
        let (code, made, told) = map("run", &file, &mapping);
        assert_eq!((code, made.lines().count()), (3, 2), "{program}: {told}");
        assert!(told.contains(":3: /seat: ") && told.contains(part), "{program}: {told}");
    }
    for (program, part) in [
        (".a | nosuch", "there is no nosuch"),
        ("$ENV", "there is no $ENV"),
        (". |", "it ends too early"),
        ("include \"x\"; .", ""),
    ] {
        let mapping = files.put("m.toml", &format!("[fields]\nname = {{ jq = '{program}' }}\n"));
        let (code, _, told) = map("run", &file, &mapping);
        assert!(code == 1 && told.contains(part), "{program}: {code} {told}");
    }
}

/// A suggestion is a file that people complete: it can be used as it is printed.
#[test]
fn a_suggestion_is_a_mapping() {
    let files = Files::new();
    let file = files.put("firms.csv", FIRMS);
    let ran = crosspark(&["map", "suggest", text(&file), "--schema", "enterprise"]);
    let mapping = files.put("m.toml", std::str::from_utf8(&ran.stdout).unwrap());
    let suggested = std::fs::read_to_string(&mapping).unwrap();
    for line in [
        "name = \"名称\"",
        "founded = { from = \"成立日期\", date = { formats = \"%Y年%m月%d日\", to = \"%Y\" } }",
        "factor = \"10000\"",
        "subdivision = { from = \"省份\"",
        "\"北京市\" = \"CN-BJ\"",
        "split = \"、\"",
        "# Columns that are not used: Beds",
    ] {
        assert!(suggested.contains(line), "{line}: {suggested}");
    }
    // It says which field every record needs.
    assert!(suggested.contains("# sector = \"\""), "{suggested}");
    let completed = suggested.replace("# sector = \"\"", "sector = { value = \"电子\" }");
    let mapping = files.put("m.toml", &completed);
    let (_, made, told) = map("run", &file, &mapping);
    assert_eq!(made.lines().count(), 2, "{completed}{told}");
    // Without a mapping, the file does not fit, and the error says what helps.
    let refused = crosspark(&["validate", text(&file), "--schema", "enterprise"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("crosspark map suggest"));
}

/// An empty workbook has an example that is valid as it stands, and so is what people fill in.
#[test]
fn templates_are_filled_in_and_valid() {
    let files = Files::new();
    let listed = good(&["schema", "list"]);
    for schema in listed.as_array().unwrap() {
        let id = schema["id"].as_str().unwrap();
        for (language, example, data) in [("en", "example", "data"), ("zh", "示例", "填写")] {
            let book = files.folder.path().join("t.xlsx");
            good(&["schema", "template", id, "--out", text(&book), "--language", language]);
            let name = id.rsplit(':').next().unwrap();
            let ran = crosspark(&["validate", text(&book), "--schema", name, "--sheet", example]);
            let told = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success() && told.contains("1 record is valid"), "{id} {language}: {told}");
            let empty = crosspark(&["validate", text(&book), "--schema", name]);
            let told = String::from_utf8_lossy(&empty.stderr);
            assert!(told.contains(&format!("`{data}`")) && told.contains("no record"), "{id} {language}: {told}");
        }
    }
}
