//! A JSON text as a flat list of tokens over one buffer, parsed in one pass; the buffers are reused for the next text.

use super::number::{self, NumberError};
use super::shape::Shapes;
use crate::core::limits;
use std::sync::Arc;

/// Why a text is not acceptable JSON, and the byte offset of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (byte {offset})")]
pub struct JsonError {
    /// The problem and its remedy.
    pub problem: String,
    /// Byte offset in the text.
    pub offset: usize,
    /// JSON pointer (RFC 6901) of the value; empty for the whole text.
    pub pointer: String,
}

impl JsonError {
    pub(super) fn new(problem: impl Into<String>, offset: usize) -> Self {
        Self { problem: problem.into(), offset, pointer: String::new() }
    }

    /// The same error, seen from the object or array whose member `name` it is in.
    fn within(mut self, name: &str) -> Self {
        self.pointer.insert_str(0, &pointer_part(name));
        self
    }
}

/// A member's name as a part of a JSON pointer that is shown to people; a long name is cut.
pub fn pointer_part(name: &str) -> String {
    let name: String = name.chars().take(POINTER_NAME_CHARS_MAX).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Characters shown of a name in a pointer.
const POINTER_NAME_CHARS_MAX: usize = 60;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number; its text is the canonical form.
    Number,
    /// A string, unescaped.
    String,
    /// An array; its elements follow.
    Array,
    /// An object; names and values follow in turn.
    Object,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub kind: Kind,
    /// Strings and numbers: the span of `text`. Booleans: `start` is 0 or 1.
    /// Objects: `start` is the index in `order` of the first member.
    pub start: u32,
    /// Strings and numbers: length in bytes. Arrays and objects: number of elements or members.
    pub len: u32,
    /// Index of the first token after this value and its contents.
    pub next: u32,
}

/// A parsed JSON text. Reuse one for many texts, as it keeps its buffers.
#[derive(Debug, Default)]
pub struct Tape {
    /// The source text, followed by the unescaped strings and rewritten numbers.
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    /// For each object, its name tokens in the order of RFC 8785 section 3.2.3.
    pub(super) order: Vec<u32>,
    shapes: Shapes,
    scratch: Vec<u32>,
    doubles: Doubles,
    /// Length of the source text.
    source: u32,
    /// Number tokens whose decimal value was changed to that of the double.
    changed: Vec<u32>,
}

/// Where numbers are read as binary doubles.
#[derive(Debug, Clone, Default)]
enum Doubles {
    #[default]
    Nowhere,
    /// In these properties of the top-level object, sorted.
    In(Arc<[String]>),
    Everywhere,
}

/// A value on a tape.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub(super) tape: &'a Tape,
    pub(super) at: u32,
}

impl Tape {
    /// A tape that reads the numbers of these properties (sorted) of the top-level object as binary doubles: their
    /// decimal value may change to that of the double's canonical form.
    pub fn with_doubles(doubles: Arc<[String]>) -> Self {
        Self { doubles: if doubles.is_empty() { Doubles::Nowhere } else { Doubles::In(doubles) }, ..Self::default() }
    }

    /// A tape that reads all numbers as binary doubles, and tells which ones it changed.
    pub fn of_doubles() -> Self {
        Self { doubles: Doubles::Everywhere, ..Self::default() }
    }

    /// Whether a number's decimal value was changed to that of the double.
    pub fn has_changed(&self, number: Node<'_>) -> bool {
        self.changed.binary_search(&number.at).is_ok()
    }

