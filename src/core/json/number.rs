//! Numbers that keep their decimal value.
//!
//! RFC 8785 section 3.2.2.3 writes every number as ECMAScript writes the corresponding double, which silently changes
//! numbers that a double cannot represent. Here a number is accepted only if its canonical form has the same decimal
//! value (1.0 becomes 1; 12345678901234567890 is rejected).

/// Why a number is rejected.
#[derive(Debug, PartialEq, Eq)]
pub enum NumberError {
    /// The canonical form would have this other value.
    Changes(String),
    /// No finite double is near the value.
    OutOfRange,
}

/// The end of the JSON number that begins at `at`, or the offset at which its grammar is violated.
pub fn scan(text: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let some_digits = |at: usize| Some(digits(at)).filter(|&end| end > at).ok_or(at);
    let mut at = if text.get(at) == Some(&b'-') { at + 1 } else { at };
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => some_digits(at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = some_digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = some_digits(at)?;
    }
    // `01` and `1a` end in the middle of a token.
    match text.get(at) {
        Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_') => Err(at),
        _ => Ok(at),
    }
}

/// Whether a lexeme is known to be canonical and exact: at most 15 significant digits (which every double keeps), no
/// exponent, no trailing zero after the point, no negative zero, not below 1e-6 (where ECMAScript uses exponents).
pub fn is_canonical(lexeme: &[u8]) -> bool {
    let digits = lexeme.strip_prefix(b"-").unwrap_or(lexeme);
    if digits.len() > 16 {
        return false;
    }
    let mut point = None;
    for (i, b) in digits.iter().enumerate() {
        match b {
            b'0'..=b'9' => {}
            b'.' => point = Some(i),
            _ => return false,
        }
    }
    match point {
        None => digits.len() <= 15 && lexeme != b"-0",
        Some(at) => {
            let fraction = &digits[at + 1..];
            let tiny = digits[0] == b'0' && fraction.starts_with(b"000000");
            fraction.last() != Some(&b'0') && !tiny
        }
    }
}

/// The canonical form of a lexeme accepted by [`scan`].
pub fn canonical(lexeme: &str) -> Result<String, NumberError> {
    let value: f64 = lexeme.parse().map_err(|_| NumberError::OutOfRange)?;
    if !value.is_finite() {
        return Err(NumberError::OutOfRange);
    }
    let mut buffer = ryu_js::Buffer::new();
    let text = buffer.format_finite(value);
    if decimal(text) == decimal(lexeme) { Ok(text.to_owned()) } else { Err(NumberError::Changes(text.to_owned())) }
}

/// The exact product of two lexemes accepted by [`scan`], as a lexeme; `None` if it has more digits than are calculated with.
pub fn product(one: &str, other: &str) -> Option<String> {
    let ((negative, digits, exponent), (others_sign, others, others_exponent)) = (decimal(one), decimal(other));
    if digits.is_empty() || others.is_empty() {
        return Some("0".into());
    }
    if digits.len() + others.len() > PRODUCT_DIGITS_MAX {
        return None;
    }
    let digits: u128 = digits.parse::<u128>().ok()?.checked_mul(others.parse().ok()?)?;
    let sign = if negative == others_sign { "" } else { "-" };
    Some(format!("{sign}{digits}e{}", exponent.saturating_add(others_exponent)))
}

/// Digits of two factors together, so that their product has a place in 128 bits.
const PRODUCT_DIGITS_MAX: usize = 38;

/// A normalised decimal value: sign, digits without leading or trailing zeros, exponent of the last digit.
/// Zero has no digits, sign or exponent.
fn decimal(lexeme: &str) -> (bool, String, i64) {
    let (negative, rest) = lexeme.strip_prefix('-').map_or((false, lexeme), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let without_end = digits.trim_end_matches('0');
    let significant = without_end.trim_start_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    // An exponent beyond i64 means that the value was out of range or became zero: unequal in either case.
    let exponent: i64 = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    let dropped = (digits.len() - without_end.len()) as i64;
    (negative, significant.to_owned(), exponent.saturating_sub(fraction.len() as i64).saturating_add(dropped))
}
