//! What is known of one field: its types, its bounds, the formats that all its texts have.

use super::super::formats::{self, FORMATS};
use super::names;
use crate::core::json::{Kind, Node, Tape, number};
use crate::core::limits;
use serde_json::{Map, Value, json};

/// Whether a text has a format.
type Has = fn(&str) -> bool;

/// Formats that are recognised, the most special first. Codes are among them only if a text of another kind hardly looks
/// like one.
const RECOGNISED: &[(&str, Has)] = &[
    ("date", |text| is_date(text)),
    ("date-time", |text| crate::core::time::Timestamp::parse(text).is_ok()),
    ("uscc", |text| ours("uscc", text)),
    ("lei", |text| ours("lei", text)),
    ("isin", |text| ours("isin", text)),
    ("iso-3166-2", |text| ours("iso-3166-2", text)),
    ("iso-3166-1", |text| ours("iso-3166-1", text)),
    ("iso-4217", |text| ours("iso-4217", text)),
    ("period", |text| ours("period", text)),
    ("uuid", is_uuid),
    ("iri", is_address),
    ("text", |text| ours("text", text)),
];

fn ours(format: &str, text: &str) -> bool {
    let (_, check) = FORMATS.iter().find(|(name, _)| *name == format).expect("one of ours");
    check(text).is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && crate::core::time::Timestamp::parse(&format!("{text}T00:00:00Z")).is_ok()
}

fn is_address(text: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c);
    !text.contains(is_odd) && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// A truth value in words.
fn is_truth(text: &str) -> bool {
    let known = ["是", "否", "有", "无", "对", "错", "yes", "no", "y", "n", "true", "false", "t", "f"];
    known.contains(&text.to_lowercase().as_str())
}

/// Year, month and day, separated otherwise than in ISO 8601: 2026/12/1, 2026.12.01, 2026年12月1日, 1/12/2026.
fn is_other_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['/', '.', '年', '月', '日']).filter(|part| !part.is_empty()).collect();
    let numbers = parts.iter().all(|part| part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit()));
    let has_year = parts.iter().any(|part| part.len() == 4);
    numbers && has_year && parts.len() == 3 && text.chars().count() <= 11
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Values of a field that has only a few.
const LISTED_MAX: usize = 12;
/// Each of them stands in so many records on average.
const LISTED_TIMES_MIN: u64 = 10;
const LISTED_CHARS_MAX: usize = 40;
/// Lengths that texts are proposed to have at most.
const LENGTHS: &[u64] =
    &[10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 10_000_000];

/// What is known of the values of one field.
#[derive(Default)]
pub struct Field {
    /// Values, null included.
    pub seen: u64,
    nulls: u64,
    booleans: u64,
    texts: Texts,
    numbers: Numbers,
    /// Texts of a CSV file that are numbers or booleans.
    cells: Cells,
    objects: u64,
    /// Members of the objects, in the order in which they were first seen.
    members: Vec<(String, Field)>,
    lists: u64,
    longest_list: u64,
    items: Option<Box<Field>>,
    /// Whether there was more than is described.
    is_cut: bool,
}

#[derive(Default)]
struct Cells {
    numbers: Numbers,
    booleans: u64,
    /// Texts that stand for a missing number.
    missing: u64,
    /// Lists and objects, written as JSON.
    nested: Option<Box<Field>>,
}

/// How the cells of a table are to be read.
pub trait Spelling {
    /// The number in a cell as JSON writes it.
    fn number(&self, cell: &str) -> Option<String>;

    /// Whether a cell has no value where others have numbers.
    fn is_missing(&self, cell: &str) -> bool;
}

#[derive(Default)]
struct Numbers {
    count: u64,
    fractions: u64,
    /// Decimals that a double does not hold exactly.
    doubles: u64,
    bounds: Option<(f64, f64)>,
}

impl Numbers {
    fn add(&mut self, value: f64, changed: bool) {
        self.count += 1;
        self.fractions += u64::from(value.fract() != 0.0);
        self.doubles += u64::from(changed);
        let (low, high) = self.bounds.unwrap_or((value, value));
        self.bounds = Some((low.min(value), high.max(value)));
    }

