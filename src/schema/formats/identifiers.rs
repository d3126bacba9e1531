//! Identifiers with check characters.

/// The characters of a unified social credit code. GB 32100-2015, table 1.
const USCC_CHARACTERS: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";

/// A unified social credit code. GB 32100-2015, section 5: the weights are powers of 3 modulo 31.
pub fn uscc(text: &str) -> Result<(), String> {
    if text.chars().count() != 18 {
        return Err(format!("a unified social credit code has 18 characters, not {}", text.chars().count()));
    }
    let mut weight = 1;
    let mut sum = 0;
    for c in text.chars().take(17) {
        let value = USCC_CHARACTERS.find(c).ok_or_else(|| format!("a unified social credit code contains no `{c}`"))?;
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    let right = USCC_CHARACTERS.as_bytes()[(31 - sum % 31) % 31];
    check_character(text, char::from(right))
}

fn check_character(text: &str, right: char) -> Result<(), String> {
    match text.chars().last() {
        Some(last) if last == right => Ok(()),
        _ => Err(format!("the check character would be `{right}`; compare it with the original")),
    }
}

/// A legal entity identifier. ISO 17442; its check digits are those of ISO/IEC 7064, MOD 97-10.
pub fn lei(text: &str) -> Result<(), String> {
    if text.len() != 20 || !text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
        return Err("a legal entity identifier has 20 capital letters and digits".into());
    }
    let (head, digits) = text.split_at(18);
    let right = 98 - remainder_97(head) * 100 % 97;
    match digits == format!("{right:02}") {
        true => Ok(()),
        false => Err(format!("the check digits would be {right:02}; compare it with the original")),
    }
}

/// The remainder modulo 97 of the number in which letters stand for 10 to 35.
fn remainder_97(text: &str) -> u32 {
    text.chars().filter_map(|c| c.to_digit(36)).fold(0, |sum, value| {
        let shift = if value > 9 { 100 } else { 10 };
        (sum * shift + value) % 97
    })
}

/// An international securities identification number. ISO 6166: a Luhn digit over digits and letters as 10 to 35.
pub fn isin(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 12
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..11].iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && bytes[11].is_ascii_digit();
    if !shaped {
        return Err("an ISIN has two capital letters, nine capital letters or digits, and a check digit".into());
    }
    let digits: Vec<u32> = text[..11]
        .chars()
        .filter_map(|c| c.to_digit(36))
        .flat_map(|value| if value > 9 { vec![value / 10, value % 10] } else { vec![value] })
        .collect();
    let doubled = |(n, digit): (usize, &u32)| match n % 2 {
        0 => digit * 2 / 10 + digit * 2 % 10,
        _ => *digit,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    check_character(text, char::from_digit((10 - sum % 10) % 10, 10).unwrap_or('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that their holders publish: in the registers of companies, of GLEIF, and of the exchanges.
    const PUBLISHED: &[(super::super::Check, &[&str])] = &[
        (uscc, &["9144030071526726XG", "91330100799655058B", "914403001922038216"]),
        (lei, &["HWUPKR0MPOU8FGXBT394", "7LTWFZYICNSX8D621K86", "5493001KJTIIGC8Y1R12", "300300C1030211000384"]),
        (isin, &["US0378331005", "AU0000XVGZA3", "GB0002634946", "CNE000001R84"]),
    ];

    #[test]
    fn published_codes_are_right_and_each_alteration_is_found() {
        for (check, codes) in PUBLISHED {
            for code in *codes {
                assert_eq!(check(code), Ok(()), "{code}");
                // Luhn's digit does not find every exchange of letters.
                let is_isin = code.len() == 12;
                for (at, old) in code.char_indices().filter(|(_, old)| !is_isin || old.is_ascii_digit()) {
                    // A letter counts as two digits: one in place of a digit is not always found.
                    let alike = |new: &char| *new != old && new.is_ascii_digit() == old.is_ascii_digit();
                    for new in "037AQW".chars().filter(alike) {
                        let mut altered = (*code).to_owned();
                        altered.replace_range(at..=at, &new.to_string());
                        assert!(check(&altered).is_err(), "{altered}");
                    }
                }
            }
        }
        assert!(uscc("9144030071526726XX").unwrap_err().contains("would be `G`"));
        assert!(uscc("91440300715267260I").unwrap_err().contains("check character"));
        assert!(uscc("9144030O71526726XG").unwrap_err().contains("no `O`"));
        assert!(lei("HWUPKR0MPOU8FGXBT395").unwrap_err().contains("would be 94"));
        assert!(isin("US0378331006").unwrap_err().contains("would be `5`"));
        assert!(isin("us0378331005").unwrap_err().contains("capital"));
    }
}
