//! Output: text, listings, JSON, and progress bars. What comes from files and peers never controls the terminal, and a
//! closed pipe ends the output, not the command.

use crate::core::time::Timestamp;
use crate::policy::Policy;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

/// Widest line of a listing.
const COLUMNS: usize = 100;

/// Prints a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::print(&mut std::io::stdout(), format_args!($($text)*)) };
}

/// Prints a line on standard error.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::output::print(&mut std::io::stderr(), format_args!($($text)*)) };
}

pub(super) use {note, say};

/// Writes a line. A reader that has closed the pipe, such as `head`, has read enough; any other error ends the program,
/// so that incomplete output is not taken for complete.
pub fn print(out: &mut dyn Write, text: fmt::Arguments<'_>) {
    let line = harmless(&text.to_string()) + "\n";
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: the output could not be written: {error}");
            std::process::exit(super::exit::FAILED.into());
        }
        _ => {}
    }
}

/// Shows characters that a terminal obeys instead of printing them, by their code: control characters, and those that
/// change the direction of text.
fn harmless(text: &str) -> String {
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
    };
    if !text.contains(obeyed) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if obeyed(c) {
            // The notation of JSON, so that JSON with such a character in a string stays valid.
            shown += &format!("\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Likewise on one line, for a command that prints several.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Prints entries, each with a headline and indented details, or `empty` if there are none. Empty details are left out.
pub fn entries(entries: impl IntoIterator<Item = (String, Vec<String>)>, empty: &str) {
    let mut none = true;
    for (headline, details) in entries {
        none = false;
        say!("{}", wrapped(&headline, ""));
        for detail in details.iter().filter(|detail| !detail.is_empty()) {
            say!("{}", wrapped(detail, "    "));
        }
    }
    if none {
        say!("{empty}");
    }
}

/// Joins the texts that are not empty.
pub fn joined(texts: impl IntoIterator<Item = String>, separator: &str) -> String {
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(separator)
}

/// Breaks a text between words into lines that fit. Chinese characters are two columns wide.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), indent.to_owned());
    for word in harmless(text).split(' ') {
        let full = line.width() + 1 + word.width() > COLUMNS;
        if full && line.trim() != "" {
            lines.push(std::mem::replace(&mut line, format!("{indent}  ")));
        }
        let between = if line.trim() == "" { "" } else { " " };
        line = line + between + word;
    }
    lines.push(line);
    lines.join("\n")
}

/// A member of a JSON object as text; empty if it is missing.
pub fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        // A text from outside must not begin a line of its own.
        Some(Value::String(text)) => text.replace(['\n', '\r', '\u{2028}', '\u{2029}'], " "),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The elements of a list in a JSON object.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The terms of an offer for a requester, and its licence.
pub fn terms(offered: &Value) -> String {
    let policy = offered.get("policy").cloned().unwrap_or_default();
    let policy = Policy::from_value(&policy).map_or_else(|error| error.to_string(), |policy| policy.in_words());
    let licence = text(offered.get("about").unwrap_or(&Value::Null), "licence");
    let refused = text(offered, "refused");
    let lines = [("", policy), ("licence: ", licence), ("not for this park: ", refused)];
    let lines = lines.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| name.to_owned() + &text);
    lines.collect::<Vec<_>>().join("; ").replace('\n', "; ").replace("; or; ", "; or ")
}

/// What the catalog says of a dataset: title, then id and park, version, records, schema, time, terms.
pub fn dataset(offered: &Value, park: &str) -> (String, Vec<String>) {
    let schema = offered.get("schema").map(|schema| joined([text(schema, "id"), text(schema, "version")], " "));
    let schema = schema.unwrap_or_default();
    let own = offered.get("shared") == Some(&Value::Bool(false));
    let schema = if own { format!("{schema} (a schema of the park)") } else { schema };
    let version = text(offered, "version");
    let version = if version.is_empty() { version } else { format!("version {version}") };
    let sealed = offered.get("bytes").and_then(Value::as_u64).map(|count| format!("{} sealed", bytes(count)));
    let published = time(offered, "published");
    let records = offered.get("records").and_then(Value::as_u64).map(|n| count(n, "record", "records"));
    let facts = [version, published, records.unwrap_or_default(), sealed.unwrap_or_default(), schema];
    let id = joined([text(offered, "dataset"), park.to_owned()], " of ");
    let about = offered.get("about").unwrap_or(&Value::Null);
    let samples = match list(about, "samples").len() {
        0 => String::new(),
        samples => format!("{samples} samples (--json prints them)"),
    };
    let named = |name: &str| match text(about, name) {
        value if value.is_empty() => value,
        value => format!("{name}: {value}"),
    };
    let about = joined([named("theme"), named("frequency"), named("contact"), samples], ", ");
    let lines = [text(offered, "description"), joined(facts, ", "), quality(offered), about, terms(offered)];
    (text(offered, "title"), [vec![id], lines.to_vec()].concat())
}

/// What the catalog says of the quality of a dataset, in short.
fn quality(offered: &Value) -> String {
    let quality = offered.get("quality").unwrap_or(&Value::Null);
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (records, skipped) = (number(offered, "records"), number(quality, "skipped"));
    let fields = list(quality, "fields");
    let filled: u128 = fields.iter().map(|field| u128::from(number(field, "present"))).sum();
    let filled = match u128::from(records) * fields.len() as u128 {
        0 => String::new(),
        all => format!(
            "{}, {} % filled (--json shows each)",
            count(fields.len() as u64, "field", "fields"),
            filled * 100 / all
        ),
    };
    let skipped = match skipped {
        0 => String::new(),
        skipped => format!("{} left out as invalid", count(skipped, "record", "records")),
    };
    joined([filled, skipped], ", ")
}

/// A progress bar in bytes on standard error; hidden if that is not a terminal.
pub fn bytes_bar(total: Option<u64>, what: &str) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if total.is_some() {
        "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
}

/// A number of things.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A number of bytes with a readable unit.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A time in the time zone of this machine, to the minute.
pub fn time(value: &Value, name: &str) -> String {
    local(text(value, name), "%Y-%m-%d %H:%M")
}

/// A time in the time zone of this machine, to the second.
pub fn time_to_second(value: &Value, name: &str) -> String {
    local(text(value, name), "%Y-%m-%d %H:%M:%S")
}

fn local(text: String, format: &str) -> String {
    let at = Timestamp::parse(&text).ok().and_then(|at| jiff::Timestamp::from_millisecond(at.ms()).ok());
    at.map_or(text, |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_fit() {
        let ids = format!("{} {}", "x".repeat(45), "y".repeat(60));
        for text in ["short", &"word ".repeat(60), &"园区 数据 ".repeat(40), &ids] {
            let lines = wrapped(text, "    ");
            assert!(lines.lines().all(|line| line.width() <= 100 && line.starts_with("    ")), "{lines}");
            assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u001b[2Jb"),
            ("数据\nnext", "数据\nnext"),
            ("a\u{9b}b\u{7f}\r\t", "a\\u009bb\\u007f\\u000d\\u0009"),
            ("\u{202e}txet", "\\u202etxet"),
        ] {
            assert_eq!(harmless(text), shown);
        }
        assert_eq!(text(&json!({"a": "x\n1  key.released"}), "a"), "x 1  key.released");
        // JSON keeps its meaning.
        let value = json!({"a": "x\u{9b}y\u{202e}\u{1b}"});
        let printed = harmless(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!printed.contains('\u{9b}'));
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
    }
}
