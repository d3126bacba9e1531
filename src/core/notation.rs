//! Numbers as people write them.

use super::json::number;
use std::borrow::Cow;

/// What a number has besides digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notation {
    /// What separates its decimals: a point or a comma.
    pub decimal: char,
    /// What separates groups of three digits, if anything.
    pub thousands: Option<char>,
}

impl Default for Notation {
    fn default() -> Self {
        Self { decimal: '.', thousands: None }
    }
}

impl Notation {
    /// The number that a text without spaces around it writes, as JSON writes it; fails with what is wrong.
    pub fn number<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, &'static str> {
        if (self.decimal == '.' || !text.contains('.')) && is_json_number(text) {
            return Ok(text.into());
        }
        let (sign, rest) = match text.strip_prefix(['-', '−']) {
            Some(rest) => ("-", rest),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = rest.split_at(rest.find(['e', 'E']).unwrap_or(rest.len()));
        let (whole, part) = match mantissa.split_once(self.decimal) {
            Some((whole, part)) => (whole, part),
            None => (mantissa, ""),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let whole = self.without_groups(whole).filter(|whole| digits(whole) && digits(part));
        let whole = whole.ok_or_else(|| self.not_a_number(rest))?;
        // As in .5 and 5.
        let whole = if whole.is_empty() && !part.is_empty() { "0" } else { &whole };
        let point = if part.is_empty() { "" } else { "." };
        let number = format!("{sign}{whole}{point}{part}{exponent}");
        if is_json_number(&number) { Ok(number.into()) } else { Err(self.not_a_number(rest)) }
    }

    fn not_a_number(&self, text: &str) -> &'static str {
        let digits = |other: &[char]| text.chars().all(|c| c.is_ascii_digit() || other.contains(&c));
        let whole = text.len() > 1 && text.starts_with('0') && digits(&[]);
        match self.decimal {
            _ if whole => "is not a number: it begins with a zero, so a schema in which it is a text may be meant",
            '.' if digits(&[',', '.']) => {
                "is not a number; if it has a decimal comma, or commas between thousands, say so"
            }
            ',' if digits(&[',', '.']) => "is not a number with a decimal comma",
            _ => "is not a number",
        }
    }

    /// The digits of groups of three.
    fn without_groups<'a>(&self, whole: &'a str) -> Option<Cow<'a, str>> {
        let Some(separator) = self.thousands.filter(|separator| whole.contains(*separator)) else {
            return Some(whole.into());
        };
        let mut groups = whole.split(separator);
        let first = groups.next().filter(|first| (1..=3).contains(&first.len()))?;
        let mut digits = first.to_owned();
        for group in groups {
            if group.len() != 3 {
                return None;
            }
            digits.push_str(group);
        }
        Some(digits.into())
    }
}

/// Whether the text is a number in JSON (RFC 8259 section 6).
fn is_json_number(text: &str) -> bool {
    number::scan(text.as_bytes(), 0).is_ok_and(|end| end == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notation(decimal: char, thousands: Option<char>) -> Notation {
        Notation { decimal, thousands }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (decimal, thousands, text, expected) in [
            ('.', None, "12", Ok("12")),
            ('.', None, "-1.50", Ok("-1.50")),
            ('.', None, ".5", Ok("0.5")),
            ('.', None, "5.", Ok("5")),
            ('.', None, "+7", Ok("7")),
            ('.', None, "−7", Ok("-7")),
            ('.', None, "1e3", Ok("1e3")),
            ('.', None, "007", Err("begins with a zero")),
            ('.', None, "1,5", Err("decimal comma")),
            ('.', None, "abc", Err("is not a number")),
            ('.', None, "", Err("is not a number")),
            ('.', None, ".", Err("is not a number")),
            ('.', None, "1.2.3", Err("is not a number")),
            ('.', None, "1}", Err("is not a number")),
            (',', None, "1,5", Ok("1.5")),
            (',', None, "1,73922", Ok("1.73922")),
            (',', None, "1.5", Err("with a decimal comma")),
            (',', Some('.'), "1.234,5", Ok("1234.5")),
            (',', Some('.'), "1.5", Err("with a decimal comma")),
            ('.', Some(','), "1,234,567.25", Ok("1234567.25")),
            ('.', Some(','), "12,34", Err("say so")),
            ('.', Some(','), "1234,567", Err("say so")),
            ('.', Some(' '), "1 234", Ok("1234")),
        ] {
            match (notation(decimal, thousands).number(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
                (found, _) => panic!("{decimal} {text}: {found:?}"),
            }
        }
    }

    proptest! {
        /// No cell becomes anything but one number.
        #[test]
        fn a_number_is_one_number(text in "[-+0-9.,eE ]{0,12}|\\PC{0,6}", decimal in "[.,]", thousands in prop::option::of("[,. ]")) {
            let thousands = thousands.and_then(|text| text.chars().next());
            if let Ok(number) = notation(decimal.chars().next().unwrap(), thousands).number(&text) {
                prop_assert!(is_json_number(&number), "{text} {number}");
            }
        }

        /// What is written with commas and groups is the number that was meant.
        #[test]
        fn groups_and_commas_change_no_value(whole in 0u64..10_000_000_000, part in 0u32..1000) {
            let digits = whole.to_string();
            let grouped: Vec<String> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8(group.to_vec()).unwrap()).collect();
            let text = format!("{},{part:03}", grouped.join("."));
            let expected = format!("{whole}.{part:03}");
            prop_assert_eq!(notation(',', Some('.')).number(&text).unwrap(), expected);
        }
    }
}
