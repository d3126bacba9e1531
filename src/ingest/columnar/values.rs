//! Values of columns as text.

use std::fmt::Write as _;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Why a value has no text.
pub(super) type Unreadable = &'static str;

/// Separates members of a list or group.
pub(super) fn separate(n: usize, out: &mut String) {
    if n > 0 {
        out.push(',');
    }
}

/// Adds a text in JSON.
pub(super) fn push_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const CLOCK: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]:[second]");
const OUT_OF_RANGE: Unreadable = "has a time that is out of range";

/// A point in time, or what a clock somewhere shows; a day at midnight is a date.
pub(super) fn moment(since_1970: i128, in_utc: bool) -> Result<String, Unreadable> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(since_1970).map_err(|_| OUT_OF_RANGE)?;
    let day = at.format(DAY).map_err(|_| OUT_OF_RANGE)?;
    if !in_utc && at.time() == time::Time::MIDNIGHT {
        return Ok(day);
    }
    Ok(format!("{day}T{}{}", clock(since_1970.rem_euclid(86_400_000_000_000))?, if in_utc { "Z" } else { "" }))
}

/// A day, counted from 1970.
pub(super) fn date(days: i32) -> Result<String, Unreadable> {
    moment(i128::from(days) * 86_400_000_000_000, false)
}

/// A time of day, with the decimals that are not zero.
pub(super) fn clock(since_midnight: i128) -> Result<String, Unreadable> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(since_midnight).map_err(|_| OUT_OF_RANGE)?;
    let mut text = at.format(CLOCK).map_err(|_| OUT_OF_RANGE)?;
    if at.nanosecond() > 0 {
        let _ = write!(text, ".{:09}", at.nanosecond());
        text.truncate(text.trim_end_matches('0').len());
    }
    Ok(text)
}

/// That a number has too many digits.
pub(super) const TOO_LONG: Unreadable = "has decimals of more than 38 digits";

/// A decimal number, exactly.
pub(super) fn decimal(unscaled: i128, scale: i32) -> Result<String, Unreadable> {
    if !(0..=38).contains(&scale) {
        return Err(TOO_LONG);
    }
    let (scale, digits) = (scale as usize, unscaled.unsigned_abs().to_string());
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let point = if part.is_empty() { "" } else { "." };
    Ok(format!("{}{whole}{point}{part}", if unscaled < 0 { "-" } else { "" }))
}

/// A binary double as the canonical form writes it, so that it is kept.
pub(super) fn double(value: f64) -> String {
    match value.is_finite() {
        true => ryu_js::Buffer::new().format(value).to_owned(),
        false => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        let noon = 1_709_640_000_000_000_000;
        for (nanos, in_utc, expected) in [
            (noon, true, "2024-03-05T12:00:00Z"),
            (noon + 500_000, false, "2024-03-05T12:00:00.0005"),
            (noon - 43_200_000_000_000, false, "2024-03-05"),
            (noon - 43_200_000_000_000, true, "2024-03-05T00:00:00Z"),
            (-1, true, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(moment(nanos, in_utc).as_deref(), Ok(expected));
        }
        assert_eq!(moment(i128::MAX, true), Err(OUT_OF_RANGE));
        assert_eq!(date(-1).as_deref(), Ok("1969-12-31"));
    }
}
