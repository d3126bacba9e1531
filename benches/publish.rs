//! Publishing compared with a bare parse-and-validate loop in the same run, and the time of each step.
//!
//! `cargo bench --bench publish [-- MEGABYTES]`. The bare loop is the obvious one: `serde_json::Value` and
//! `jsonschema`, one thread, no frames, sealing or digests. The ratios matter, not the absolute rates of a machine.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use crosspark::core::digest::{HashingReader, KeyedHasher};
use crosspark::core::json::Tape;
use crosspark::dataset::assemble::{Chunk, Job, SOURCE_LABEL, assemble};
use crosspark::dataset::container::{DataKey, Sealer};
use crosspark::dataset::frame::Compressor;
use crosspark::dataset::quality::{Detail, Plan};
use crosspark::dataset::unique::in_memory;
use crosspark::ingest::{Chunks, Form, Input};
use crosspark::schema::{Schema, built_in};
use serde_json::Value;
use std::io::{Cursor, Write};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Generates records of about 650 bytes with most fields of the schema.
fn sample(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 1_000);
    let mut seed = 7u64;
    let mut next = |max: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % max
    };
    let words = ["motion", "capture", "virtual", "reality", "model", "cluster", "compute", "park", "sensor", "render"];
    for n in 0u64.. {
        if text.len() >= bytes {
            break;
        }
        let products: Vec<String> =
            (0..6).map(|i| format!("{i} {} {}", words[next(10) as usize], words[next(10) as usize])).collect();
        let mut day = || format!("20{:02}-{:02}-{:02}", next(25), 1 + next(12), 1 + next(28));
        let (listed, joined) = (day(), day());
        let record = serde_json::json!({
            "id": format!("e-{n:08}"), "name": format!("Sample enterprise {n} of the park"),
            "name_en": format!("Sample enterprise {n} Co., Ltd"), "registration_number": format!("91110107MA{n:08}"),
            "sector": "Virtual reality", "subsector": words[next(10) as usize], "seat": "Shijingshan, Beijing",
            "park": "Zhongguancun Virtual Reality Industrial Park", "founded": (1980 + next(45)).to_string(),
            "listed": listed, "joined_park": joined, "employees": next(5_000), "research_employees": next(900),
            "revenue_cny": next(1_000_000_000) as f64 / 100.0, "research_share": next(1_000) as f64 / 1_000.0,
            "website": format!("https://enterprise-{n}.example/about"), "products": products,
            "note": "Generated for a measurement.",
        });
        serde_json::to_writer(&mut text, &record).unwrap();
        text.push(b'\n');
    }
    text
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Processor time that all threads have used, which other load on the machine hardly changes (proc(5), /proc/PID/stat).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// The best of three runs, as other load on the machine can only slow them down.
fn best(mut work: impl FnMut()) -> f64 {
    (0..3).map(|_| seconds(&mut work)).fold(f64::INFINITY, f64::min)
}

fn publish(text: &[u8], schema: &Schema, detail: Detail, threads: usize) {
    let (validator, key) = (schema.validator().unwrap(), DataKey::from_bytes([1; 32]));
    let source = HashingReader::new(Cursor::new(text), Some(KeyedHasher::new(key.expose(), SOURCE_LABEL)));
    let (mut chunks, decoder) = Chunks::open(Input::plain(source, Form::Ndjson).unwrap(), schema, None).unwrap();
    let job = Job {
        threads,
        decoder: decoder.as_ref(),
        validator: &validator,
        plan: &Plan::of(schema, detail),
        scratch: &in_memory,
        progress: &AtomicU64::new(0),
    };
    let out = assemble(&job, &key, b"{}", || chunks.next_chunk(), std::io::sink());
    assert!(out.unwrap().finish().unwrap().1.records > 0);
}

/// The schema without some keywords.
fn without(schema: &Schema, keywords: &[&str]) -> Schema {
    fn strip(value: &mut Value, keywords: &[&str]) {
        match value {
            Value::Object(members) => {
                members.retain(|name, value| {
                    !keywords.contains(&name.as_str()) || !(value.is_string() || value.is_array())
                });
                members.values_mut().for_each(|value| strip(value, keywords));
            }
            Value::Array(list) => list.iter_mut().for_each(|value| strip(value, keywords)),
            _ => {}
        }
    }
    let mut value = schema.value().clone();
    strip(&mut value, keywords);
    Schema::parse(&serde_json::to_vec(&value).unwrap()).unwrap()
}

