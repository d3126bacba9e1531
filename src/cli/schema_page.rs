//! A page that describes a schema in English and Chinese.

use super::report::escaped;
use crate::schema::Schema;
use serde_json::Value;
use std::fmt::Write;

const STYLE: &str = r#"body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4em .7em; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { background: #f4f4f4; }
code { background: #f4f4f4; padding: 0 .2em; }
.zh { color: #555; }"#;

fn text<'a>(value: Option<&'a Value>, name: &str) -> &'a str {
    value.and_then(|value| value.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// The page.
pub fn page(schema: &Schema) -> String {
    let value = schema.value();
    let zh = value.get("x-zh");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n<p class=\"zh\" lang=\"zh\">{}</p>\n",
        escaped(text(Some(value), "description")),
        escaped(text(zh, "description")),
        title = escaped(&schema.title()),
    );
    let _ = writeln!(
        page,
        "<p><code>{}</code> {} · <code>{}</code></p>",
        escaped(schema.id()),
        escaped(schema.version()),
        schema.digest()
    );
    page.push_str(
        "<table>\n<tr><th>Field / 字段</th><th>Meaning / 含义</th><th>Value / 取值</th><th>Example / 示例</th></tr>\n",
    );
    let listed = |name: &str, of: &str| {
        value.get(of).and_then(Value::as_array).into_iter().flatten().any(|one| one.as_str() == Some(name))
    };
    for (name, _) in schema.columns() {
        let property = schema.property(name);
        let zh = property.get("x-zh");
        let mut marks = Vec::new();
        marks.extend(listed(name, "required").then_some("required / 必填"));
        marks.extend(listed(name, "x-key").then_some("key / 键"));
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code><br>{}</td><td><b>{}</b> {}<br><span class=\"zh\" lang=\"zh\"><b>{}</b> {}</span></td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            marks.join("<br>"),
            escaped(text(Some(property), "title")),
            escaped(text(Some(property), "description")),
            escaped(text(zh, "title")),
            escaped(text(zh, "description")),
            rules(schema, name),
            examples(schema, name),
        );
    }
    page.push_str("</table>\n</body>\n</html>\n");
    page
}

/// The rules of a field: type, format, listed values, bounds, unit, term.
fn rules(schema: &Schema, name: &str) -> String {
    let mut shown = Vec::new();
    let stated = |keyword: &str| schema.keyword(&format!("/{name}"), keyword);
    for keyword in [
        "type",
        "format",
        "pattern",
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "exclusiveMaximum",
        "maxLength",
        "maxItems",
    ] {
        if let Some(value) = stated(keyword) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            shown.push(format!("{keyword} <code>{}</code>", escaped(&value)));
        }
    }
    if let Some(values) = stated("enum").and_then(Value::as_array) {
        let values: Vec<String> = values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .map(|value| format!("<code>{}</code>", escaped(&value)))
            .collect();
        shown.push(values.join(" "));
    }
    for (keyword, words) in [("x-unit", "unit / 单位"), ("x-term", "term / 术语")] {
        if let Some(value) = stated(keyword).and_then(Value::as_str) {
            shown.push(format!("{words} <code>{}</code>", escaped(value)));
        }
    }
    shown.join("<br>")
}

fn examples(schema: &Schema, name: &str) -> String {
    let all = schema.keyword(&format!("/{name}"), "examples").and_then(Value::as_array);
    let shown = all.into_iter().flatten().map(|example| format!("<code>{}</code>", escaped(&example.to_string())));
    shown.collect::<Vec<_>>().join("<br>")
}
