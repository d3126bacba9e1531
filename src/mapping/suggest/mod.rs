//! Proposes a mapping from the names and the first values of a file's columns.

mod values;
mod words;
mod write;

pub use write::toml;

use super::Rule;
use crate::core::json::pointer_part;
use crate::schema::{ColumnType, Schema};
use serde_json::Value;
use values::{Fields, Fit};
use words::{Name, WORDS, without_brackets};

/// A column and its first values.
pub type Column = (String, Vec<String>);

/// How sure a suggestion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Somebody should look.
    Low,
    /// Probably right.
    Medium,
    /// The name and the values say the same, and nothing else comes near.
    High,
}

/// A column for a field.
#[derive(Debug, Clone)]
pub struct Suggestion {
    /// The property.
    pub field: String,
    /// The column.
    pub column: String,
    /// The rules, by field: of an amount of money, one for the currency, too.
    pub rules: Vec<(String, Rule)>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why, in words.
    pub reason: String,
    /// What a person has to decide.
    pub open: Option<String>,
}

/// Below this, a column is left out.
const SCORE_MIN: f64 = 0.61;
/// From here on, a suggestion can be sure.
const SCORE_SURE: f64 = 0.9;
/// By how much the next best must be behind a sure one.
const MARGIN_SURE: f64 = 0.08;
/// The reason of a suggestion by a property's own name.
const OWN: &str = "its name";
/// A name that says so much is worth looking at the values.
const NAME_MIN: f64 = 0.4;

/// How well a column and a property go together.
struct Pair {
    column: usize,
    property: usize,
    score: f64,
    named: Named,
    fit: Fit,
}

/// How alike two names are, and by what.
#[derive(Debug, Clone)]
struct Named {
    score: f64,
    by: String,
    /// Whether it is the property's own name or title.
    own: bool,
}

/// Whether a property is a code or words, by its name.
#[derive(Clone, Copy, PartialEq)]
enum KindOfText {
    Code,
    Words,
    /// Something else that is no number.
    Text,
}

impl KindOfText {
    fn of(own: &[Name]) -> Self {
        let has = |words: &[&str]| own.iter().any(|name| name.words.iter().any(|word| words.contains(&word.as_str())));
        match () {
            () if has(&["text", "wording", "name", "title"]) => Self::Words,
            () if has(&["id", "identifier", "code", "number", "question"]) => Self::Code,
            () => Self::Text,
        }
    }

    fn are_numbers(values: &[String]) -> bool {
        values.iter().all(|value| value.trim().parse::<f64>().is_ok())
    }

    /// What a score is worth if the values are of the other kind.
    fn agreement(self, values: &[String]) -> f64 {
        let is_code = |value: &&String| {
            !value.contains(' ') && value.is_ascii() && value.chars().any(|c| c.is_ascii_digit() || c == '_')
        };
        let filled = values.iter().filter(|value| !value.trim().is_empty());
        let (codes, all) = (filled.clone().filter(is_code).count(), filled.count());
        match self {
            Self::Code if all > 0 && codes == 0 && values.iter().any(|value| value.contains(' ')) => 0.9,
            Self::Words if all > 0 && codes == all => 0.85,
            Self::Text if all > 0 && Self::are_numbers(values) => 0.75,
            _ => 1.0,
        }
    }
}

/// A property and what it may be called.
struct Property {
    name: String,
    own: Vec<Name>,
    others: Vec<(Name, f64)>,
    /// In pinyin, whole and by first letters.
    pinyin: Vec<(String, String, f64)>,
    /// Whether values of it are known by their check digits.
    checked: bool,
    /// Whether not every text is a value of it.
    typed: bool,
    kind_of_text: Option<KindOfText>,
}

/// Proposes columns for the properties of a schema, in the schema's order.
pub fn suggest(columns: &[Column], schema: &Schema) -> Vec<Suggestion> {
    let properties: Vec<Property> = schema.columns().iter().map(|(name, _)| Property::of(schema, name)).collect();
    let pairs = pairs(columns, schema, &properties);
    let mut chosen: Vec<&Pair> = Vec::new();
    for pair in pairs.iter().take_while(|pair| pair.score >= SCORE_MIN) {
        if chosen.iter().all(|other| other.column != pair.column && other.property != pair.property) {
            chosen.push(pair);
        }
    }
    chosen.sort_by_key(|pair| pair.property);
    chosen.into_iter().map(|pair| pair.suggestion(&pairs, columns, &properties)).collect()
}

