//! Invariants at the end of a test, whatever faults occurred.

use crate::harness::*;
use serde_json::Value;
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// Checks that every request at `b` delivered the one dataset of `a` completely and once, that logs verify, counts are
/// exact, nothing is pending and no stray file exists. Stops the nodes.
pub async fn everything_ended_well(
    (a, b): (&Park, &Park),
    (run_a, run_b): (Running<'_>, Running<'_>),
    requests: &[Value],
    text: &str,
) {
    let mut holdings = Vec::new();
    for request in requests {
        let end = b.wait(request, 60).await;
        assert_eq!(end["stage"], "verified", "{end} {}", b.log());
        assert_eq!(b.data(&end, "ndjson").await, text);
        holdings.push(end["holding"].as_str().unwrap().to_owned());
    }
    run_a.settle().await;
    run_b.settle().await;
    run_a.stop();
    run_b.stop();
    assert_eq!(a.verify(&[b]).0, 0);

    let count = |park: &Park, sql: &str| {
        let state = rusqlite::Connection::open(park.folder.join("state.db")).unwrap();
        state.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize
    };
    let entries = |park: &Park, kind: &str| {
        count(park, &format!("SELECT COUNT(*) FROM entry WHERE json_extract(body, '$.kind') = '{kind}'"))
    };
    let all = requests.len();
    assert_eq!(entries(a, "key.released"), all, "each key is released once");
    assert_eq!(entries(a, "receipt.received"), all);
    assert_eq!(entries(b, "dataset.received"), all);
    assert_eq!(count(a, "SELECT COUNT(*) FROM agreement WHERE used = 1"), all);
    assert_eq!(count(a, "SELECT COUNT(*) FROM agreement"), all);
    for park in [a, b] {
        assert_eq!(count(park, "SELECT COUNT(*) FROM outbox"), 0);
        assert_eq!(count(park, "SELECT COUNT(*) FROM process WHERE open = 1"), 0);
        assert!(!park.log().contains("panicked"), "{}", park.log());
    }
    holdings.push("parts".to_owned());
    let (mut kept, mut parts) = (names(&b.folder.join("received")), names(&b.folder.join("received/parts")));
    holdings.sort();
    kept.sort();
    parts.extend(names(&a.folder.join("blobs/parts")));
    assert_eq!((kept, parts), (holdings, Vec::new()), "there are stray files");
    assert_eq!(names(&a.folder.join("blobs")).len(), 2, "expected the one dataset and the folder of parts");
}
