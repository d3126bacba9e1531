//! The elements of an array in a JSON document, one a line.

use super::invalid;
use crate::core::limits;
use std::io::{self, Read};

/// Bytes read in one step.
const STEP_BYTES: usize = 64 * 1024;

/// The elements of the array at a JSON pointer, as NDJSON: without the line ends inside, and mostly on the line where each
/// begins, so that errors name it. Only the outline of the document is checked here; each element is checked when it is
/// parsed.
pub struct Elements<R> {
    source: R,
    raw: Vec<u8>,
    out: Vec<u8>,
    at: usize,
    ended: bool,
    state: State,
}

impl<R: Read> Elements<R> {
    /// The elements of the array at `pointer`; of the whole document, if it is empty.
    pub fn new(source: R, pointer: &str) -> Self {
        let parts = pointer.split('/').skip(1);
        let path = parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        Self { source, raw: Vec::new(), out: Vec::new(), at: 0, ended: false, state: State::new(path, pointer) }
    }

    fn step(&mut self) -> io::Result<()> {
        self.raw.clear();
        self.source.by_ref().take(STEP_BYTES as u64).read_to_end(&mut self.raw)?;
        self.ended = self.raw.len() < STEP_BYTES;
        self.out.clear();
        self.at = 0;
        for b in &self.raw {
            self.state
                .byte(*b, &mut self.out)
                .map_err(|problem| invalid(format!("line {}: {problem}", self.state.line)))?;
        }
        if self.ended { self.state.end().map_err(invalid) } else { Ok(()) }
    }
}

impl<R: Read> Read for Elements<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() && !self.ended {
            self.step()?;
        }
        let rest = &self.out[self.at..];
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

/// What the last bytes were, outside of and inside the array.
struct State {
    pointer: String,
    /// The members that lead to the array.
    path: Vec<String>,
    /// How many of them were found; the array is their value.
    found: usize,
    /// Open objects and arrays, by their closing bracket.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// A name that may be the next part of the path.
    name: Vec<u8>,
    /// Whether a string is the name of a member.
    names: bool,
    part: Part,
    line: u64,
    /// The line that is written.
    written: u64,
    /// Whether anything of the present element is written.
    begun: bool,
    /// Whether a comma came before it.
    comma: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Within,
    After,
}

impl State {
    fn new(path: Vec<String>, pointer: &str) -> Self {
        Self {
            pointer: pointer.to_owned(),
            path,
            found: 0,
            open: Vec::new(),
            in_string: false,
            escaped: false,
            name: Vec::new(),
            names: false,
            part: Part::Before,
            line: 1,
            written: 1,
            begun: false,
            comma: false,
        }
    }

    fn byte(&mut self, b: u8, out: &mut Vec<u8>) -> Result<(), String> {
        self.line += u64::from(b == b'\n');
        if self.in_string {
            self.string(b);
            if self.part == Part::Within {
                out.push(b);
            } else if self.names && self.in_string && self.name.len() <= limits::TEXT_CHARS_MAX {
                self.name.push(b);
            }
            return Ok(());
        }
        match self.part {
            Part::Before => self.before(b),
            Part::Within => self.within(b, out),
            Part::After => self.after(b),
        }
    }