    fn keywords(&self, schema: &mut Map<String, Value>) {
        if self.doubles > 0 {
            schema.insert("format".into(), formats::FORMAT_DOUBLE.into());
        }
        let Some((low, high)) = self.bounds else { return };
        let bound = |value: f64| if value == 0.0 { Some(0.0) } else { power_beyond(value) };
        if low >= 0.0 {
            schema.insert("minimum".into(), json!(0));
        } else if let Some(low) = bound(low) {
            schema.insert("minimum".into(), whole(low));
        }
        if let Some(high) = bound(high).filter(|high| *high > 0.0) {
            schema.insert("maximum".into(), whole(high));
        }
    }
}

/// The power of ten that is further from zero than `value`, if it is a number that people read.
fn power_beyond(value: f64) -> Option<f64> {
    let power = value.abs().log10().ceil().clamp(0.0, 16.0) as i32;
    let bound = 10f64.powi(power);
    (value.abs() <= bound && power < 16).then_some(bound.copysign(value))
}

/// A whole number without a fraction part.
fn whole(value: f64) -> Value {
    json!(value as i64)
}

struct Texts {
    count: u64,
    /// Those that are dates in another spelling.
    dates: u64,
    empty: u64,
    longest: u64,
    /// Which of the recognised formats all texts have.
    formats: u32,
    /// The different texts, as long as they are few.
    listed: Option<Vec<String>>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { count: 0, dates: 0, empty: 0, longest: 0, formats: u32::MAX, listed: Some(Vec::new()) }
    }
}

impl Texts {
    fn add(&mut self, text: &str) {
        self.count += 1;
        self.empty += u64::from(text.is_empty());
        self.dates += u64::from(is_other_date(text));
        let chars = text.chars().count();
        self.longest = self.longest.max(chars as u64);
        for (n, (_, has)) in RECOGNISED.iter().enumerate() {
            if self.formats & (1 << n) != 0 && !has(text) {
                self.formats &= !(1 << n);
            }
        }
        if let Some(listed) = &mut self.listed
            && !listed.iter().any(|known| known == text)
        {
            listed.push(text.to_owned());
            if listed.len() > LISTED_MAX || chars > LISTED_CHARS_MAX || text.is_empty() {
                self.listed = None;
            }
        }
    }

    /// The most special format that all texts of the field `name` have.
    fn format(&self, name: &str) -> Option<&'static str> {
        let mut common = RECOGNISED.iter().enumerate().filter(|(n, _)| self.formats & (1 << n) != 0);
        let found = common.find(|(_, (format, _))| names::may_be(name, format));
        found.filter(|_| self.count > 0).map(|(_, (format, _))| *format)
    }

    /// The values, if they are few and each is frequent.
    fn values(&self, name: &str) -> Option<&Vec<String>> {
        let often = |listed: &&Vec<String>| self.count >= LISTED_TIMES_MIN * listed.len() as u64 && listed.len() > 1;
        self.listed.as_ref().filter(often).filter(|_| matches!(self.format(name), None | Some("text")))
    }

    fn keywords(&self, name: &str, schema: &mut Map<String, Value>) {
        if let Some(values) = self.values(name) {
            schema.insert("enum".into(), json!(values));
            return;
        }
        let format = self.format(name);
        if let Some(format) = format {
            schema.insert("format".into(), format.into());
        }
        if matches!(format, None | Some("text" | "iri")) {
            let length = LENGTHS.iter().find(|length| **length >= self.longest.max(1));
            schema.insert("maxLength".into(), json!(length.copied().unwrap_or(self.longest)));
        }
        if self.empty == 0 && matches!(format, None | Some("text")) {
            schema.insert("minLength".into(), json!(1));
        }
    }
}

/// Why no schema can describe a field's numbers as they stand: a whole number with more digits than a double keeps is an
/// identifier, and only fields themselves hold binary doubles, not what is within them.
pub fn impossible(tape: &Tape, value: Node<'_>) -> Option<String> {
    if !tape.has_changes() {
        return None;
    }
    if value.kind() == Kind::Number {
        let is_whole = tape.has_changed(value) && !value.text().contains(['.', 'e']);
        return is_whole.then(|| "a whole number with so many digits is not kept exactly; write it in quotes".into());
    }
    let is_changed = contains(value, &|node| node.kind() == Kind::Number && tape.has_changed(node));
    is_changed.then(|| "a decimal number within a list or object is not kept exactly; round it".into())
}