    /// Whether any number's was.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Parses one JSON text and replaces the previous content.
    ///
    /// # Errors
    /// Rejects what RFC 8259 forbids and, in addition, equal names in one object, numbers whose value the canonical
    /// form cannot keep, lone surrogates and more than [`limits::JSON_DEPTH_MAX`] levels.
    pub fn parse(&mut self, source: &[u8]) -> Result<(), JsonError> {
        self.tokens.clear();
        self.order.clear();
        self.text.clear();
        self.changed.clear();
        self.shapes.forget_last();
        let text = std::str::from_utf8(source)
            .map_err(|error| JsonError::new("the text is not UTF-8; convert the file to UTF-8", error.valid_up_to()))?;
        if text.len() > u32::MAX as usize / 4 {
            return Err(JsonError::new("the text is too long", 0));
        }
        self.text.push_str(text);
        self.source = text.len() as u32;
        let double = matches!(self.doubles, Doubles::Everywhere);
        let mut parser = Parser { tape: self, source, at: 0, double };
        parser.space();
        parser.value(0)?;
        parser.space();
        if parser.at < source.len() {
            return Err(parser.error("unexpected text after the end of the value"));
        }
        Ok(())
    }

    /// The top-level value.
    pub fn root(&self) -> Node<'_> {
        Node { tape: self, at: 0 }
    }

    /// Replaces the content by a single string.
    pub(super) fn set_string(&mut self, string: &str) {
        self.tokens.clear();
        self.order.clear();
        self.text.clear();
        self.text.push_str(string);
        self.tokens.push(Token { kind: Kind::String, start: 0, len: string.len() as u32, next: 1 });
    }

    /// A number that all top-level objects with the same names in the same order have, and no others; `None` if it is
    /// not known. Of all tapes.
    pub fn shape(&self) -> Option<u64> {
        self.shapes.last().filter(|_| self.root().kind() == Kind::Object)
    }

    /// Puts the members of the object at `object` in canonical order; returns the token of a name that appears twice.
    fn order_members(&mut self, object: usize) -> Option<u32> {
        let Token { start, len, .. } = self.tokens[object];
        let Self { text, tokens, order, shapes, scratch, .. } = self;
        scratch.clear();
        let mut at = object as u32 + 1;
        for _ in 0..len {
            scratch.push(at);
            at = tokens[at as usize + 1].next;
        }
        let order = &mut order[start as usize..(start + len) as usize];
        let repeated = shapes.order(order, |member| {
            let name = tokens[scratch[member as usize] as usize];
            &text[name.start as usize..(name.start + name.len) as usize]
        });
        order.iter_mut().for_each(|member| *member = scratch[*member as usize]);
        repeated.map(|member| scratch[member as usize])
    }

    /// Whether a token's text stands in the source.
    pub(super) fn is_of_source(&self, token: Token) -> bool {
        token.start < self.source
    }

    pub(super) fn str_of(&self, token: Token) -> &str {
        &self.text[token.start as usize..(token.start + token.len) as usize]
    }
}

pub(super) struct Parser<'t, 's> {
    pub(super) tape: &'t mut Tape,
    pub(super) source: &'s [u8],
    pub(super) at: usize,
    /// Whether a number here is a binary double.
    double: bool,
}

impl Parser<'_, '_> {
    pub(super) fn error(&self, problem: impl Into<String>) -> JsonError {
        JsonError::new(problem, self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    pub(super) fn push(&mut self, kind: Kind, start: usize, len: usize) -> Result<usize, JsonError> {
        let index = self.tape.tokens.len();
        if index >= limits::JSON_TOKENS_MAX {
            return Err(self.error(format!("more than {} values in one text", limits::JSON_TOKENS_MAX)));
        }
        self.tape.tokens.push(Token { kind, start: start as u32, len: len as u32, next: index as u32 + 1 });
        Ok(index)
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Kind::Boolean, 1),
            Some(b'f') => self.literal("false", Kind::Boolean, 0),
            Some(b'n') => self.literal("null", Kind::Null, 0),
            Some(b'N' | b'I') => Err(self.error("NaN and Infinity are not JSON numbers; leave the property out")),
            Some(_) => Err(self.error("expected a JSON value")),
            None => Err(self.error("the text ends where a value is expected")),
        }
    }

