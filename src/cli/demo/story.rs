//! Output of the demonstration: text while it runs, or one JSON object at its end.

use crate::cli::output::{note, say};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// A text in English and Chinese.
pub type Words<'a> = (&'a str, &'a str);

/// Whether the user's language is Chinese (POSIX.1-2024, "Environment Variables": LC_ALL, LC_MESSAGES, LANG).
fn speaks_chinese() -> bool {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(std::env::var_os);
    let mut set = set.filter(|value| !value.is_empty());
    set.next().is_some_and(|value| value.to_string_lossy().starts_with("zh"))
}

pub struct Story {
    json: bool,
    chinese: bool,
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
        Self {
            json,
            chinese: !json && speaks_chinese(),
            begun: now,
            last: now,
            checks: Vec::new(),
            timings: Map::new(),
            good: true,
        }
    }

    #[allow(clippy::disallowed_methods, reason = "a demonstration measures real time")]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The text in the user's language; JSON is in English.
    pub fn words<'a>(&self, words: Words<'a>) -> &'a str {
        if self.chinese { words.1 } else { words.0 }
    }

    pub fn chapter(&self, title: Words<'_>) {
        if !self.json {
            say!("\n{}", self.words(title));
        }
    }

    pub fn line(&self, text: &str) {
        if !self.json {
            say!("  · {text}");
        }
    }

    pub fn check(&mut self, name: Words<'_>, ok: bool, detail: &str) {
        let name = self.words(name);
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

    /// Describes nodes that keep running.
    pub fn keep(&self, nodes: &[Value]) -> anyhow::Result<()> {
        say!("{}", serde_json::to_string_pretty(&json!({"nodes": nodes}))?);
        note!("{}", self.words(("Running until interrupted (Ctrl-C).", "持续运行，按 Ctrl-C 结束。")));
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
            match (self.good, self.chinese) {
                (true, false) => say!("\nall checks passed; {total} ms in total"),
                (true, true) => say!("\n全部检查通过；共用时 {total} 毫秒"),
                (false, false) => say!("\n{failed} checks failed; {total} ms in total"),
                (false, true) => say!("\n{failed} 项检查未通过；共用时 {total} 毫秒"),
            }
        }
        Ok(self.good)
    }
}