/// The pairs worth a thought, the best first.
fn pairs(columns: &[Column], schema: &Schema, properties: &[Property]) -> Vec<Pair> {
    let Some(fields) = Fields::of(schema) else { return Vec::new() };
    let entity = entity_of(schema);
    let mut pairs = Vec::new();
    for (column, (header, sample)) in columns.iter().enumerate() {
        let header = Header::of(header, &entity);
        for (at, property) in properties.iter().enumerate() {
            let named = property.named(&header);
            if named.score < NAME_MIN && !property.checked {
                continue;
            }
            let fit = fields.fit(&property.name, sample, &header.units);
            // Of equal columns, the first one.
            let kind = property.kind_of_text.map_or(1.0, |kind| kind.agreement(sample));
            let score = kind * score(&named, &fit, property.checked) - 0.0002 * column as f64;
            pairs.push(Pair { column, property: at, score, named, fit });
        }
    }
    pairs.sort_by(|one, other| other.score.total_cmp(&one.score));
    pairs
}

/// The words for the thing that the schema describes.
fn entity_of(schema: &Schema) -> Vec<Name> {
    let titles = ["/title", "/x-zh/title"].map(|pointer| schema.value().pointer(pointer).and_then(Value::as_str));
    let own: Vec<Name> = titles.into_iter().flatten().map(|title| WORDS.name(title)).collect();
    let words: Vec<&String> = own.iter().flat_map(|name| &name.words).collect();
    let lines = WORDS
        .entities
        .iter()
        .filter(|line| line.iter().any(|name| name.words.iter().all(|word| words.contains(&word))));
    let mut found: Vec<Name> = lines.flatten().cloned().collect();
    found.extend(own);
    found
}

/// A column's header, seen in several ways.
struct Header {
    /// The whole, parts of a path, what stands in brackets; and how much each is worth.
    views: Vec<(Name, f64)>,
    /// Whether nothing but words for the thing itself is left.
    entity_only: bool,
    /// Letters only, as pinyin is written.
    letters: String,
    units: Vec<String>,
}

impl Header {
    fn of(header: &str, entity: &[Name]) -> Self {
        let (outside, units) = without_brackets(header);
        let outside = outside.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '_' || c == '*');
        let letters = outside.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
        let mut views = vec![(WORDS.name(outside), 1.0)];
        let parts: Vec<&str> = outside.split(['/', '.', ':', '：']).collect();
        if let [first, .., last] = parts.as_slice() {
            let says_little = matches!(last.to_lowercase().as_str(), "value" | "name" | "label" | "title" | "text");
            views.extend([(WORDS.name(last), 0.92), (WORDS.name(first), if says_little { 0.93 } else { 0.8 })]);
        }
        views.extend(units.iter().filter(|unit| !values::is_unit(unit)).map(|inside| (WORDS.name(inside), 0.95)));
        let weak: Vec<(Name, f64)> =
            views.iter().filter_map(|(view, worth)| Some((view.without_weak_words()?, 0.93 * worth))).collect();
        views.extend(weak);
        let mut entity_only = false;
        for at in 0..views.len() {
            let (bare, had) = views[at].0.without(entity);
            entity_only |= had && bare.words.is_empty();
            if had && !bare.words.is_empty() {
                let worth = 0.97 * views[at].1;
                views.push((bare, worth));
            }
        }
        Self { views, entity_only, letters, units }
    }
}

impl Property {
    fn of(schema: &Schema, name: &str) -> Self {
        let titles: Vec<String> = schema.property_titles(name);
        let chinese: Vec<Name> = titles.iter().map(|title| WORDS.name(title)).filter(Name::is_chinese).collect();
        let own: Vec<Name> =
            std::iter::once(name).chain(titles.iter().map(String::as_str)).map(|text| WORDS.name(text)).collect();
        let mut others: Vec<(Name, f64)> = Vec::new();
        for line in WORDS.fields.iter().filter(|line| line.iter().any(|term| own.contains(term))) {
            let first = line.first().is_some_and(|first| own.contains(first));
            let agrees = chinese.is_empty() || chinese.iter().any(|title| line.contains(title));
            let weight = if first && agrees { 0.96 } else { 0.8 };
            others.extend(line.iter().map(|term| (term.clone(), weight)));
        }
        let pinyin = own.iter().map(|name| (name, 1.0)).chain(others.iter().map(|(name, weight)| (name, *weight)));
        let pinyin = pinyin.filter(|(name, _)| name.is_chinese());
        let pinyin =
            pinyin.filter_map(|(name, weight)| name.pinyin().map(|(whole, first)| (whole, first, weight))).collect();
        let format = schema.keyword(&pointer_part(name), "format").and_then(Value::as_str);
        let typed = schema.column_type(&pointer_part(name)) != Some(ColumnType::String)
            || format.is_some_and(|format| format != "text")
            || schema.keyword(&pointer_part(name), "enum").is_some();
        let checked = matches!(format, Some("uscc" | "lei" | "isin"));
        let kind_of_text = (!typed).then(|| KindOfText::of(&own));
        Self { name: name.to_owned(), own, others, pinyin, checked, typed, kind_of_text }
    }

