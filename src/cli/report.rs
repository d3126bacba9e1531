//! Reports of invalid records, as text and as an HTML page.

use super::output::{self, note, say};
use crate::dataset::report::{Group, Rejection};
use crate::schema::{Language, RULE_KEY, Schema};
use std::fmt::Write;

/// Violations printed one by one.
const PRINTED_MAX: usize = 20;

/// Prints the first violations one by one and, if there are more, all by field and rule. With a schema, fields have
/// their titles.
pub fn print(found: &Rejection, schema: Option<(&Schema, Language)>, file: &str) {
    let chinese = schema.filter(|(_, language)| *language == Language::Chinese).map(|(schema, _)| schema);
    for invalid in found.first.iter().take(PRINTED_MAX) {
        let violation = &invalid.violation;
        let (pointer, rule) = (&violation.pointer, &violation.rule);
        let place = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
        match chinese {
            Some(schema) => {
                let title = schema
                    .field_title(pointer, Language::Chinese)
                    .map(|title| format!("{title}："))
                    .unwrap_or_default();
                let words = schema.rule_in_chinese(pointer, rule);
                let seen = match (&violation.value, rule.as_str()) {
                    (Some(value), _) => format!("：`{value}`"),
                    (None, "json" | "csv" | RULE_KEY) => format!("：{}", violation.reason),
                    (None, _) => String::new(),
                };
                say!("{file}:{}: {place}{title}{words} [{rule}]{seen}", invalid.line);
            }
            None => say!("{file}:{}: {place}{} [{rule}]", invalid.line, violation.reason),
        }
    }
    let all: u64 = found.groups.iter().map(|group| group.count).sum();
    if all > found.first.len().min(PRINTED_MAX) as u64 {
        say!("{}", if chinese.is_some() { "按字段和规则：" } else { "By field and rule:" });
        found.groups.iter().for_each(|group| print_group(group, schema));
    }
}

fn print_group(group: &Group, schema: Option<(&Schema, Language)>) {
    let lines: Vec<String> = group.lines.iter().map(u64::to_string).collect();
    let more = if group.count > lines.len() as u64 { ", …" } else { "" };
    let title = schema.and_then(|(schema, language)| schema.field_title(&group.pointer, language)).unwrap_or_default();
    let pointer = if group.pointer.is_empty() { "/" } else { &group.pointer };
    let times = match schema {
        Some((_, Language::Chinese)) => format!("{} 处，行 ", group.count),
        _ => format!("{}, lines ", output::count(group.count, "time", "times")),
    };
    say!("  {pointer} {title} [{}] {times}{}{more}", group.rule, lines.join(", "));
}

/// The end of a report of a publication.
pub fn nothing_published(found: &Rejection) {
    note!("error: {} of {} records are invalid. Nothing was published.", found.invalid, found.records);
}

/// The report as an HTML page in both languages.
pub fn page(found: &Rejection, schema: &Schema, file: &str) -> String {
    let mut page = String::from(HEAD);
    let mut row = |cells: &[&str], kind: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{kind}>{}</{kind}>", escaped(cell))).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    };
    let count = found.invalid.to_string();
    let records = found.records.to_string();
    row(&["File / 文件", file], "td");
    row(&["Schema / 数据模式", &format!("{} {}", schema.id(), schema.version())], "td");
    row(&["Records / 记录数", &records], "td");
    row(&["Invalid / 不合格", &count], "td");
    page.push_str("</table>\n<h2>By field and rule / 按字段和规则</h2>\n<table>\n");
    page.push_str(&table(
        &["Field / 字段", "Rule / 规则", "Count / 次数", "Lines / 行", "First reason / 首例"],
        found.groups.iter().map(|group| {
            let lines: Vec<String> = group.lines.iter().map(u64::to_string).collect();
            let words = schema.rule_in_chinese(&group.pointer, &group.rule);
            [
                field(schema, &group.pointer),
                format!("{} / {words}", group.rule),
                group.count.to_string(),
                lines.join(", "),
                group.reason.clone(),
            ]
        }),
    ));
    page.push_str("</table>\n<h2>First records / 首批记录</h2>\n<table>\n");
    page.push_str(&table(
        &["Line / 行", "Field / 字段", "Rule / 规则", "Reason / 原因"],
        found.first.iter().map(|invalid| {
            let violation = &invalid.violation;
            let words = schema.rule_in_chinese(&violation.pointer, &violation.rule);
            [
                invalid.line.to_string(),
                field(schema, &violation.pointer),
                format!("{} / {words}", violation.rule),
                violation.reason.clone(),
            ]
        }),
    ));
    page.push_str("</table>\n</body>\n</html>\n");
    page
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Validation report / 校验报告</title>
<style>
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35em .7em; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { background: #f4f4f4; }
</style>
</head>
<body>
<h1>Validation report / 校验报告</h1>
<table>
"#;

fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let cells = |cells: &mut dyn Iterator<Item = &str>, kind: &str| {
        cells.map(|cell| format!("<{kind}>{}</{kind}>", escaped(cell))).collect::<String>()
    };
    let mut text = format!("<tr>{}</tr>\n", cells(&mut heads.iter().copied(), "th"));
    for row in rows {
        let _ = writeln!(text, "<tr>{}</tr>", cells(&mut row.iter().map(String::as_str), "td"));
    }
    text
}

/// A field's pointer with its titles.
fn field(schema: &Schema, pointer: &str) -> String {
    let titles = [Language::English, Language::Chinese].map(|language| schema.field_title(pointer, language));
    let titles: Vec<&str> = titles.into_iter().flatten().collect();
    match pointer {
        "" => "—".into(),
        _ if titles.is_empty() => pointer.to_owned(),
        _ => format!("{pointer} ({})", titles.join(" / ")),
    }
}

/// Text as HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
