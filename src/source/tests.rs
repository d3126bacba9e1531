//! Schedules, patterns and what becomes of runs, as tables.

use super::{After, Definition, Outcome, Owner, Pattern, Run, Schedule, Seen, Source};
use crate::core::id::{DatasetId, SourceName, Text, TokenId};
use crate::core::time::Timestamp;
use serde_json::json;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

#[test]
fn schedules() {
    for (text, after, next) in [
        ("0 2 * * *", "2026-11-28T01:00:00Z", "2026-11-28T02:00:00Z"),
        ("0 2 * * * Asia/Shanghai", "2026-11-28T01:00:00Z", "2026-11-28T18:00:00Z"),
        ("*/15 * * * *", "2026-11-28T01:15:00Z", "2026-11-28T01:30:00Z"),
        ("0 0 1 * *", "2026-11-28T01:15:00Z", "2026-12-01T00:00:00Z"),
        ("30 8 * * 1-5", "2026-11-28T01:15:00Z", "2026-11-30T08:30:00Z"),
        ("0 6 29 2 *", "2026-11-28T01:15:00Z", "2028-02-29T06:00:00Z"),
        // Clocks go forward over the time: in that year it comes on other days.
        ("30 2 * * * Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
    ] {
        assert_eq!(Schedule::parse(text).unwrap().next(at(after)), Some(at(next)), "{text}");
    }
    for wrong in ["", "daily", "60 * * * *", "* * * *", "0 2 * * * Asia/Shangri-La", "0 0 31 2 *"] {
        let error = Schedule::parse(wrong).unwrap_err().to_string();
        assert!(error.contains("0 2 * * * Asia/Shanghai") && !error.contains('\n'), "{error}");
    }
    assert!(Schedule::parse(&"*".repeat(300)).is_err());
}

#[test]
fn patterns() {
    for (pattern, name, fits) in [
        ("*.csv", "a.csv", true),
        ("*.csv", ".a.csv", false),
        ("*.csv", "a.csv.part", false),
        ("*", "~$book.xlsx", false),
        ("*", "a.csv~", false),
        ("*", "A.TMP", false),
        ("meters_????.csv", "meters_2026.csv", true),
        ("meters_????.csv", "meters_202.csv", false),
        ("*a*b*c", "xxaybzbc", true),
        ("*a*b*c", "xxaybzb", false),
        ("电表*.xlsx", "电表2026.xlsx", true),
        ("?", "表", true),
        ("a", "a", true),
        ("a", "ab", false),
    ] {
        assert_eq!(Pattern::parse(pattern).unwrap().fits(name), fits, "{pattern} {name}");
    }
    for wrong in ["", "../*.csv", "a/b"] {
        assert!(Pattern::parse(wrong).is_err(), "{wrong}");
    }
    // Many stars take no time.
    let long = "a".repeat(5_000);
    assert!(!Pattern::parse(&format!("{}b", "a*".repeat(90))).unwrap().fits(&long));
}

fn source(input: serde_json::Value, schedule: Option<&str>) -> Source {
    let publication = json!({"title": "T", "schema": "urn:s", "policy": {}, "format": "ndjson"});
    let definition: Definition = serde_json::from_value(
        json!({"input": input, "schedule": schedule, "expectedHours": 72, "publication": publication}),
    )
    .unwrap();
    definition.check().unwrap();
    let owner = Owner { token: TokenId::parse("t").unwrap(), person: Text::parse("P").unwrap(), enterprise: None };
    let (name, dataset) = (SourceName::parse("meters").unwrap(), DatasetId::parse("urn:uuid:d").unwrap());
    Source::new(name, definition, dataset, owner, at("2026-11-28T00:00:00Z"))
}

fn failed() -> Outcome {
    Outcome::Failed { code: "unavailable".into(), reason: "no route".into() }
}

fn run(at: Timestamp, outcome: Outcome) -> Run {
    Run { started: at, ended: at, outcome }
}

/// Each step: a run that begins and ends at a time, then the next run and what is warned of a minute later.
#[test]
fn runs_and_retries() {
    let mut source = source(json!({"kind": "http", "connection": "erp", "path": "x"}), Some("0 2 * * *"));
    assert_eq!(source.progress.next, Some(at("2026-11-28T02:00:00Z")));
    assert!(!source.is_due(at("2026-11-28T01:59:59Z")) && source.is_due(at("2026-11-28T02:00:00Z")));
    let published = Outcome::Published { version: 1, records: 3 };
    for (ended, outcome, next, warning) in [
        (
            "2026-11-28T02:00:05Z",
            failed(),
            "2026-11-28T02:01:05Z",
            Some("source meters failed at 2026-11-28T02:00:05.000Z: no route"),
        ),
        (
            "2026-11-28T02:01:10Z",
            failed(),
            "2026-11-28T02:03:10Z",
            Some("source meters failed 2 times in a row, last at 2026-11-28T02:01:10.000Z: no route"),
        ),
        ("2026-11-28T02:03:10Z", published, "2026-11-29T02:00:00Z", None),
        ("2026-11-29T02:00:01Z", Outcome::Unchanged { version: 1 }, "2026-11-30T02:00:00Z", None),
    ] {
        let ended = at(ended);
        source = source.after_run(run(ended, outcome), After::default());
        assert_eq!(source.progress.next, Some(at(next)), "{ended}");
        assert_eq!(source.warning(ended.plus_ms(60_000)).as_deref(), warning, "{ended}");
    }
    assert_eq!(source.revision, 5);
    // No run at the next time of the schedule; no new content for three days; none of it matters while it is paused.
    assert_eq!(source.warning(at("2026-11-30T02:14:00Z")), None);
    let late = source.warning(at("2026-11-30T02:16:00Z")).unwrap();
    assert_eq!(late, "source meters is overdue: it should have run at 2026-11-30T02:00:00.000Z");
    let ended = at("2026-12-01T02:20:00Z");
    let old = source.after_run(run(ended, Outcome::Unchanged { version: 1 }), After::default());
    assert!(old.warning(ended).unwrap().contains("nothing new since 2026-11-28T02:03:10.000Z"));
    assert_eq!(old.paused().warning(at("2027-11-30T02:20:00Z")), None);
    assert!(!old.paused().is_due(at("2027-11-30T02:20:00Z")));
    // Retries come at least every hour.
    let mut failing = old;
    for _ in 0..40 {
        failing = failing.after_run(run(ended, failed()), After::default());
    }
    assert_eq!(failing.progress.next, Some(ended.plus_ms(3_600_000)));
}

#[test]
fn refused_files_are_passed_over_and_told() {
    let source = source(json!({"kind": "folder", "connection": "exports", "files": "*.csv"}), None);
    let now = at("2026-11-28T08:00:00Z");
    assert!(source.is_watched(now) && source.progress.next.is_none());
    let why = "f1.csv: 1 of 1 records are invalid";
    let seen = Seen {
        files: ["f1".to_owned()].into(),
        refused: [("f1".to_owned(), why.to_owned())].into(),
        ..Seen::default()
    };
    let refused = source.after_run(run(now, failed()), After { seen: seen.clone(), passed: true, more: false });
    // The next file need not wait.
    assert!(refused.is_watched(now) && refused.progress.failures == 0);
    let warning = Some(format!("source meters has refused a file: {why}"));
    assert_eq!(refused.warning(now), warning);
    // Nothing new, and a good file, do not make the refused one good.
    let looked = refused.after_run(run(now, Outcome::Nothing), After { seen: seen.clone(), ..After::default() });
    assert_eq!(looked.warning(now), warning);
    // A folder that cannot be read meanwhile is tried again after a pause, each time.
    let unreadable = looked.after_run(run(now, failed()), After { seen, ..After::default() });
    assert!(!unreadable.is_watched(now) && unreadable.warning(now).unwrap().contains("failed at"));
    // Another definition may read it.
    let mut definition = looked.definition.clone();
    definition.publication.title = Text::parse("U").unwrap();
    let redefined = looked.redefined(definition, looked.owner.clone(), now);
    assert_eq!(redefined.progress.seen, Seen::default());
    // What could not be read is tried again, after a pause.
    let unread = source.after_run(run(now, failed()), After::default());
    assert!(!unread.is_watched(now) && unread.is_watched(now.plus_ms(60_000)));
}

#[test]
fn definitions_that_cannot_be_meant() {
    let publication = |format: &str| json!({"title": "T", "schema": "urn:s", "policy": {}, "format": format});
    let number = json!({"kind": "number", "parameter": "page"});
    for (input, schedule, format, part) in [
        (json!({"kind": "pushed"}), Some("0 2 * * *"), "csv", "no schedule"),
        (json!({"kind": "query", "connection": "w", "query": " "}), None, "ndjson", "empty"),
        (json!({"kind": "query", "connection": "w", "query": "x"}), None, "csv", "ndjson"),
        (json!({"kind": "query", "connection": "w", "query": "x".repeat(70_000)}), None, "ndjson", "longer"),
        (json!({"kind": "http", "connection": "w", "path": "x", "pages": number}), None, "csv", "json"),
        (
            json!({"kind": "http", "connection": "w", "path": "x", "pages": {"kind": "next", "at": "next"}}),
            None,
            "json",
            "pointer",
        ),
    ] {
        let text = json!({"input": input, "schedule": schedule, "publication": publication(format)});
        let definition: Definition = serde_json::from_value(text).unwrap();
        let error = definition.check().unwrap_err();
        assert!(error.contains(part), "{error} lacks {part}");
    }
    for unknown in [
        json!({"kind": "ftp"}),
        json!({"kind": "folder", "connection": "x", "files": "*", "path": "/etc"}),
        json!({"kind": "folder", "connection": "../x", "files": "*"}),
        json!({"kind": "folder", "connection": "x", "files": "../*"}),
        json!({"kind": "pushed", "x": 1}),
    ] {
        let text = json!({"input": unknown, "publication": publication("csv")});
        assert!(serde_json::from_value::<Definition>(text).is_err(), "{unknown}");
    }
}

#[test]
fn clocks_that_were_ahead_and_pauses() {
    let now = at("2026-11-28T08:00:00Z");
    let ahead = at("2036-01-01T00:00:30Z");
    let made = source(json!({"kind": "http", "connection": "erp", "path": "x"}), Some("* * * * *"));
    let planned = made.after_run(run(ahead, Outcome::Nothing), After::default());
    assert!(planned.is_misplanned(now) && !planned.is_misplanned(ahead));
    assert!(planned.warning(now.plus_ms(3_600_000)).is_none());
    // A time of the schedule in a pause is none at which it should have run.
    let daily = source(json!({"kind": "http", "connection": "erp", "path": "x"}), Some("0 2 * * *"));
    let resumed = daily.paused().resumed(daily.owner.clone(), at("2026-11-30T12:00:00Z"));
    assert_eq!(resumed.overdue_since(at("2026-11-30T12:01:00Z")), None);
    assert!(resumed.overdue_since(at("2026-12-01T03:00:00Z")).is_some());
    // More to read: at once.
    let more = daily
        .after_run(run(now, Outcome::Published { version: 1, records: 1 }), After { more: true, ..After::default() });
    assert!(more.is_due(now));
}

#[test]
fn what_another_definition_has_read_does_not_count() {
    let made = source(json!({"kind": "folder", "connection": "exports", "files": "*.csv"}), None);
    let mut definition = made.definition.clone();
    definition.publication.title = Text::parse("U").unwrap();
    let redefined = made.redefined(definition, made.owner.clone(), made.since);
    let seen = Seen {
        files: ["good".to_owned(), "bad".to_owned()].into(),
        refused: [("bad".to_owned(), "bad.csv: no".to_owned())].into(),
        etag: Some("x".into()),
        ..Seen::default()
    };
    assert_eq!(made.seen_since(&made.definition, seen.clone()), seen);
    let known = redefined.seen_since(&made.definition, seen);
    assert_eq!(known, Seen { files: ["good".to_owned()].into(), ..Seen::default() });
}
