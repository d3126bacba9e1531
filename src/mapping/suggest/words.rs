//! Names of columns and fields as words, and what words mean the same.

use pinyin::ToPinyin;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// The words of this folder's table.
pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("words.toml")).expect("the table of words is part of the program");
    Words::of(table)
});

#[derive(Deserialize)]
struct Table {
    fields: Vec<String>,
    entities: Vec<String>,
    tokens: Vec<String>,
    weak: Vec<String>,
    values: Vec<String>,
    units: Vec<String>,
    subdivisions: Vec<String>,
    countries: Vec<String>,
}

pub(super) struct Words {
    /// Each line of names for the same thing.
    pub(super) fields: Vec<Vec<Name>>,
    pub(super) entities: Vec<Vec<Name>>,
    /// What each spelling of a word stands for.
    tokens: HashMap<String, String>,
    weak: HashSet<String>,
    /// What a value of an enumeration is also called.
    pub(super) values: Vec<Vec<String>>,
    /// Units with the factor to one.
    pub(super) units: Vec<(String, String)>,
    /// Codes by other names.
    pub(super) subdivisions: HashMap<String, String>,
    pub(super) countries: HashMap<String, String>,
}

/// A name, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// As it is written.
    pub(super) text: String,
    /// Its words in their plain form; a run of Chinese characters is one word.
    pub(super) words: Vec<String>,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Words {
    fn of(table: Table) -> Self {
        let mut tokens = HashMap::new();
        for line in &table.tokens {
            let mut words = line.split(' ');
            let first = words.next().unwrap_or_default();
            tokens.extend(words.map(|word| (word.to_owned(), first.to_owned())));
        }
        let name = |text: &str| Name { text: text.to_owned(), words: plain_words(text, &tokens) };
        let names = |lines: &[String]| lines.iter().map(|line| line.split(" | ").map(name).collect()).collect();
        let codes = |lines: &[String]| {
            let pairs = lines.iter().filter_map(|line| line.split_once(' '));
            let each = pairs.flat_map(|(code, others)| {
                let words: Vec<&str> = others.split(' ').collect();
                // Names of several words, too.
                let runs = (0..words.len()).flat_map(|from| {
                    let to = (from + 1)..=words.len().min(from + 4);
                    to.map(|to| words[from..to].concat()).collect::<Vec<_>>()
                });
                runs.map(|name| (name, code.to_owned())).collect::<Vec<_>>()
            });
            each.collect()
        };
        let (fields, entities) = (names(&table.fields), names(&table.entities));
        let unit = |line: &String| line.rsplit_once(' ').map(|(unit, factor)| (unit.to_owned(), factor.to_owned()));
        Self {
            fields,
            entities,
            weak: table.weak.into_iter().collect(),
            values: table.values.iter().map(|line| line.split(" | ").map(str::to_owned).collect()).collect(),
            units: table.units.iter().filter_map(unit).collect(),
            subdivisions: codes(&table.subdivisions),
            countries: codes(&table.countries),
            tokens,
        }
    }

    /// A name, taken apart.
    pub(super) fn name(&self, text: &str) -> Name {
        Name { text: text.to_owned(), words: plain_words(text, &self.tokens) }
    }

    fn weight(&self, word: &str) -> f64 {
        if self.weak.contains(word) { 0.4 } else { 1.0 }
    }

    /// How much two names have in common: 1 if they are the same.
    pub(super) fn likeness(&self, one: &Name, other: &Name) -> f64 {
        if one.words.is_empty() || other.words.is_empty() {
            return 0.0;
        }
        if one.words.concat() == other.words.concat() {
            return 1.0;
        }
        if one.is_chinese() != other.is_chinese() {
            return 0.0;
        }
        if let ([one], [other]) = (one.words.as_slice(), other.words.as_slice())
            && one.is_ascii()
            && is_misspelt(one, other)
        {
            return 0.93;
        }
        if one.is_chinese() {
            chinese_likeness(&one.words.concat(), &other.words.concat())
        } else {
            self.common(one, other)
        }
    }

    fn common(&self, one: &Name, other: &Name) -> f64 {
        let weigh = |name: &Name| name.words.iter().map(|word| self.weight(word)).sum::<f64>();
        let shared: f64 =
            one.words.iter().filter(|word| other.words.contains(word)).map(|word| self.weight(word)).sum();
        let dice = 0.95 * 2.0 * shared / (weigh(one) + weigh(other));
        dice.max(match () {
            () if one.words.ends_with(&other.words) => kind(weigh(other), weigh(one)),
            () if other.words.ends_with(&one.words) => VAGUE * kind(weigh(one), weigh(other)),
            () => 0.0,
        })
    }
}