fn main() {
    let megabytes: usize = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(256);
    let text = sample(megabytes << 20);
    let schema = &built_in()[0];
    let size = text.len() as f64 / 1e6;
    let records = text.iter().filter(|b| **b == b'\n').count();
    println!("{size:.0} MB, {records} records of {} bytes", text.len() / records);

    let bare_validator = jsonschema::options().offline().should_validate_formats(true).build(schema.value()).unwrap();
    let bare = best(|| {
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert!(bare_validator.is_valid(&value));
        }
    });
    let line =
        |name: &str, time: f64| println!("{name:<44} {:>7.0} MB/s  {:>5.2} of the bare loop", size / time, bare / time);
    line("bare loop, one thread", bare);
    for threads in [1, 2] {
        let time = best(|| publish(&text, schema, Detail::Counts, threads));
        line(&format!("publish, {threads} worker threads"), time);
    }
    // What formats, keys and the quality summary cost, side by side.
    let schemas = [without(schema, &["x-key", "format"]), without(schema, &["x-key"]), schema.clone()];
    let kinds = [
        ("without formats, key and quality", &schemas[0], Detail::None),
        ("with formats", &schemas[1], Detail::None),
        ("with formats and counts", &schemas[1], Detail::Counts),
        ("with formats and bounds", &schemas[1], Detail::Bounds),
        ("with formats, bounds and the key", &schemas[2], Detail::Bounds),
    ];
    // The best of several turns: other load on the machine takes caches, too, and so only adds to the processor time.
    let mut times = [f64::INFINITY; 5];
    for _ in 0..9 {
        for (time, (_, schema, detail)) in times.iter_mut().zip(&kinds) {
            let begun = processor_seconds();
            publish(&text, schema, *detail, 1);
            *time = time.min(processor_seconds() - begun);
        }
    }
    for ((name, ..), time) in kinds.iter().zip(times) {
        println!("  {name:<40} {:>7.0} MB/s  {:>5.2} of the processor time", size / time, time / times[0]);
    }
    println!("the steps, one thread each:");
    let lines = || text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let mut tape = Tape::default();
    line("  tape", best(|| lines().for_each(|record| tape.parse(record).unwrap())));
    let validator = schema.validator().unwrap();
    line(
        "  tape and validation",
        best(|| {
            lines().for_each(|record| {
                tape.parse(record).unwrap();
                assert!(validator.is_valid(&tape));
            })
        }),
    );
    let mut canonical = Vec::new();
    line(
        "  tape and canonical form",
        best(|| {
            lines().for_each(|record| {
                tape.parse(record).unwrap();
                canonical.clear();
                tape.write_canonical(&mut canonical);
            })
        }),
    );
    let mut compressor = Compressor::new().unwrap();
    line("  zstd", best(|| text.chunks(1 << 20).for_each(|chunk| drop(compressor.compress(chunk).unwrap()))));
    line(
        "  cutting into chunks",
        best(|| {
            let (mut chunks, _) = Chunks::open(Input::plain(&text[..], Form::Ndjson).unwrap(), schema, None).unwrap();
            while let Some(Chunk { bytes, .. }) = chunks.next_chunk().unwrap() {
                std::hint::black_box(bytes);
            }
        }),
    );
    line(
        "  HMAC-SHA-256 twice",
        best(|| {
            for _ in 0..2 {
                let mut hasher = crosspark::core::digest::KeyedHasher::new(&[1; 32], "x");
                hasher.update(&text);
                std::hint::black_box(hasher.finish());
            }
        }),
    );
    line(
        "  sealing and SHA-256 (uncompressed)",
        best(|| {
            let mut sealer = Sealer::new(std::io::sink(), &DataKey::from_bytes([1; 32]), b"{}").unwrap();
            sealer.write_all(&text).unwrap();
            sealer.finish().unwrap();
        }),
    );
}
