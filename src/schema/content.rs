//! Records that describe files: the keyword `x-content`. Such a record states where a file belongs, how long it is and what
//! its digest is; the file itself is delivered beside the records. FORMATS.md, "Schema".

use super::error::SchemaError;
use super::violation::Violation;
use crate::core::digest::Digest;
use crate::core::json::{Kind, Tape};
use crate::core::limits;
use crate::core::visible::{is_invisible, is_override};
use serde_json::{Value, json};
use unicode_normalization::is_nfc;

/// The keyword, and the rule of a record that describes no file.
pub const RULE_CONTENT: &str = "x-content";

/// A file, as its record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Path in the dataset, with `/` between folders.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub digest: Digest,
}

impl Content {
    /// The file that the record on `tape` describes.
    pub fn of(tape: &Tape) -> Result<Self, Violation> {
        let of_kind = |name: &str, kind: Kind| {
            let found = tape.root().members().find(|(other, value)| *other == name && value.kind() == kind);
            found.map(|(_, value)| value.text()).unwrap_or_default()
        };
        let wrong = |name: &str, reason: String, value: &str| {
            Err(Violation::new(format!("/{name}"), RULE_CONTENT, reason).of(value))
        };
        let (path, size, digest) =
            (of_kind("path", Kind::String), of_kind("size", Kind::Number), of_kind("digest", Kind::String));
        if let Some(problem) = path_problem(path) {
            return wrong("path", problem, path);
        }
        let Some(bytes) = size.parse().ok().filter(|bytes| *bytes <= limits::CONTAINER_BYTES_MAX) else {
            return wrong("size", "it must be the size of the file in bytes".into(), size);
        };
        match Digest::parse(digest) {
            Ok(digest) => Ok(Self { path: path.to_owned(), size: bytes, digest }),
            Err(error) => wrong("digest", format!("{error}, the SHA-256 of the file"), digest),
        }
    }
}

/// Longest name of a file or folder on common file systems.
const NAME_BYTES_MAX: usize = 255;

/// Why a path is not the same file in a folder of every system, if it is not.
pub fn path_problem(path: &str) -> Option<String> {
    if path.len() > limits::FILE_PATH_BYTES_MAX {
        return Some(format!("a path has at most {} bytes", limits::FILE_PATH_BYTES_MAX));
    }
    path.split('/').find_map(|name| {
        let reserved = |c: &char| {
            c.is_control()
                || is_override(*c)
                || is_invisible(*c)
                || matches!(c, '\u{2028}' | '\u{2029}')
                || r#"\:*?"<>|"#.contains(*c)
        };
        if name.is_empty() {
            return Some("it must be a path within the dataset, as in drawings/hall.pdf".into());
        }
        if name == ".." || name == "." {
            return Some(format!("`{name}` is not a name of a folder"));
        }
        if let Some(found) = name.chars().find(reserved) {
            return Some(format!("{found:?} may stand in no name of a file"));
        }
        if name.len() > NAME_BYTES_MAX {
            return Some(format!("a name of a file or folder has at most {NAME_BYTES_MAX} bytes"));
        }
        if name.ends_with('.') || name.trim() != name {
            return Some(format!(
                "{name:?} begins or ends with a space, or ends with a dot, which some systems remove"
            ));
        }
        if !is_nfc(name) {
            return Some(format!("{name:?} has letters in parts, which are one letter on some systems (Unicode NFC)"));
        }
        let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
        let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        let device = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"].contains(&stem.as_str())
            || numbered.is_some_and(|rest| rest.chars().count() == 1 && "0123456789¹²³".contains(rest));
        device.then(|| format!("`{name}` is the name of a device on Windows"))
    })
}

/// Whether the records describe files.
pub(super) fn stated(schema: &Value) -> Result<bool, SchemaError> {
    let invalid = |problem: String| Err(SchemaError::Invalid { pointer: format!("/{RULE_CONTENT}"), problem });
    match schema.get(RULE_CONTENT) {
        None => return Ok(false),
        Some(Value::Bool(true)) => {}
        Some(_) => return invalid("must be true, or absent".into()),
    }
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &&&str| required.is_some_and(|all| all.iter().any(|one| one == **name));
    if let Some(missing) = ["path", "size", "digest"].iter().find(|name| !is_required(name)) {
        return invalid(format!("the records of files have a required property `{missing}`"));
    }
    match schema.get("x-key") == Some(&json!(["path"])) {
        true => Ok(true),
        false => invalid("the key of files is their path: \"x-key\": [\"path\"]".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn paths_stay_in_their_folder_on_every_system() {
        for (path, accepted) in [
            ("a.pdf", true),
            ("图纸/一层 平面图.dwg", true),
            (".hidden/a", true),
            ("a..b", true),
            ("console.txt", true),
            ("COM10", true),
            ("", false),
            ("/etc/passwd", false),
            ("a//b", false),
            ("a/", false),
            ("../a", false),
            ("a/../b", false),
            ("./a", false),
            ("a\\..\\b", false),
            ("C:a", false),
            ("a\0b", false),
            ("a\nb", false),
            ("con", false),
            ("a/NUL.txt", false),
            ("com1.log", false),
            ("LPT¹", false),
            ("a ", false),
            ("a./b", false),
            ("a\u{A0}", false),
            ("é.pdf", true),
            ("e\u{301}.pdf", false),
            ("hall-1\u{202E}fdp.exe", false),
            ("a\u{200B}", false),
            ("a\u{2028}b", false),
            ("conin$", false),
            (&"模".repeat(85), true),
            (&"模".repeat(86), false),
        ] {
            assert_eq!(path_problem(path).is_none(), accepted, "{path:?} {:?}", path_problem(path));
        }
        assert!(path_problem(&"x".repeat(limits::FILE_PATH_BYTES_MAX + 1)).is_some());
    }

    proptest! {
        #[test]
        fn an_accepted_path_has_only_names(path in r"[a.\\/:~ \x00-\x1f模]{0,12}") {
            if path_problem(&path).is_none() {
                prop_assert!(Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))));
                let parts: Vec<_> = Path::new(&path).iter().filter_map(|part| part.to_str()).collect();
                prop_assert_eq!(parts.join("/"), path);
            }
        }
    }
}