/// By pairs of characters; what ends with the other name is a kind of it.
fn chinese_likeness(one: &str, other: &str) -> f64 {
    let pairs = |text: &str| -> Vec<(char, char)> { text.chars().zip(text.chars().skip(1)).collect() };
    let (ones, others) = (pairs(one), pairs(other));
    let shared = ones.iter().filter(|pair| others.contains(pair)).count() as f64;
    let dice = 2.0 * shared / (ones.len() + others.len()).max(1) as f64;
    let length = |text: &str| text.chars().count() as f64;
    let (length, others) = (length(one), length(other));
    (0.95 * dice).max(match () {
        () if others >= 2.0 && one.ends_with(other) => kind(others, length),
        () if length >= 2.0 && other.ends_with(one) => VAGUE * kind(length, others),
        () => 0.0,
    })
}

/// What a header that says less than a name is worth, beside one that says more.
const VAGUE: f64 = 0.85;

/// The likeness of a name that ends with another one, and so is a kind of it, by their lengths.
fn kind(short: f64, long: f64) -> f64 {
    0.58 + 0.37 * short / long
}

/// Whether two long words differ in one letter at most.
fn is_misspelt(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let same_begin = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let same_end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let (short, long) = (one.len().min(other.len()), one.len().max(other.len()));
    short >= 6 && long - short <= 1 && same_begin + same_end >= long - 1
}

impl Name {
    pub(super) fn is_chinese(&self) -> bool {
        self.words.iter().any(|word| word.chars().any(is_han))
    }

    /// A Chinese name without a first or last word that says little.
    pub(super) fn without_weak_words(&self) -> Option<Self> {
        let text = self.words.concat();
        let rest = ["名称", "情况", "信息", "说明"].iter().find_map(|end| text.strip_suffix(end));
        let rest = rest.unwrap_or(&text);
        let begins = ["所属", "所在", "中文", "最新", "公司", "单位"];
        let rest = begins.iter().find_map(|begin| rest.strip_prefix(begin)).unwrap_or(rest);
        let shorter = self.is_chinese() && rest.len() < text.len() && rest.chars().count() >= 2;
        shorter.then(|| Self { text: rest.to_owned(), words: vec![rest.to_owned()] })
    }

    /// Without the words that name the thing itself, and whether there were any.
    pub(super) fn without(&self, entity: &[Name]) -> (Self, bool) {
        if self.is_chinese() {
            let text = self.words.concat();
            let mut prefixes: Vec<String> =
                entity.iter().filter(|name| name.is_chinese()).map(|name| name.words.concat()).collect();
            prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_str()));
            return match rest {
                Some(rest) => (
                    Self { text: rest.to_owned(), words: Vec::from_iter((!rest.is_empty()).then(|| rest.to_owned())) },
                    true,
                ),
                None => (self.clone(), false),
            };
        }
        let known: HashSet<&String> = entity.iter().flat_map(|name| &name.words).collect();
        let words: Vec<String> = self.words.iter().filter(|word| !known.contains(word)).cloned().collect();
        let had = words.len() < self.words.len();
        (Self { text: words.join(" "), words }, had)
    }

    /// A Chinese name in pinyin: whole, and the first letters.
    pub(super) fn pinyin(&self) -> Option<(String, String)> {
        let text = self.words.concat();
        let all: Option<Vec<&str>> = text.as_str().to_pinyin().map(|syllable| Some(syllable?.plain())).collect();
        let all = all.filter(|syllables| syllables.len() >= 2)?;
        let initials = all.iter().filter_map(|syllable| syllable.chars().next()).collect();
        Some((all.concat(), initials))
    }
}

fn is_han(c: char) -> bool {
    ('\u{3400}'..='\u{9FFF}').contains(&c)
}

/// Traditional characters in headers, each followed by the simplified one.
const TRADITIONAL: &str = "統统編编號号業业稱称類类別别網网電电話话區区縣县時时間间數数額额機机構构單单開开關关發发證证書书專专請请點点場场館馆\
經经緯纬國国備备註注狀状態态種种價价說说課课學学師师對对動动參参與与總总頁页資资產产質质營营負负責责處处級级設设\
執执項项題题計计畫画劃划錄录報报辦办進进車车樓楼廠厂歲岁員员簡简環环連连絡络貨货幣币額额導导實实際际從从優优獲获權权術术績绩結结應应標标準准練练範范圍围評评鍵键適适聯联擬拟職职歷历驗验規规組组織织險险測测試试設设較较訊讯";

