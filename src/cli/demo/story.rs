//! Output of the demonstration: text while it runs, or one JSON object at its end.

use super::park::Park;
use crate::cli::output::{note, say};
use serde_json::{Map, Value, json};
use std::time::Instant;

pub struct Story {
    json: bool,
    begun: Instant,
    last: Instant,
    checks: Vec<Value>,
    timings: Map<String, Value>,
    good: bool,
}

impl Story {
    #[allow(clippy::disallowed_methods, reason = "a demonstration measures real time")]
    pub fn new(json: bool) -> Self {
        let now = Instant::now();
        Self { json, begun: now, last: now, checks: Vec::new(), timings: Map::new(), good: true }
    }

    #[allow(clippy::disallowed_methods, reason = "a demonstration measures real time")]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    pub fn chapter(&self, title: &str) {
        if !self.json {
            say!("\n{title}");
        }
    }

    pub fn line(&self, text: &str) {
        if !self.json {
            say!("  · {text}");
        }
    }

    pub fn check(&mut self, name: &str, ok: bool, detail: &str) {
        self.good &= ok;
        self.checks.push(json!({"name": name, "ok": ok, "detail": detail}));
        if !self.json {
            say!(
                "  {} {name}{}",
                if ok { "✓" } else { "✗" },
                if detail.is_empty() { String::new() } else { format!(" ({detail})") }
            );
        }
    }

    /// Time since the last timing.
    pub fn timing(&mut self, name: &str) {
        self.timing_since(name, self.last);
    }

    pub fn timing_since(&mut self, name: &str, begun: Instant) {
        let now = self.now();
        let ms = now.duration_since(begun).as_millis() as u64;
        self.last = now;
        self.timings.insert(name.to_owned(), ms.into());
        if !self.json {
            say!("    {name}: {ms}");
        }
    }

    pub fn keep(&self, parks: &[&Park]) -> anyhow::Result<()> {
        let listed: Vec<Value> = parks.iter().map(|park| park.describe()).collect();
        say!("{}", serde_json::to_string_pretty(&json!({"nodes": listed}))?);
        note!("Running until interrupted (Ctrl-C).");
        Ok(())
    }

    /// Prints the result and returns whether every check passed.
    pub fn finish(mut self) -> anyhow::Result<bool> {
        let total = self.now().duration_since(self.begun).as_millis() as u64;
        self.timings.insert("total_ms".into(), total.into());
        if self.json {
            let all = json!({"ok": self.good, "checks": self.checks, "timings_ms": self.timings});
            say!("{}", serde_json::to_string_pretty(&all)?);
        } else {
            let failed = self.checks.iter().filter(|check| check["ok"] == false).count();
            let end = if self.good { "all checks passed".to_owned() } else { format!("{failed} checks failed") };
            say!("\n{end}; {total} ms in total");
        }
        Ok(self.good)
    }
}
