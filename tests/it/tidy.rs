//! The architecture, kept by a test: who may import whom, and how long a file may be.

use std::path::{Path, PathBuf};

/// The rooms from the ground up; a room imports only rooms above it in this list.
const ROOMS: &[&str] = &[
    "core",
    "identity",
    "schema",
    "policy",
    "dataset",
    "agreement",
    "negotiation",
    "transfer",
    "catalog",
    "audit",
    "durable",
    "keys",
    "ingest",
    "storage",
    "index",
    "blob",
    "config",
    "telemetry",
    "net",
    "service",
    "protocol",
    "management",
    "server",
    "alliance",
    "assembly",
    "enrol",
    "backup",
    "cli",
];
/// Up to here nothing knows a runtime, a file system, a database or the network.
const LAST_PURE: &str = "audit";
const LINES_MAX: usize = 500;
/// Files that may be longer, with the reason.
const LONGER: &[(&str, usize, &str)] =
    &[("tests/golden/write.rs", 700, "the generator of the golden files is one list of documents")];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    ["src", "tests", "examples", "benches"]
        .iter()
        .filter(|f| root.join(f).exists())
        .for_each(|f| files(&root.join(f), &mut found));
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room(name: &str) -> Option<usize> {
    let inside = name.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    ROOMS.iter().position(|known| *known == room)
}

/// Tests may use what they need.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some(own) = room(&name).filter(|_| !name.ends_with("tests.rs")) else { continue };
        let parts = without_tests(&text).split("crate::").skip(1);
        for used in parts.map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()) {
            match ROOMS.iter().position(|known| *known == used) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{name} imports {used}")),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_is_in_the_list() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed, ROOMS);
}

#[test]
fn the_pure_rooms_know_no_outside() {
    let last = ROOMS.iter().position(|room| *room == LAST_PURE).unwrap();
    let forbidden =
        ["tokio", "axum", "rusqlite", "reqwest", "hyper", "std::fs", "std::net", "std::process", "std::env", "tracing"];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if room(&name).is_some_and(|own| own <= last) && !name.ends_with("tests.rs") {
            let text = without_tests(&text);
            wrong.extend(
                forbidden
                    .iter()
                    .filter(|word| text.contains(&format!("{word}::")) || text.contains(&format!("use {word}")))
                    .map(|word| format!("{name}: {word}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_service_commits() {
    // The index holds no state.
    let allowed =
        ["src/service/", "src/storage/", "src/enrol/", "src/index/", "tests/", "examples/tck_connector.rs", "benches/"];
    for (name, text) in sources() {
        let commits = text.contains(".commit(") && !allowed.iter().any(|prefix| name.starts_with(prefix));
        assert!(!commits, "{name} changes state");
    }
}

#[test]
fn files_are_short() {
    for (name, text) in sources() {
        let max = LONGER.iter().find(|(known, ..)| *known == name).map_or(LINES_MAX, |(_, max, _)| *max);
        assert!(text.lines().count() <= max, "{name} has {} lines, more than {max}", text.lines().count());
    }
}

#[test]
fn nothing_is_left_open() {
    for (name, text) in sources() {
        for word in ["TO\x44O", "FIX\x4dE", "XX\x58", "todo\x21(", "unimplemented\x21("] {
            assert!(!text.contains(word), "{name} holds {word}");
        }
    }
}