/// A header without what stands in brackets, and that.
pub(super) fn without_brackets(header: &str) -> (String, Vec<String>) {
    let (mut outside, mut inside, mut depth) = (String::new(), Vec::<String>::new(), 0u32);
    for c in header.chars() {
        match c {
            '(' | '（' | '[' | '【' | '〔' => {
                depth += 1;
                inside.push(String::new());
                outside.push(' ');
            }
            ')' | '）' | ']' | '】' | '〕' => depth = depth.saturating_sub(1),
            c if depth > 0 => inside.iter_mut().last().into_iter().for_each(|text| text.push(c)),
            c => outside.push(c),
        }
    }
    // A name that stands in brackets as a whole is one.
    if outside.trim().is_empty() { (header.to_owned(), Vec::new()) } else { (outside, inside) }
}

/// The words of a text in their plain form: lower case, singular, one spelling.
fn plain_words(text: &str, tokens: &HashMap<String, String>) -> Vec<String> {
    let simplified: HashMap<char, char> = TRADITIONAL.chars().zip(TRADITIONAL.chars().skip(1)).step_by(2).collect();
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut last) = (String::new(), ' ');
    let mut chars = text.chars().map(half_width).peekable();
    while let Some(c) = chars.next() {
        let c = simplified.get(&c).copied().unwrap_or(c);
        let next_is_small = chars.peek().is_some_and(|next| next.is_lowercase());
        let camel = c.is_uppercase() && (last.is_lowercase() || last.is_uppercase() && next_is_small);
        let script = is_han(c) != is_han(last) && last.is_alphanumeric();
        if !c.is_alphanumeric() || camel || script {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        last = c;
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words.iter().flat_map(|word| divided(word)).map(|word| plain(word, tokens)).collect()
}

/// A word that is written together with one of those on which names of columns end.
fn divided(word: &str) -> Vec<&str> {
    const ENDS: [&str; 6] = ["name", "type", "code", "date", "desc", "number"];
    let end = ENDS.iter().find(|end| word.is_ascii() && word.len() >= end.len() + 3 && word.ends_with(**end));
    match end.filter(|_| {
        !["update", "surname", "username", "candidate", "mandate", "barcode", "postcode", "prototype"].contains(&word)
    }) {
        Some(end) => {
            word.split_at_checked(word.len() - end.len()).map_or(vec![word], |(first, last)| vec![first, last])
        }
        None => vec![word],
    }
}

fn plain(word: &str, tokens: &HashMap<String, String>) -> String {
    let singular = match word {
        _ if word.len() < 4 || !word.is_ascii() => word.to_owned(),
        _ if word.ends_with("ies") => format!("{}y", &word[..word.len() - 3]),
        _ if ["ss", "us", "is", "as"].iter().any(|end| word.ends_with(end)) => word.to_owned(),
        _ => word.strip_suffix('s').unwrap_or(word).to_owned(),
    };
    tokens.get(word).or_else(|| tokens.get(&singular)).cloned().unwrap_or(singular)
}

/// ASCII for its full-width form.
fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (text, words) in [
            ("CompanyName", "company name"),
            ("applnFilingDate", "application filing date"),
            ("GPU_Count", "gpu number"),
            ("Companies", "company"),
            ("GPU型号", "gpu 型号"),
            ("統一編號", "统一编号"),
            ("ＰＵＥ", "pue"),
            ("RegAddress.PostTown", "reg address post town"),
            ("HTTPServer", "http server"),
        ] {
            assert_eq!(WORDS.name(text).words.join(" "), words, "{text}");
        }
        assert_eq!(without_brackets("营业收入（万元）"), ("营业收入 ".into(), vec!["万元".into()]));
        assert_eq!(WORDS.name("企业名称").pinyin(), Some(("qiyemingcheng".into(), "qymc".into())));
    }

    #[test]
    fn codes_are_known_by_their_names() {
        assert_eq!(WORDS.countries.get("unitedstates").map(String::as_str), Some("US"));
        assert_eq!(WORDS.subdivisions.get("北京").map(String::as_str), Some("CN-BJ"));
    }
}
