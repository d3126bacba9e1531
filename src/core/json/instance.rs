//! Makes the tape an instance that `jsonschema` validates in place, without building a tree.

use super::tape::{Kind, Node, Tape, Token};
use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node as JsonNode, NodeIdentity, Object};
use serde_json::{Number, Value};
use std::borrow::Cow;

/// The tape as a JSON representation for `jsonschema`.
pub struct TapeJson;

/// A value on a tape, as seen by `jsonschema`.
pub type Instance<'a> = Node<'a>;

impl Json for TapeJson {
    type Node<'a> = Node<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = Tape;
    // A lookup scans all members, so that one pass over them replaces several lookups.
    const KEYS_PER_LOOKUP: usize = 8;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>(buffer: &mut Tape, string: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        buffer.set_string(string);
        f(buffer.root())
    }
}

impl<'a> Node<'a> {
    fn token(self) -> Token {
        self.tape.tokens[self.at as usize]
    }

    /// The kind of this value.
    pub fn kind(self) -> Kind {
        self.token().kind
    }

    /// The members of an object, in the order of the source; none for other values.
    pub fn members(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        (self.kind() == Kind::Object).then(|| Members(Elements::of(self))).into_iter().flatten()
    }

    /// The values of an object's members, in the order of the source; none for other values.
    pub fn values(self) -> impl Iterator<Item = Node<'a>> {
        (self.kind() == Kind::Object).then(|| Values(Elements::of(self))).into_iter().flatten()
    }

    /// The elements of an array; none for other values.
    pub fn elements(self) -> impl Iterator<Item = Node<'a>> {
        (self.kind() == Kind::Array).then(|| Elements::of(self)).into_iter().flatten()
    }

    /// The text of a string, or the canonical form of a number.
    pub fn text(self) -> &'a str {
        self.tape.str_of(self.token())
    }

    /// Whether a number's text is that of the source.
    pub fn is_as_written(self) -> bool {
        self.tape.is_of_source(self.token())
    }

    /// Converts to a `serde_json` tree.
    pub fn value(self) -> Value {
        let token = self.token();
        match token.kind {
            Kind::Null => Value::Null,
            Kind::Boolean => Value::Bool(token.start == 1),
            Kind::Number => Value::Number(Lexeme(self.text()).number()),
            Kind::String => Value::String(self.text().to_owned()),
            Kind::Array => Value::Array(Elements::of(self).map(Node::value).collect()),
            Kind::Object => {
                Value::Object(Members(Elements::of(self)).map(|(name, node)| (name.to_owned(), node.value())).collect())
            }
        }
    }
}

/// A number in canonical form.
pub struct Lexeme<'a>(&'a str);

impl Lexeme<'_> {
    fn number(&self) -> Number {
        let float = || self.0.parse().ok().and_then(Number::from_f64);
        let integer = self.0.parse::<i64>().map(Number::from).or_else(|_| self.0.parse::<u64>().map(Number::from));
        // The tape holds finite numbers only.
        integer.ok().or_else(float).unwrap_or_else(|| Number::from(0))
    }
}

impl JsonNumber for Lexeme<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }
    fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }
    fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }
    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }
    fn to_number(&self) -> Cow<'_, Number> {
        Cow::Owned(self.number())
    }
    fn is_integer(&self) -> bool {
        // In canonical form an integer has no point, and has an exponent only from 1e21 upwards.
        !self.0.contains('.') && !self.0.contains("e-")
    }
}

impl<'a> JsonNode<'a, TapeJson> for Node<'a> {
    type Object = Fields<'a>;
    type Array = Items<'a>;
    type Number = Lexeme<'a>;

    fn as_object(&self) -> Option<Fields<'a>> {
        (self.kind() == Kind::Object).then_some(Fields(*self))
    }
    fn as_array(&self) -> Option<Items<'a>> {
        (self.kind() == Kind::Array).then_some(Items(*self))
    }
    fn as_string(&self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| Cow::Borrowed(self.text()))
    }
    fn as_number(&self) -> Option<Lexeme<'a>> {
        (self.kind() == Kind::Number).then(|| Lexeme(self.text()))
    }
    fn as_boolean(&self) -> Option<bool> {
        (self.kind() == Kind::Boolean).then(|| self.token().start == 1)
    }
    fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }
    fn json_type(&self) -> JsonType {
        match self.kind() {
            Kind::Null => JsonType::Null,
            Kind::Boolean => JsonType::Boolean,
            Kind::Number => JsonType::Number,
            Kind::String => JsonType::String,
            Kind::Array => JsonType::Array,
            Kind::Object => JsonType::Object,
        }
    }
    fn equals_value(&self, expected: &Value) -> bool {
        match (self.kind(), expected) {
            (Kind::String, Value::String(text)) => self.text() == text,
            (Kind::String, _) | (_, Value::String(_)) => false,
            _ => jsonschema::json::cmp::equal(&self.value(), expected),
        }
    }
    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(self.value())
    }
    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::tagged(std::ptr::from_ref(self.tape) as usize, self.at))
    }
}

/// The members of an object.
pub struct Fields<'a>(Node<'a>);

impl<'a> Object<'a, TapeJson> for Fields<'a> {
    type Node = Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.0.token().len as usize
    }
    fn get(&self, key: &Box<str>) -> Option<Node<'a>> {
        // Compare lengths first: most names already differ in length, which avoids reading their text.
        let mut names = Elements::of(self.0);
        while let Some(name) = names.next() {
            let value = names.next()?;
            if name.token().len as usize == key.len() && name.text() == &**key {
                return Some(value);
            }
        }
        None
    }
    fn members(&self) -> Members<'a> {
        Members(Elements::of(self.0))
    }
}

/// The elements of an array.
pub struct Items<'a>(Node<'a>);

impl<'a> Array<'a, TapeJson> for Items<'a> {
    type Node = Node<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.0.token().len as usize
    }
    fn elements(&self) -> Elements<'a> {
        Elements::of(self.0)
    }
    fn is_unique(&self) -> bool {
        let mut texts: Vec<&str> = Vec::with_capacity(self.len());
        for element in self.elements() {
            if element.kind() != Kind::String {
                let values: Vec<Cow<'a, Value>> = self.elements().map(|element| element.to_value()).collect();
                return jsonschema::json::unique::is_unique(&values);
            }
            texts.push(element.text());
        }
        texts.sort_unstable();
        texts.windows(2).all(|pair| pair[0] != pair[1])
    }
}

/// Iterates over the direct children of an array or object, both names and values.
pub struct Elements<'a> {
    tape: &'a Tape,
    at: u32,
    end: u32,
}

impl<'a> Elements<'a> {
    fn of(node: Node<'a>) -> Self {
        Self { tape: node.tape, at: node.at + 1, end: node.token().next }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;
    fn next(&mut self) -> Option<Node<'a>> {
        let node = Node { tape: self.tape, at: self.at };
        (self.at < self.end).then(|| {
            self.at = node.token().next;
            node
        })
    }
}

/// Iterates over the members of an object.
pub struct Members<'a>(Elements<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.next()?;
        Some((name.text(), self.0.next()?))
    }
}

/// Iterates over the values of an object's members.
struct Values<'a>(Elements<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Node<'a>;
    fn next(&mut self) -> Option<Node<'a>> {
        self.0.next()?;
        self.0.next()
    }
}
