//! Publishing as publishers do it: the same file again, terms that nobody meets, files of other programs.

use crate::harness::*;
use serde_json::{Value, json};

/// Publishes text as a version of a dataset, by the command line.
fn publish(park: &Park, token: &str, text_: &str, policy: &Value, more: &[&str]) -> Value {
    let (file, policy_file) = (park.folder.with_extension("ndjson"), park.folder.with_extension("policy"));
    std::fs::write(&file, text_).unwrap();
    std::fs::write(&policy_file, policy.to_string()).unwrap();
    let schema = "urn:crosspark:schema:economic-indicator";
    let args = ["publish", text(&file), "--schema", schema, "--policy", text(&policy_file), "--title", "Sample"];
    good(&[&args[..], &["--node", &park.management, "--token", token], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_makes_no_version() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let token = a.token_of("publisher").await;
    let first = publish(&a, &token, &records(3), &research(), &[]);
    let dataset = dataset_of(&first).to_owned();
    let this = ["--dataset", dataset.as_str()];
    // Equal values in another notation are the same content.
    let spaced = records(3).replace(',', " , ");
    for text in [records(3), spaced] {
        let again = publish(&a, &token, &text, &research(), &this);
        assert_eq!((&again["unchanged"], &again["version"]), (&json!(true), &json!(1)), "{again}");
        assert_eq!((&again["manifest"], &again["container"]), (&first["manifest"], &first["container"]));
    }
    assert_eq!(
        std::fs::read_dir(a.folder.join("blobs")).unwrap().filter(|f| f.as_ref().unwrap().path().is_file()).count(),
        1
    );
    // Other content of the same size, other terms or another description are new versions.
    let other = records(3).replace("2.5", "3.5");
    let narrower = policy(&[("purpose", "isAnyOf", json!(["research"]))]);
    for (n, (text, terms, more)) in [
        (other.clone(), research(), vec![]),
        (other.clone(), narrower.clone(), vec![]),
        (other, narrower, vec!["--description", "new"]),
    ]
    .into_iter()
    .enumerate()
    {
        let next = publish(&a, &token, &text, &terms, &[&this[..], &more].concat());
        assert_eq!((&next["unchanged"], &next["version"]), (&json!(false), &json!(n + 2)), "{next}");
    }
    let published = a.entries().await.iter().filter(|row| row["entry"]["kind"] == "dataset.published").count();
    assert_eq!(published, 4);
    run.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_nobody_meets_are_told() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let run = a.start().await;
    let token = a.token_of("publisher").await;
    for (terms, told) in [
        (policy(&[("recipient", "isPartOf", json!("pilot"))]), json!([])),
        (policy(&[("recipient", "isPartOf", json!("pilots"))]), json!(["no member is in the group pilots"])),
        (
            policy(&[("recipient", "isAnyOf", json!([a.id, "did:web:park-x.example"]))]),
            json!(["did:web:park-x.example is not a member"]),
        ),
        (
            policy(&[("dateTime", "lt", json!("2020-01-01T00:00:00Z"))]),
            json!(["use ended at 2020-01-01T00:00:00.000Z"]),
        ),
    ] {
        assert_eq!(publish(&a, &token, &records(1), &terms, &[])["remarks"], told);
    }
    run.stop();
}