    /// How much a header sounds like this property.
    fn named(&self, header: &Header) -> Named {
        let mut best = Named { score: 0.0, by: String::new(), own: false };
        let mut better = |score: f64, by: &str| {
            if score > best.score {
                best = Named { score, by: by.to_owned(), own: by == OWN };
            }
        };
        for (view, worth) in &header.views {
            for own in &self.own {
                better(worth * WORDS.likeness(view, own), OWN);
            }
            for (other, weight) in &self.others {
                better(worth * weight * WORDS.likeness(view, other), &format!("the same as `{}`", other.text));
            }
        }
        // A column that names the thing itself has its name.
        if header.entity_only && matches!(self.name.as_str(), "name" | "title") {
            better(0.8, "it names the thing itself");
        }
        if header.letters.len() >= 3 && !header.views[0].0.is_chinese() {
            for (whole, first, weight) in &self.pinyin {
                if *whole == header.letters {
                    better(0.95 * weight, "pinyin");
                } else if *first == header.letters {
                    better(if first.len() > 3 { 0.86 } else { 0.75 } * weight, "first letters in pinyin");
                }
            }
        }
        best
    }
}

fn score(named: &Named, fit: &Fit, checked: bool) -> f64 {
    match fit.share {
        // Check digits cannot be there by chance.
        Some(share) if checked && share >= 0.9 => (0.85 + 0.15 * named.score).max(named.score),
        _ if checked && named.score < NAME_MIN => 0.0,
        Some(share) if share >= 0.9 => named.score,
        Some(share) if share >= 0.5 => named.score * 0.95,
        // Values that are to be looked up by a table that a person completes.
        Some(_) if fit.open.is_some() => named.score * 0.85,
        Some(share) if share > 0.0 => named.score * 0.75,
        // The same name with other values: a person may know what they are.
        Some(_) => named.score * 0.66,
        None => named.score * 0.95,
    }
}

impl Pair {
    fn suggestion(&self, pairs: &[Self], columns: &[Column], properties: &[Property]) -> Suggestion {
        let rival = |other: &&Self| {
            (other.column == self.column) != (other.property == self.property) && other.score > self.score - MARGIN_SURE
        };
        let rivals: Vec<&Self> = pairs.iter().filter(rival).collect();
        let share = self.fit.share;
        let property = &properties[self.property];
        // A synonym may be the right word for something else.
        let named = self.named.own && (self.named.score > 0.99 || property.typed && self.named.score >= SCORE_SURE);
        let (_, sample) = &columns[self.column];
        // Texts that are all numbers may be something else.
        let fits = share.is_some_and(|share| share >= 0.9) && (property.typed || !KindOfText::are_numbers(sample));
        let sure = fits && rivals.is_empty() && (named || property.checked && self.score >= SCORE_SURE);
        let confidence = match self.score {
            _ if sure && self.fit.open.is_none() => Confidence::High,
            score if score >= 0.75 && share.is_none_or(|share| share >= 0.5) => Confidence::Medium,
            _ => Confidence::Low,
        };
        let (header, _) = &columns[self.column];
        let mut reason = match self.named.by.as_str() {
            "" => "its check digits are right".to_owned(),
            by if self.named.score > 0.99 => by.to_owned(),
            by => format!("{by} ({:.0} %)", 100.0 * self.named.score),
        };
        match share {
            Some(share) => reason.push_str(&format!("; {:.0} % of the values fit", 100.0 * share)),
            None => reason.push_str("; no values were seen"),
        }
        if let Some(other) = rivals.first() {
            reason.push_str(&match other.column == self.column {
                true => format!("; it may also be {}", properties[other.property].name),
                false => format!("; or the column {}", columns[other.column].0.trim()),
            });
        }
        let named = |(pointer, rule): &(String, Rule)| {
            let from = if rule.value.is_some() { Vec::new() } else { vec![header.trim().to_owned()] };
            (short(pointer), Rule { from, ..rule.clone() })
        };
        Suggestion {
            field: properties[self.property].name.clone(),
            column: header.clone(),
            rules: self.fit.rules.iter().map(named).collect(),
            confidence,
            reason,
            open: self.fit.open.clone(),
        }
    }
}

/// A property's name instead of a pointer to it.
fn short(pointer: &str) -> String {
    let name = pointer.trim_start_matches('/');
    if name.contains(['/', '~']) { pointer.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