fn contains(value: Node<'_>, wanted: &impl Fn(Node<'_>) -> bool) -> bool {
    let members = value.members().map(|(_, member)| member);
    wanted(value) || value.elements().chain(members).any(|part| contains(part, wanted))
}

impl Field {
    /// Adds a value.
    pub fn add(&mut self, tape: &Tape, value: Node<'_>, cells: Option<&dyn Spelling>, depth: usize) {
        self.seen += 1;
        match value.kind() {
            Kind::Null => self.nulls += 1,
            Kind::Boolean => self.booleans += 1,
            Kind::Number => self.numbers.add(value.text().parse().unwrap_or(0.0), tape.has_changed(value)),
            Kind::String => self.add_text(value.text(), cells),
            Kind::Array => {
                self.lists += 1;
                let items = self.items.get_or_insert_default();
                let mut count = 0;
                for item in value.elements() {
                    count += 1;
                    if depth < limits::INFERRED_DEPTH_MAX {
                        items.add(tape, item, None, depth + 1);
                    } else {
                        self.is_cut = true;
                    }
                }
                self.longest_list = self.longest_list.max(count);
            }
            Kind::Object => {
                self.objects += 1;
                for (name, member) in value.members() {
                    self.add_member(tape, name, member, depth);
                }
            }
        }
    }

    fn add_member(&mut self, tape: &Tape, name: &str, member: Node<'_>, depth: usize) {
        let known = self.members.iter().position(|(known, _)| known == name);
        let room = self.members.len() < limits::INFERRED_MEMBERS_MAX && depth < limits::INFERRED_DEPTH_MAX;
        let at = match known {
            Some(at) => at,
            None if room => {
                self.members.push((name.to_owned(), Self::default()));
                self.members.len() - 1
            }
            None => return self.is_cut = true,
        };
        self.members[at].1.add(tape, member, None, depth + 1);
    }

    fn add_text(&mut self, text: &str, cells: Option<&dyn Spelling>) {
        self.texts.add(text);
        let Some(cells) = cells else { return };
        self.add_nested(text);
        self.cells.booleans += u64::from(matches!(text.to_ascii_lowercase().as_str(), "true" | "false"));
        self.cells.missing += u64::from(cells.is_missing(text));
        let Some(number) = cells.number(text) else { return };
        match number::canonical(&number) {
            Ok(canonical) => self.cells.numbers.add(canonical.parse().unwrap_or(0.0), false),
            Err(number::NumberError::Changes(double)) if number.contains(['.', 'e', 'E']) => {
                self.cells.numbers.add(double.parse().unwrap_or(0.0), true);
            }
            Err(_) => {}
        }
    }

    /// Adds what the cell of a list or object has, as they are exported.
    fn add_nested(&mut self, text: &str) {
        if matches!(text.as_bytes(), [b'[', .., b']'] | [b'{', .., b'}']) {
            let mut tape = Tape::of_doubles();
            // Decimals that would change are refused within lists, but not in a text.
            if tape.parse(text.as_bytes()).is_ok() && !tape.has_changes() {
                self.cells.nested.get_or_insert_default().add(&tape, tape.root(), None, 0);
            }
        }
    }

    fn nested(&self) -> Option<&Self> {
        self.cells.nested.as_deref().filter(|nested| nested.seen == self.texts.count)
    }

    /// Whether it has a value in each of so many records.
    pub fn is_in_all(&self, records: u64) -> bool {
        let missing = if self.is_numeric() { self.cells.missing } else { 0 };
        self.seen - missing == records && !self.is_empty()
    }

    /// Whether it may be a key by itself: a text that is not long, or a whole number.
    pub fn may_be_key(&self) -> bool {
        self.may_be_part_of_key() && self.texts.longest <= 100
    }

    /// Whether all its values are texts, but not numbers in cells.
    pub fn is_text(&self) -> bool {
        self.texts.count == self.seen && !self.is_numeric() && self.nested().is_none()
    }

    /// Whether it may be one field of a key.
    pub fn may_be_part_of_key(&self) -> bool {
        let fractions = self.cells.numbers.fractions + self.numbers.fractions;
        fractions == 0 && self.objects == 0 && self.lists == 0 && self.nulls == 0 && self.cells.nested.is_none()
    }

