//! Runs the fuzz targets on a stable compiler: every seed, and thousands of deterministic alterations of each.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Byte sequences with a special meaning in some parser.
const TELLING: &[&[u8]] = &[
    b"",
    b"\0",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"-",
    b"1e999",
    b"\xFF",
    b"\xF0\x9F",
    b"null",
];

fn alter(seed: &[u8], state: &mut u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=next(state) % 3 {
        let at = (next(state) as usize) % (bytes.len() + 1);
        match next(state) % 5 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (next(state) % 8),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + (next(state) as usize) % 16).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + (next(state) as usize) % 64).min(bytes.len());
                let twice = bytes[at..end].to_vec();
                bytes.splice(at..at, twice);
            }
            _ => {
                let piece = TELLING[(next(state) as usize) % TELLING.len()];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn altered_seeds() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets::ALL {
        let mut files: Vec<_> = std::fs::read_dir(root.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no seeds");
        let rounds =
            if matches!(*name, "container" | "records" | "csv" | "document" | "dialect") { 300 } else { 2_000 };
        for file in &files {
            let seed = std::fs::read(file).unwrap();
            target(&seed);
            let mut state = seed.len() as u64;
            (0..rounds).for_each(|_| target(&alter(&seed, &mut state)));
        }
    }
}
