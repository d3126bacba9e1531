//! Datasets of files: each is described by a record, sealed, delivered and verified with it.

use crate::harness::*;
use crate::schemas::at;
use crate::sources::configure;
use reqwest::multipart::{Form, Part};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

pub const SCHEMA: &str = "urn:crosspark:schema:document";

pub fn record(path: &str, bytes: &[u8]) -> String {
    let digest = format!("sha256:{}", hex::encode(digest(&SHA256, bytes)));
    json!({"path": path, "size": bytes.len(), "digest": digest}).to_string() + "\n"
}

fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Bytes that do not repeat.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(size).collect()
}

async fn publish(park: &Park, folder: &Path, more: &[&str]) -> Result<Value, String> {
    let policy = park.folder.with_extension("policy");
    fs::write(&policy, research().to_string()).unwrap();
    let args = ["publish", text(folder), "--schema", SCHEMA, "--policy", text(&policy), "--title", "Drawings"];
    at(park, "publisher", &[&args[..], more].concat()).await
}

/// Publishes by the API itself: records, then parts of which the node knows nothing.
pub async fn send(park: &Park, schema: &str, records: &str, parts: &[(&'static str, &[u8])]) -> (u16, Value) {
    send_once(park, schema, records, parts, None).await
}

async fn send_once(
    park: &Park,
    schema: &str,
    records: &str,
    parts: &[(&'static str, &[u8])],
    key: Option<&str>,
) -> (u16, Value) {
    let metadata = json!({"title": "Sent", "schema": schema, "policy": research(), "format": "ndjson"});
    let mut form = Form::new().text("metadata", metadata.to_string()).text("records", records.to_owned());
    for (name, bytes) in parts {
        form = form.part(*name, Part::bytes(bytes.to_vec()).file_name("any"));
    }
    let mut request = anonymous().post(format!("{}/v1/datasets", park.management)).multipart(form);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = request.bearer_auth(park.token_of("publisher").await).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The files of an archive and their contents, without the workbook.
fn unpacked(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    let files = (0..zip.len()).map(|n| {
        let mut file = zip.by_index(n).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (file.name().unwrap().into_owned(), bytes)
    });
    files.filter(|(name, _)| name != "records.xlsx").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_delivered_with_their_records() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["files-a", "files-b"]);
    let (run_a, run_b) = (a.start().await, b.start().await);
    let folder = a.folder.with_extension("drawings");
    let large = noise((5 << 19) + 1);
    let mut files =
        [("empty.txt", vec![]), ("halls/1.pdf", noise(70_000)), ("model.glb", large), ("图纸/一层.dwg", noise(9))];
    for (path, bytes) in &files {
        write(&folder, path, bytes);
    }
    write(&folder, ".hidden", b"x");
    let table = a.folder.with_extension("csv");
    fs::write(&table, "路径,名称,类型,语言\n图纸/一层.dwg,一层平面图,drawing,zh\nhalls/1.pdf,Hall 1,drawing,en\n")
        .unwrap();
    let published = publish(&a, &folder, &["--records", text(&table)]).await.unwrap();
    let size: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((&published["records"], &published["fileBytes"]), (&json!(4), &json!(size)));
    let dataset = dataset_of(&published).to_owned();

    let end = b.request(&a, &dataset, "research").await;
    assert_eq!(end["stage"], "verified", "{end}");
    let id = end["id"].as_str().unwrap().to_owned();
    let fetch = async |request: &str, name: &str, more: &[&str]| {
        let out = b.folder.with_extension(name);
        at(&b, "requester", &[&["fetch", request, "--out", text(&out)], more].concat()).await.map(|_| out)
    };
    let expected = |files: &[(&str, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
        files.iter().map(|(path, bytes)| (format!("files/{path}"), bytes.clone())).collect()
    };
    assert!(unpacked(&fetch(&id, "zip", &[]).await.unwrap()) == expected(&files));
    let some = fetch(&id, "some.zip", &["--where", "kind=drawing", "--columns", "path,title"]).await.unwrap();
    assert!(unpacked(&some) == expected(&[files[1].clone(), files[3].clone()]));
    let one = fetch(&id, "one.zip", &["--offset", "2", "--limit", "1"]).await.unwrap();
    assert!(unpacked(&one) == expected(&files[2..3]));
    // By the id of the dataset, too.
    assert!(unpacked(&fetch(&dataset, "newest.zip", &[]).await.unwrap()) == expected(&files));
    assert!(fetch("urn:uuid:00000000-0000-0000-0000-000000000000", "no.zip", &[]).await.unwrap_err().contains("404"));
    let records = b.data(&end, "ndjson").await;
    let last: Value = serde_json::from_str(records.lines().last().unwrap()).unwrap();
    assert_eq!((&last["title"], &last["media_type"]), (&json!("一层平面图"), &json!("image/vnd.dwg")));
    assert!(last["modified"].is_null(), "{last}");

    // The same again is nothing new; a file that changed is.
    assert_eq!(
        publish(&a, &folder, &["--records", text(&table), "--dataset", &dataset]).await.unwrap()["unchanged"],
        true
    );
    files[0].1 = b"no longer empty".to_vec();
    write(&folder, files[0].0, &files[0].1);
    let next = publish(&a, &folder, &["--records", text(&table), "--dataset", &dataset]).await.unwrap();
    assert_eq!(next["changes"], json!({"since": 1, "added": 0, "removed": 0, "changed": 1}));
    let end = b.request(&a, &dataset, "research").await;
    assert_eq!(end["version"], 2, "{end}");
    assert!(unpacked(&fetch(end["id"].as_str().unwrap(), "2.zip", &[]).await.unwrap()) == expected(&files));
    // A program reads them, too.
    let out = b.folder.with_extension("read");
    let script =
        "import crosspark, sys\nprint(len(crosspark.Node().files(sys.argv[1], sys.argv[2], where='kind=drawing')))";
    let token = b.token_of("requester").await;
    let ran = Command::new("python3")
        .args(["-c", script, &dataset, text(&out)])
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python"))
        .envs([("CROSSPARK_NODE", &b.management), ("CROSSPARK_TOKEN", &token)])
        .output();
    let read = usize::from(ran.is_ok());
    match ran {
        Ok(ran) => {
            assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "2", "{}", String::from_utf8_lossy(&ran.stderr));
            assert!([1, 3].iter().all(|n: &usize| fs::read(out.join(files[*n].0)).unwrap() == files[*n].1));
        }
        Err(_) => eprintln!("skipped: python3 is not installed"),
    }
    // Each reading is in the log, and both logs agree.
    let opened = b.entries().await.iter().filter(|row| row["entry"]["kind"] == "dataset.opened").count();
    assert_eq!(opened, 6 + read);
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
    for (own, others) in [(&a, &[&b][..]), (&b, &[])] {
        let (code, report) = own.verify(others);
        assert_eq!(code, 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_what_the_records_state_are_not_published() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["files-refused"]);
    let exports = a.folder.with_extension("exports");
    fs::create_dir_all(&exports).unwrap();
    configure(&a, &format!("[connections.exports]\nkind = \"folder\"\npath = {exports:?}\n"));
    let run = a.start().await;
    let (one, two): (&[u8], &[u8]) = (b"one", b"second");
    let records = record("a", one) + &record("b/c", two);
    let files = [("files", one), ("files", two)];
    let indicators = "urn:crosspark:schema:economic-indicator";
    let (large, dense) = (noise(3 << 20), vec![0; 80 << 20]);
    for (schema, records, parts, said) in [
        (SCHEMA, records.clone(), &files[..1], "the content of `b/c` is missing"),
        (SCHEMA, records.clone(), &[], "the content of `a` is missing"),
        (SCHEMA, records.clone(), &[files[1], files[0]], "`a` has more bytes"),
        (SCHEMA, records.clone(), &[("files", b"two"), files[1]], "`a` has the digest sha256:"),
        (SCHEMA, records.clone(), &[files[0], files[1], files[1]], "more files than records"),
        (SCHEMA, records.clone(), &[files[0], ("records", two)], "must be `files`"),
        (SCHEMA, record("../a", one), &files[..1], "not a name of a folder"),
        (SCHEMA, record("a", one) + &record("A", one), &[files[0], files[0]], "no folder can hold both `a` and `A`"),
        (
            SCHEMA,
            record("a", one) + &record("a/b", one),
            &[files[0], files[0]],
            "no folder can hold both `a` and `a/b`",
        ),
        (SCHEMA, record("big", &large), &[("files", &large[..large.len() - 1])], "`big` has fewer bytes"),
        (SCHEMA, record("zeros", &dense), &[("files", &dense)], "compress a file that has almost nothing in it"),
        (indicators, crate::harness::records(2), &files[..1], "describe no files"),
    ] {
        let (status, answer) = send(&a, schema, &records, parts).await;
        let whole = answer.to_string();
        assert!((400..500).contains(&status) && whole.contains(said), "{said}: {status} {whole}");
    }
    // What the command line finds before anything is sent.
    let folder = a.folder.with_extension("folder");
    write(&folder, "a.pdf", one);
    let table = a.folder.with_extension("csv");
    for (rows, said) in [
        ("path,title\nb.pdf,x\n", "describes `b.pdf`, which is no file of"),
        ("path,title\na.pdf,x\na.pdf,y\n", "described twice"),
        // The answer itself says what is wrong.
        ("path,kind\na.pdf,plan\n", ""),
        ("title,kind\nx,drawing\n", "path"),
    ] {
        fs::write(&table, rows).unwrap();
        let found = publish(&a, &folder, &["--records", text(&table)]).await;
        assert!(found.as_ref().is_err_and(|found| found.contains(said)), "{rows}: {found:?}");
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    assert!(publish(&a, &folder, &[]).await.unwrap_err().contains("links are not followed"));
    fs::remove_file(folder.join("link")).unwrap();
    write(&folder, "A.PDF", b"");
    assert!(publish(&a, &folder, &[]).await.unwrap_err().contains("no folder can hold both `A.PDF` and `a.pdf`"));
    fs::remove_file(folder.join("A.PDF")).unwrap();
    write(&folder, "con.txt", b"");
    assert!(publish(&a, &folder, &[]).await.unwrap_err().contains("device on Windows"));
    assert_eq!(a.get("publisher", "/v1/datasets").await["datasets"], json!([]));
    // Nothing of them stays on the disk.
    let blobs = a.folder.join("blobs");
    let left = |folder: &Path| fs::read_dir(folder).unwrap().map(|one| one.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left(&blobs), ["parts"]);
    assert!(left(&blobs.join("parts")).is_empty());
    assert_eq!(send(&a, SCHEMA, &records, &files).await.0, 201);
    // A repetition is one only with the same files.
    let once = async |parts: &[(&'static str, &[u8])]| send_once(&a, SCHEMA, &records, parts, Some("once")).await;
    let (status, first) = once(&files).await;
    assert_eq!((status, once(&files).await), (201, (201, first)));
    for other in [&files[..1], &[], &[files[0], ("files", b"secant")]] {
        let (status, said) = once(other).await;
        assert!((400..500).contains(&status) && said["title"] == "idempotency-key", "{status} {said}");
    }
    // A source of its own brings no files.
    let source = json!({"name": "drawings", "definition": {
        "input": {"kind": "folder", "connection": "exports", "files": "*.csv"}, "publication": {
            "title": "Drawings", "schema": SCHEMA, "policy": research(), "format": "csv",
        },
    }});
    let (status, said) = a.call("POST", "/v1/sources", &a.token_of("publisher").await, Some(source)).await;
    assert_eq!(status, 400, "{said}");
    assert!(said["detail"].as_str().unwrap().contains("only a program can send"), "{said}");
    run.stop();
}
