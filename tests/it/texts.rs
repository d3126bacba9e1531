//! Texts that people read. ERRORS.md lists the errors, taken from the source: `CROSSPARK_UPDATE=1 cargo test texts` writes it
//! again. Words that only this project used, and phrases that must be read twice, stay out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What an error's text follows.
const MARKERS: &[&str] = &[
    "#[error(",
    "Error::invalid(",
    "Error::forbidden(",
    "Error::not_found(",
    "Error::Unavailable(",
    "JsonError::new(",
    "Violation::new(",
    "Err(format!(",
    "Problem::new(",
    "AllianceError::Refused(",
    "AssemblyError::Mismatch(",
    "file_error(",
    "bail!(",
    "anyhow!(",
    ".context(",
    ".with_context(",
    "let reason = ",
    "let detail = ",
    "let problem = ",
    "let hint = ",
];

/// Words and phrases that do not return, in code or prose.
const BANNED: &[&str] = &[
    "Stranger",
    "strangers",
    "Chore",
    "housekeep",
    "Interpose",
    "interposed",
    "whoever",
    "whomever",
    "Ruling",
    "rulings",
    "go_on",
    "must_stand",
    "believed_only",
    "leave to dial",
    "is no member",
    "nobody's word",
    "in its words",
    "at the moment",
    "trust.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The string literals up to the end of the statement or argument list that begins at `text`.
fn literals(text: &str) -> Vec<String> {
    let (mut found, mut depth, mut chars) = (Vec::new(), 1, text.char_indices().peekable());
    while let Some((_, c)) = chars.next() {
        match c {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ';' if depth <= 1 => break,
            '\'' => {
                // A character, such as '"'; lifetimes have no closing quote.
                let rest: Vec<char> = chars.clone().map(|(_, c)| c).take(3).collect();
                let length = match rest.as_slice() {
                    ['\\', _, '\''] => 3,
                    [_, '\'', ..] => 2,
                    _ => 0,
                };
                for _ in 0..length {
                    chars.next();
                }
            }
            '"' => {
                let mut literal = String::new();
                while let Some((_, c)) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            // A line that continues: its indentation is not part of the text.
                            Some((_, '\n')) => {
                                while chars.peek().is_some_and(|(_, c)| c.is_whitespace()) {
                                    chars.next();
                                }
                            }
                            Some((_, 'n')) => literal.push(' '),
                            Some((_, other)) => literal.push(other),
                            None => break,
                        },
                        other => literal.push(other),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
        if depth <= 0 {
            break;
        }
    }
    found
}

/// Whether a literal is a text for people, not a code or a name.
fn is_text(literal: &str) -> bool {
    literal.trim().contains(' ') && literal.chars().any(char::is_alphabetic)
}

fn errors() -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    let texts = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let after = MARKERS.iter().flat_map(|marker| text.match_indices(marker).map(|(at, m)| &text[at + m.len()..]));
        let texts: BTreeSet<String> = after.flat_map(literals).filter(|literal| is_text(literal)).collect();
        (path.strip_prefix(root()).unwrap().display().to_string(), texts)
    };
    let all = found.iter().filter(|path| !path.ends_with("tests.rs")).map(texts);
    all.filter(|(_, texts)| !texts.is_empty()).collect()
}

#[test]
fn errors_are_in_one_table() {
    let mut table = String::from(
        "# Errors\n\nThe texts of errors that users, operators and peers can see, by the file that reports them. Taken \
         from the source by\n`tests/it/texts.rs`; `{}` and `{name}` stand for values.\n\n| File | Text |\n|---|---|\n",
    );
    for (file, texts) in errors() {
        for text in texts {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            table += &format!("| `{file}` | {text} |\n");
        }
    }
    let path = root().join("ERRORS.md");
    if std::env::var_os("CROSSPARK_UPDATE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == table, "ERRORS.md is not what the source says: CROSSPARK_UPDATE=1 cargo test --test it texts");
}

#[test]
fn errors_are_sentences_without_a_full_stop() {
    let mut wrong = Vec::new();
    for (file, text) in
        errors().into_iter().flat_map(|(file, texts)| texts.into_iter().map(move |text| (file.clone(), text)))
    {
        let end = text.trim_end();
        if end.ends_with('!') || end.contains("can not ") || end.contains("n't ") {
            wrong.push(format!("{file}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn private_words_stay_out() {
    let mut found = Vec::new();
    ["src", "tests", "benches", "examples", "fuzz"].iter().for_each(|folder| files(&root().join(folder), &mut found));
    let documents = ["README.md", "ARCHITECTURE.md", "FORMATS.md", "CONTRIBUTING.md"];
    found.extend(documents.map(|name| root().join(name)));
    let mut wrong = Vec::new();
    for path in found.iter().filter(|path| !path.ends_with("tests/it/texts.rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        wrong.extend(
            BANNED.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the Chinese README must share with the English one: headings, paragraphs with a title, code, rows and items.
fn outline(text: &str) -> Vec<String> {
    let (mut found, mut code) = (Vec::new(), false);
    for line in text.lines() {
        let fence = line.starts_with("```");
        code ^= fence;
        if code || fence {
            found.push(line.to_owned());
            continue;
        }
        let kinds = ["# ", "## ", "**", "| ", "- "];
        found.extend(kinds.into_iter().filter(|kind| line.starts_with(kind)).map(str::to_owned));
    }
    found
}

#[test]
fn the_chinese_readme_follows_the_english_one() {
    let read = |name: &str| outline(&std::fs::read_to_string(root().join(name)).unwrap());
    let (english, chinese) = (read("README.md"), read("README.zh.md"));
    let differs = english.iter().zip(&chinese).position(|(one, other)| one != other);
    assert_eq!(differs.map(|at| (&english[at], &chinese[at])), None);
    assert_eq!(english.len(), chinese.len());
}
