//! Named formats of schemas beyond JSON Schema's own: identifiers with check characters, codes and units. And `iri`,
//! which is JSON Schema's own, with a reason that says what would be right.

mod codes;
mod identifiers;
mod units;

use crate::core::visible::{is_invisible, is_override};

/// Checks a text; the error says what would be right.
type Check = fn(&str) -> Result<(), String>;

/// The formats by name.
pub const FORMATS: &[(&str, Check)] = &[
    ("decimal", decimal),
    ("gbt-4754", codes::sector),
    ("iri", iri),
    ("isin", identifiers::isin),
    ("iso-3166-1", codes::country),
    ("iso-3166-2", codes::subdivision),
    ("iso-4217", codes::currency),
    ("lei", identifiers::lei),
    ("period", period),
    ("text", text),
    ("ucum", units::ucum),
    ("uscc", identifiers::uscc),
];

/// The format of a number that is a binary double (IEEE 754 binary64), as in OpenAPI 3.1.
pub const FORMAT_DOUBLE: &str = "double";

/// What is wrong with a text in one of our formats; `None` if nothing is, or the format is another one.
pub fn problem(format: &str, text: &str) -> Option<String> {
    let (_, check) = FORMATS.iter().find(|(name, _)| *name == format)?;
    check(text).err()
}

/// Text that people read: unless it is empty, it shows something, and nothing in it changes the order in which it is shown.
fn text(text: &str) -> Result<(), String> {
    // The first bytes, in UTF-8, of the characters sought below and of few others; looked for without a branch for each.
    let rare = |b: u8| b < 0x20 || b == 0x7F || b == 0xC2 || b == 0xE2;
    if text.bytes().fold(false, |found, b| found | rare(b))
        && let Some(c) = text.chars().find(|c| is_override(*c) || (c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
    {
        return Err(format!("it contains the invisible character U+{:04X}; remove it", c as u32));
    }
    if !text.is_empty() && text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return Err("nothing of it is visible; leave the field out".into());
    }
    Ok(())
}

/// An absolute address (RFC 3987).
fn iri(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    // Most addresses have no more than a host and a path of unreserved characters.
    if rest.is_some_and(|rest| rest.bytes().all(plain)) || fluent_uri::Iri::parse(text).is_ok() {
        return Ok(());
    }
    Err("write an address with its scheme and without spaces, as in https://例子.中国/".into())
}

/// A number of any length as text, for those that a double cannot hold.
fn decimal(text: &str) -> Result<(), String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let good = all_digits(whole) && part.is_none_or(all_digits) && (whole.len() == 1 || !whole.starts_with('0'));
    if good { Ok(()) } else { Err("write a decimal number, as in -1234.50".into()) }
}

/// A year, a quarter or a month.
fn period(text: &str) -> Result<(), String> {
    let (year, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u8>().ok()).flatten();
    let good = year.len() == 4
        && year.bytes().all(|b| b.is_ascii_digit())
        && match rest.as_bytes() {
            [] => true,
            [b'-', b'Q', quarter] => (b'1'..=b'4').contains(quarter),
            [b'-', _, _] => number(&rest[1..]).is_some_and(|month| (1..=12).contains(&month)),
            _ => false,
        };
    if good { Ok(()) } else { Err("write a year, quarter or month, as in 2024, 2024-Q1 or 2024-01".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fails(format: &str, text: &str, part: &str) {
        let problem = problem(format, text).unwrap_or_else(|| panic!("{format} accepts {text:?}"));
        assert!(problem.contains(part), "{format} {text:?}: {problem}");
    }

    #[test]
    fn texts_show_something() {
        for good in ["", "a", "中关村", "line\nline", "مجمع", "👩‍🚀"] {
            assert_eq!(problem("text", good), None, "{good:?}");
        }
        for empty in [" ", "\u{3000}", "\u{200B}\u{FEFF}", "\u{3164}"] {
            fails("text", empty, "nothing of it is visible");
        }
        fails("text", "a\u{202E}b", "U+202E");
        fails("text", "a\0", "U+0000");
    }

    #[test]
    fn numbers_and_periods() {
        for (format, good, bad) in [
            (
                "decimal",
                &["0", "-1", "12.50", "123456789012345678901234567890.1"][..],
                &["", "-", "01", "1.", ".5", "1e3", "１"][..],
            ),
            (
                "period",
                &["2024", "2024-Q4", "2024-12"],
                &["24", "2024-13", "2024-00", "2024-Q5", "2024-1", "2024-+1", "年年", "2024-Q"],
            ),
        ] {
            good.iter().for_each(|text| assert_eq!(problem(format, text), None, "{text}"));
            bad.iter().for_each(|text| fails(format, text, "write"));
        }
    }

    #[test]
    fn every_invisible_character_is_found() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let wrong = is_override(c) || (c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
            assert_eq!(text(&format!("a{c}b")).is_err(), wrong, "U+{:04X}", c as u32);
        }
    }

    proptest! {
        /// The short way accepts no more than the long one.
        #[test]
        fn plain_addresses_are_addresses(text in "https?://[a-zA-Z0-9._~/%:@?#\\[\\] -]{0,20}") {
            prop_assert_eq!(iri(&text).is_ok(), fluent_uri::Iri::parse(text.as_str()).is_ok());
        }

        /// No text makes a format panic.
        #[test]
        fn any_text_has_a_verdict(text in "\\PC{0,40}|[0-9A-Z.\\-]{0,22}|[a-zA-Z0-9*\\[\\]{}()./%^+-]{0,20}") {
            for (_, check) in FORMATS {
                let _ = check(&text);
            }
        }
    }
}