    /// Whether its values are listed.
    pub fn is_listed(&self, name: &str) -> bool {
        self.texts.values(name).is_some() && !self.is_numeric() && !self.is_boolean() && self.nested().is_none()
    }

    /// How its texts would be written if they were dates or truth values, which they seem to be.
    pub fn other_spelling(&self) -> Option<&'static str> {
        let texts = &self.texts;
        if texts.count == 0 || self.is_boolean() || self.is_numeric() || self.nested().is_some() {
            return None;
        }
        if texts.listed.as_ref().is_some_and(|listed| listed.iter().all(|text| is_truth(text))) {
            return Some("these seem to be truth values, which are written true and false");
        }
        (texts.dates == texts.count).then_some("these seem to be dates, which are written as 2026-12-01")
    }

    /// Whether it has no value in any record.
    pub fn is_empty(&self) -> bool {
        self.seen == self.nulls
    }

    /// Whether there was more than is described.
    pub fn is_cut(&self) -> bool {
        let within = self.members.iter().map(|(_, field)| field).chain(self.items.as_deref());
        self.is_cut || within.into_iter().any(Self::is_cut)
    }

    fn is_numeric(&self) -> bool {
        self.cells.numbers.count > 0 && self.cells.numbers.count + self.cells.missing == self.texts.count
    }

    fn is_boolean(&self) -> bool {
        self.cells.booleans > 0 && self.cells.booleans == self.texts.count
    }

    /// The keywords that describe all values.
    pub fn keywords(&self, name: &str) -> Map<String, Value> {
        let mut schema = Map::new();
        if self.is_empty() {
            return schema;
        }
        if self.is_boolean() {
            schema.insert("type".into(), "boolean".into());
            return schema;
        }
        if self.is_numeric() {
            let kind =
                if self.cells.numbers.fractions + self.cells.numbers.doubles == 0 { "integer" } else { "number" };
            schema.insert("type".into(), kind.into());
            self.cells.numbers.keywords(&mut schema);
            return schema;
        }
        if let Some(nested) = self.nested() {
            return nested.keywords(name);
        }
        let number = if self.numbers.fractions + self.numbers.doubles == 0 { "integer" } else { "number" };
        let kinds = [
            ("boolean", self.booleans),
            (number, self.numbers.count),
            ("string", self.texts.count),
            ("array", self.lists),
            ("object", self.objects),
            ("null", self.nulls),
        ];
        let kinds: Vec<&str> = kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, _)| *kind).collect();
        schema.insert("type".into(), if let [one] = kinds[..] { one.into() } else { json!(kinds) });
        // What describes one kind of values does not describe the others.
        match kinds[..] {
            ["string"] => self.texts.keywords(name, &mut schema),
            ["integer" | "number"] => self.numbers.keywords(&mut schema),
            ["integer" | "number", "null"] if self.numbers.doubles == 0 => self.numbers.keywords(&mut schema),
            ["string", "null"] => {
                let length = LENGTHS.iter().find(|length| **length >= self.texts.longest.max(1));
                schema.insert("maxLength".into(), json!(length.copied().unwrap_or(self.texts.longest)));
            }
            _ => {}
        }
        if self.lists > 0 {
            let most = LENGTHS.iter().find(|length| **length >= self.longest_list.max(1)).copied();
            schema.insert("maxItems".into(), json!(most.unwrap_or(self.longest_list)));
            let items = self.items.as_deref().map(|items| items.keywords(name)).unwrap_or_default();
            if !self.is_cut && !items.is_empty() {
                schema.insert("items".into(), items.into());
            }
        }
        if self.objects > 0 && !self.is_cut {
            let all = self.members.iter().map(|(name, field)| (name.clone(), field.keywords(name).into()));
            schema.insert("properties".into(), Value::Object(all.collect()));
            let always = self.members.iter().filter(|(_, field)| field.seen == self.objects);
            let always: Vec<&String> = always.map(|(name, _)| name).collect();
            if !always.is_empty() {
                schema.insert("required".into(), json!(always));
            }
            schema.insert("additionalProperties".into(), false.into());
        }
        schema
    }
}
