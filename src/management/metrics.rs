//! What an operator pages on, in the text format of Prometheus (exposition format 0.0.4).

use crate::operations::{HealthReport, SourceHealth};
use std::fmt::Write;

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Text(String);

impl Text {
    /// A metric with its help, type and samples (labels, value).
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP crosspark_{name} {help}\n# TYPE crosspark_{name} {kind}\n");
        for (labels, value) in samples {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "crosspark_{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, "gauge", help, &[(String::new(), value)]);
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// The figures of a node.
pub fn render(participant: &str, health: &HealthReport) -> String {
    let mut text = Text(String::new());
    let info = [label("participant", participant), label("version", env!("CARGO_PKG_VERSION"))].join(",");
    text.metric("info", "gauge", "This node.", &[(info, 1.0)]);
    text.gauge("read_only", "1 if the node is read-only.", f64::from(u8::from(health.read_only.is_some())));
    text.gauge("warnings", "Number of warnings; crosspark status lists them.", health.warnings.len() as f64);
    let days: Vec<_> = health.expiries.iter().map(|expiry| (label("what", &expiry.what), expiry.days as f64)).collect();
    text.metric("expiry_days", "gauge", "Days until a register, root, certificate or key expires.", &days);
    text.gauge("outbox_messages", "Messages to peers not yet delivered.", health.stats.outbox as f64);
    text.gauge(
        "outbox_oldest_seconds",
        "Age of the oldest message not yet delivered.",
        health.outbox_oldest_seconds as f64,
    );
    text.gauge("open_processes", "Negotiations and transfers that have not ended.", health.open_processes as f64);
    text.gauge("downloads", "Downloads in progress.", health.downloads as f64);
    text.metric("log_entries", "counter", "Entries in the log.", &[(String::new(), health.log.entries as f64)]);
    text.gauge(
        "log_unsigned_entries",
        "Log entries that no checkpoint covers yet.",
        health.log.unsigned_entries as f64,
    );
    let refusals: Vec<_> =
        health.refusals.iter().map(|(reason, count)| (label("reason", reason), *count as f64)).collect();
    text.metric("refusals_total", "counter", "Refusals since the start.", &refusals);
    text.gauge("peer_connections", "Open connections of peers.", health.peer_connections as f64);
    text.gauge(
        "quarantined_keys",
        "Keys of members that an administrator must confirm.",
        health.quarantined_keys as f64,
    );
    let named = |value: fn(&SourceHealth) -> Option<f64>| -> Vec<(String, f64)> {
        let samples = health.sources.iter().filter_map(|source| Some((source, value(source)?)));
        samples.map(|(source, value)| (label("source", source.name.as_str()), value)).collect()
    };
    let failures = named(|source| Some(f64::from(source.failures)));
    text.metric("source_failures", "gauge", "Failed runs of a source since the last one that did not fail.", &failures);
    let attention = named(|source| Some(f64::from(u8::from(source.warning.is_some()))));
    text.metric("source_attention", "gauge", "1 if a source is overdue or failed.", &attention);
    let good = named(|source| source.good_seconds_ago.map(|seconds| seconds as f64));
    text.metric("source_good_seconds", "gauge", "Seconds since a run of a source did not fail.", &good);
    text.gauge("database_bytes", "Size of the database.", health.stats.bytes as f64);
    if let Some(disk) = &health.disk {
        text.gauge("disk_free_bytes", "Free space on the disk of the sealed datasets.", disk.free_bytes as f64);
        text.gauge("disk_total_bytes", "Size of the disk of the sealed datasets.", disk.total_bytes as f64);
    }
    text.0
}
