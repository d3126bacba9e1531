//! A suggestion as a file that people complete.

use super::{Column, Confidence, Suggestion};
use crate::mapping::Rule;
use crate::schema::Schema;
use std::fmt::Write;

/// A mapping in TOML, with the reason for each field, what is open, and what is not used.
pub fn toml(suggestions: &[Suggestion], columns: &[Column], schema: &Schema) -> String {
    let mut out = format!("schema = {}\n\n[fields]\n", text(schema.id()));
    for suggestion in suggestions {
        let sure = match suggestion.confidence {
            Confidence::High => "sure",
            Confidence::Medium => "probably",
            Confidence::Low => "perhaps",
        };
        comment(&mut out, &format!("{sure}: {}", suggestion.reason));
        if let Some(open) = &suggestion.open {
            comment(&mut out, &format!("to decide: {open}"));
        }
        for (field, rule) in &suggestion.rules {
            let _ = writeln!(out, "{} = {}", key(field), rule_text(rule));
        }
    }
    let used = |header: &&Column| suggestions.iter().all(|suggestion| suggestion.column != header.0);
    let unused: Vec<&str> = columns.iter().filter(used).map(|(header, _)| header.trim()).collect();
    if !unused.is_empty() {
        out.push('\n');
        comment(&mut out, &format!("Columns that are not used: {}", unused.join(", ")));
    }
    let open = |name: &&str| suggestions.iter().all(|suggestion| suggestion.field != **name);
    let (required, optional): (Vec<&str>, Vec<&str>) = schema
        .columns()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| open(name))
        .partition(|name| schema.requires(name));
    for name in required {
        let title = schema.property_title(name).unwrap_or_default();
        out.push('\n');
        comment(&mut out, &format!("Every record needs it: {title}"));
        comment(&mut out, &format!("{} = \"\"", key(name)));
    }
    if !optional.is_empty() {
        out.push('\n');
        comment(&mut out, &format!("Fields without a column: {}", optional.join(", ")));
    }
    out
}

/// A comment of one line, whatever stands in the file.
fn comment(out: &mut String, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(out, "# {text}");
}

/// A bare key, or a quoted one.
fn key(field: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !field.is_empty() && field.chars().all(bare) { field.to_owned() } else { text(field) }
}

/// A string of TOML; JSON's are, too.
fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn rule_text(rule: &Rule) -> String {
    if let ([column], true) = (rule.from.as_slice(), rule.is_plain()) {
        return text(column);
    }
    toml::Value::try_from(rule).map(|value| inline(&value)).unwrap_or_default()
}

/// A value on one line, a list of one element as the element where a rule allows it.
fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            // What is read comes first.
            let (from, others): (Vec<_>, Vec<_>) = table.iter().partition(|(name, _)| *name == "from");
            let members = from.into_iter().chain(others).map(|(name, value)| {
                let one = matches!(name.as_str(), "from" | "formats");
                match value {
                    toml::Value::Array(list) if one && list.len() == 1 => {
                        format!("{} = {}", key(name), inline(&list[0]))
                    }
                    toml::Value::Table(dates) if name == "date" && dates.len() == 1 => {
                        let only = dates.values().next().and_then(|list| list.as_array()?.first());
                        format!("date = {}", only.map(inline).unwrap_or_default())
                    }
                    value => format!("{} = {}", key(name), inline(value)),
                }
            });
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        toml::Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        toml::Value::String(string) => text(string),
        other => other.to_string(),
    }
}
