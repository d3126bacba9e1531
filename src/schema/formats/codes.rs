//! Codes from published lists.

use iso_currency::Currency;

/// A country. ISO 3166-1 alpha-2.
pub fn country(text: &str) -> Result<(), String> {
    match rust_iso3166::from_alpha2(text) {
        Some(_) => Ok(()),
        None => Err("write the country's two capital letters of ISO 3166-1, as in CN".into()),
    }
}

/// A country's subdivision, such as a province. ISO 3166-2.
pub fn subdivision(text: &str) -> Result<(), String> {
    match rust_iso3166::iso3166_2::from_code(text) {
        Some(_) => Ok(()),
        None => Err("write the subdivision's code of ISO 3166-2, as in CN-BJ".into()),
    }
}

/// A currency. ISO 4217.
pub fn currency(text: &str) -> Result<(), String> {
    match Currency::from_code(text) {
        Some(_) => Ok(()),
        None => Err("write the currency's three capital letters of ISO 4217, as in CNY".into()),
    }
}

/// First and last division of each section. GB/T 4754-2017.
const SECTIONS: &[(char, u8, u8)] = &[
    ('A', 1, 5),
    ('B', 6, 12),
    ('C', 13, 43),
    ('D', 44, 46),
    ('E', 47, 50),
    ('F', 51, 52),
    ('G', 53, 60),
    ('H', 61, 62),
    ('I', 63, 65),
    ('J', 66, 69),
    ('K', 70, 70),
    ('L', 71, 72),
    ('M', 73, 75),
    ('N', 76, 79),
    ('O', 80, 82),
    ('P', 83, 83),
    ('Q', 84, 85),
    ('R', 86, 90),
    ('S', 91, 96),
    ('T', 97, 97),
];

/// A sector of the national economy: a section, or a division, group or class with or without its section. GB/T
/// 4754-2017: I, 65, I65, 651, 6513.
pub fn sector(text: &str) -> Result<(), String> {
    let wrong = || Err("write a code of GB/T 4754, as in I65 or 6513".into());
    let section = text.chars().next().filter(char::is_ascii_uppercase);
    let digits = if section.is_some() { &text[1..] } else { text };
    if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > 4 {
        return wrong();
    }
    let named = |letter: char| SECTIONS.iter().find(|(known, ..)| *known == letter);
    match (section, digits.get(..2).and_then(|division| division.parse::<u8>().ok())) {
        (Some(letter), None) if digits.is_empty() && named(letter).is_some() => Ok(()),
        (section, Some(division)) => {
            let found = SECTIONS.iter().find(|(_, first, last)| (*first..=*last).contains(&division));
            match (found, section) {
                (Some((right, ..)), Some(letter)) if *right != letter => {
                    Err(format!("division {division:02} of GB/T 4754 is in section {right}"))
                }
                (Some(_), _) => Ok(()),
                (None, _) => wrong(),
            }
        }
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_lists() {
        for (check, good, bad) in [
            (country as fn(&str) -> Result<(), String>, &["CN", "DE", "US"][..], &["cn", "XX", "CHN", ""][..]),
            (subdivision, &["CN-BJ", "CN-GD", "DE-BY", "US-CA"], &["CN-XX", "CN", "cn-bj", "BJ"]),
            (currency, &["CNY", "EUR", "USD", "JPY"], &["RMB", "cny", "", "ZZZ"]),
            (
                sector,
                &["I", "I65", "65", "651", "6513", "C3912", "T97"],
                &["U", "98", "00", "I6", "6", "65131", "软件", "i65"],
            ),
        ] {
            good.iter().for_each(|text| assert_eq!(check(text), Ok(()), "{text}"));
            bad.iter().for_each(|text| assert!(check(text).is_err(), "{text}"));
        }
        assert_eq!(sector("C65").unwrap_err(), "division 65 of GB/T 4754 is in section I");
    }
}