    fn literal(&mut self, literal: &str, kind: Kind, start: usize) -> Result<(), JsonError> {
        if !self.source[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.error("expected a JSON value"));
        }
        self.push(kind, start, 0)?;
        self.at += literal.len();
        Ok(())
    }

    fn enter(&self, depth: usize) -> Result<(), JsonError> {
        if depth < limits::JSON_DEPTH_MAX {
            return Ok(());
        }
        Err(self.error(format!("nested deeper than {} levels", limits::JSON_DEPTH_MAX)))
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        let index = self.push(Kind::Array, 0, 0)?;
        self.at += 1;
        let mut count = 0u32;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.space();
                self.value(depth + 1).map_err(|error| error.within(&count.to_string()))?;
                count += 1;
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break self.at += 1,
                    _ => return Err(self.error("expected `,` or `]`")),
                }
            }
        }
        self.close(index, count);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        let begin = self.at;
        let index = self.push(Kind::Object, 0, 0)?;
        self.at += 1;
        let mut count = 0u32;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.space();
                if self.peek() != Some(b'"') {
                    return Err(self.error("expected a property name in double quotes"));
                }
                let name = self.tape.tokens.len();
                self.string()?;
                self.space();
                if self.peek() != Some(b':') {
                    return Err(self.error("expected `:`"));
                }
                self.at += 1;
                self.space();
                self.double = self.holds_double(name, depth);
                if let Err(error) = self.value(depth + 1) {
                    return Err(error.within(self.tape.str_of(self.tape.tokens[name])));
                }
                count += 1;
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return Err(self.error("expected `,` or `}`")),
                }
            }
        }
        let order = self.tape.order.len();
        self.tape.order.resize(order + count as usize, 0);
        self.tape.tokens[index].start = order as u32;
        self.close(index, count);
        match self.tape.order_members(index) {
            None => Ok(()),
            Some(token) => {
                let name = self.tape.str_of(self.tape.tokens[token as usize]);
                let name: String = name.chars().take(60).collect();
                Err(JsonError::new(format!("the property `{name}` appears twice in one object"), begin))
            }
        }
    }

    /// Whether the property with this name token holds binary doubles.
    fn holds_double(&self, name: usize, depth: usize) -> bool {
        match &self.tape.doubles {
            Doubles::Nowhere => false,
            Doubles::In(names) => {
                let name = self.tape.str_of(self.tape.tokens[name]);
                depth == 0 && names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
            }
            Doubles::Everywhere => true,
        }
    }

    fn close(&mut self, index: usize, count: u32) {
        let next = self.tape.tokens.len() as u32;
        let token = &mut self.tape.tokens[index];
        (token.len, token.next) = (count, next);
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let begin = self.at;
        let end = number::scan(self.source, begin).map_err(|at| {
            JsonError::new("not a JSON number (no leading zeros, no `+`, digits on both sides of the point)", at)
        })?;
        let lexeme = &self.source[begin..end];
        if number::is_canonical(lexeme) {
            self.push(Kind::Number, begin, end - begin)?;
        } else {
            let lexeme = &self.tape.text[begin..end];
            let canonical = match number::canonical(lexeme) {
                Err(NumberError::Changes(double)) if self.double => {
                    self.tape.changed.push(self.tape.tokens.len() as u32);
                    double
                }
                canonical => canonical.map_err(|error| self.number_error(error, begin, end))?,
            };
            let start = self.tape.text.len();
            self.tape.text.push_str(&canonical);
            self.push(Kind::Number, start, canonical.len())?;
        }
        self.at = end;
        Ok(())
    }

    fn number_error(&self, error: NumberError, begin: usize, end: usize) -> JsonError {
        let lexeme: String = self.tape.text[begin..end].chars().take(40).collect();
        let problem = match error {
            NumberError::Changes(as_what) => {
                // Large whole numbers are identifiers more often than quantities.
                let whole = lexeme.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                let remedy = if whole { "" } else { "round it, or " };
                let doubles = if whole { "" } else { ", or has the format double" };
                format!(
                    "the number {lexeme} cannot be kept exactly (it would become {as_what}): {remedy}use a schema in which \
                     the property is a string{doubles}"
                )
            }
            NumberError::OutOfRange => {
                format!("the number {lexeme} is out of range: use a schema in which the property is a string")
            }
        };
        JsonError::new(problem, begin)
    }
}