    fn string(&mut self, b: u8) {
        match b {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    fn brackets(&mut self, b: u8) -> Result<(), String> {
        match b {
            b'"' => self.in_string = true,
            b'[' => self.open.push(b']'),
            b'{' => self.open.push(b'}'),
            b']' | b'}' if self.open.pop() != Some(b) => {
                return Err(format!("`{}` closes nothing here", char::from(b)));
            }
            _ => {}
        }
        if self.open.len() > limits::JSON_DEPTH_MAX {
            return Err(format!("nested deeper than {} levels", limits::JSON_DEPTH_MAX));
        }
        Ok(())
    }

    /// On the way to the array.
    fn before(&mut self, b: u8) -> Result<(), String> {
        let here = self.open.len() == self.found && self.found == self.path.len();
        if b == b'[' && here {
            self.part = Part::Within;
            return self.brackets(b);
        }
        if here && self.found > 0 && !b.is_ascii_whitespace() && b != b':' {
            return Err(format!("what is at {} is not an array", self.pointer));
        }
        self.found += usize::from(self.is_name(b, self.found));
        self.brackets(b)
    }

    /// In the array.
    fn within(&mut self, b: u8, out: &mut Vec<u8>) -> Result<(), String> {
        let depth = self.open.len();
        self.brackets(b)?;
        let between = depth == self.found + 1;
        if between && self.open.len() < depth {
            if self.comma && !self.begun {
                return Err("an element is missing before this bracket".into());
            }
            self.part = Part::After;
            if self.begun {
                out.push(b'\n');
            }
            return Ok(());
        }
        match b {
            b',' if between && self.begun => {
                out.push(b'\n');
                self.written += 1;
                (self.begun, self.comma) = (false, true);
            }
            b',' if between => return Err("an element is missing before this comma".into()),
            b' ' | b'\t' | b'\r' | b'\n' if !self.begun => {}
            // Kept as spaces: 1 2 is not 12.
            b'\r' | b'\n' => out.push(b' '),
            _ => {
                if !self.begun {
                    // Blank lines are not records.
                    while self.written < self.line {
                        out.push(b'\n');
                        self.written += 1;
                    }
                }
                self.begun = true;
                out.push(b);
            }
        }
        Ok(())
    }

    /// After the array.
    fn after(&mut self, b: u8) -> Result<(), String> {
        if self.open.is_empty() && !b.is_ascii_whitespace() {
            return Err("there is more after the end of the document: give one document, or one record a line".into());
        }
        if self.is_name(b, self.path.len().saturating_sub(1)) {
            return Err(format!("the document has {} twice", self.pointer));
        }
        self.brackets(b)
    }

    /// Whether a name ends here that is this part of the path, in an object at its depth.
    fn is_name(&mut self, b: u8, part: usize) -> bool {
        match b {
            // A string in an object on the path: a name, unless a colon came before.
            b'"' => {
                self.names = self.open.len() == part + 1 && self.open.last() == Some(&b'}');
                self.name.clear();
            }
            b':' if self.names => {
                let wanted = self.path.get(part).map(|part| serde_json::to_string(part).unwrap_or_default());
                let name = format!("\"{}\"", String::from_utf8_lossy(&self.name));
                self.names = false;
                return wanted.as_deref() == Some(&name);
            }
            _ => {}
        }
        false
    }

    fn end(&self) -> Result<(), String> {
        match self.part {
            Part::Before if self.path.is_empty() => {
                Err("the document is not an array: give the pointer of the array of records, such as --at /data".into())
            }
            Part::Before => Err(format!("the document has no array at {}", self.pointer)),
            _ if !self.open.is_empty() || self.in_string => Err("the document is cut off: it does not end".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn elements(text: &str, pointer: &str) -> Result<String, String> {
        let mut found = String::new();
        let read = Elements::new(text.as_bytes(), pointer).read_to_string(&mut found);
        read.map(|_| found).map_err(|error| error.to_string())
    }

    #[test]
    fn elements_stand_on_lines() {
        for (text, pointer, expected) in [
            ("[]", "", ""),
            ("[{\"a\":1},{\"a\":2}]", "", "{\"a\":1}\n{\"a\":2}\n"),
            ("[\n  {\"a\": 1,\n   \"b\": \"x, ] }\"},\n  2\n]\n", "", "\n{\"a\": 1,    \"b\": \"x, ] }\"}\n\n2 \n"),
            ("{\"n\":1,\"data\":[1,[2,3]],\"data2\":[4]}", "/data", "1\n[2,3]\n"),
            ("{\"x\":{\"data\":[9]},\"y\":{\"data\":[1]}}", "/y/data", "1\n"),
            ("{\"data\":\"data\",\"a/b\":[{\"s\":\"\\\"\"}]}", "/a~1b", "{\"s\":\"\\\"\"}\n"),
            ("{\"数据\":[1]}", "/数据", "1\n"),
        ] {
            assert_eq!(elements(text, pointer).as_deref(), Ok(expected), "{text} {pointer}");
        }
    }

    #[test]
    fn other_documents_are_refused() {
        for (text, pointer, part) in [
            ("", "", "not an array"),
            ("{}", "", "not an array"),
            ("{\"data\":{}}", "/data", "is not an array"),
            ("{\"datum\":[1]}", "/data", "no array at /data"),
            ("[1,", "", "cut off"),
            ("[1,,2]", "", "line 1: an element is missing"),
            ("[{\"a\":1]", "", "closes nothing"),
            ("[1,]", "", "missing before this bracket"),
            ("[1] [2]", "", "more after the end"),
            ("[1] x", "", "more after the end"),
            ("{\"data\":[1],\"data\":[2]}", "/data", "has /data twice"),
            ("[\"abc", "", "cut off"),
        ] {
            let found = elements(text, pointer).unwrap_err();
            assert!(found.contains(part), "{text}: {found}");
        }
        assert!(elements(&"[".repeat(100_000), "").unwrap_err().contains("nested deeper"));
    }

    #[test]
    fn values_are_not_joined() {
        assert_eq!(elements("[{\"a\":1 2},- 5]", "").as_deref(), Ok("{\"a\":1 2}\n- 5\n"));
        assert_eq!(elements("[1\n2]", "").as_deref(), Ok("1 2\n"));
    }

    proptest! {
        #[test]
        fn every_array_is_divided_as_it_is_parsed(values in prop::collection::vec("\\PC{0,8}", 1..20), pretty in any::<bool>()) {
            let array: Vec<Value> = values.iter().map(|text| json!({"text": text, "list": [text, {"n": 1}]})).collect();
            let document = json!({"before": {"items": 3}, "deep": {"items": array}});
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let found = elements(&text.unwrap(), "/deep/items").unwrap();
            let lines: Vec<Value> = found.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(lines, array);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\]{}\",:a1 \\n\\\\]{0,40}", pointer in "(/a)?") {
            let _ = elements(&text, &pointer);
        }
    }
}
