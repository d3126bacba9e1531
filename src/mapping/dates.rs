//! Dates and times as people write them.

use crate::core::limits;
use jiff::civil;
use jiff::fmt::strtime::{self, BrokenDownTime};
use serde::Serialize;

/// How dates and times are written, as strftime writes them. In a file, it may also be one format, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Dates {
    /// The formats, of which the first one that fits is taken, such as `%d.%m.%Y` or `%Y年%m月%d日`.
    pub formats: Vec<String>,
    /// The format of the result; by default RFC 3339, as far as the format goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The offset of times that state none, such as `+08:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// How precise a format is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Year,
    Month,
    Day,
    Time,
}

/// Fails, saying what is wrong, unless dates can be read like this.
pub(super) fn check(dates: &Dates) -> Result<(), String> {
    if dates.formats.is_empty() || dates.formats.len() > limits::RULE_DATES_MAX {
        return Err(format!("date needs 1 to {} formats", limits::RULE_DATES_MAX));
    }
    let zone = dates.zone.as_deref();
    if let Some(zone) = zone.filter(|zone| offset(zone).is_none()) {
        return Err(format!("`{zone}` is not an offset, such as +08:00"));
    }
    for format in &dates.formats {
        let precision = precision(format)
            .ok_or_else(|| format!("`{format}` has no year, or a part that is not read; write a format such as %Y-%m-%d, %Y年%m月%d日 or %d/%m/%Y %I:%M %p"))?;
        // What it writes must be what it reads: this finds directives that do not exist.
        let sample = BrokenDownTime::from(&sample());
        let written = sample.to_string(format).map_err(|error| format!("`{format}`: {error}"))?;
        read(&written, format, precision, dates).map_err(|error| format!("`{format}`: {error}"))?;
    }
    Ok(())
}

fn sample() -> jiff::Zoned {
    let offset = jiff::tz::Offset::constant(8);
    let zone = jiff::tz::TimeZone::fixed(offset);
    // 2001-02-03T04:05:06Z.
    jiff::Timestamp::constant(981_173_106, 0).to_zoned(zone)
}

/// The day or time of a text as RFC 3339 writes it, or as [`Dates::to`] says; fails with what is wrong.
pub(super) fn convert(text: &str, dates: &Dates) -> Result<String, String> {
    let formats = dates.formats.iter().filter_map(|format| Some((format, precision(format)?)));
    let mut found = formats.filter_map(|(format, precision)| read(text, format, precision, dates).ok());
    found.next().ok_or_else(|| format!("is not a date like {}", dates.formats.join(" or ")))
}

fn read(text: &str, format: &str, precision: Precision, dates: &Dates) -> Result<String, String> {
    let wrong = |error: jiff::Error| error.to_string();
    // An offset as others write it, too: +0100, +01:00, Z.
    let offsets = ["%z", "%:z", "Z"].map(|offset| format.replace("%z", offset));
    let zulu = |form: &String| form.contains('Z') && !format.contains('Z');
    let (form, mut parsed) = match offsets.iter().find_map(|form| Some((form, strtime::parse(form, text).ok()?))) {
        Some((form, parsed)) => (form.clone(), parsed),
        None => (format.to_owned(), strtime::parse(format, text).map_err(wrong)?),
    };
    if zulu(&form) && parsed.offset().is_none() {
        parsed.set_offset(Some(jiff::tz::Offset::UTC));
    }
    if precision < Precision::Month && parsed.day_of_year().is_none() {
        parsed.set_month(Some(1)).map_err(wrong)?;
    }
    if precision < Precision::Day && parsed.day_of_year().is_none() {
        parsed.set_day(Some(1)).map_err(wrong)?;
    }
    let day = parsed.to_date().map_err(wrong)?;
    if let Some(to) = &dates.to {
        let time = parsed.to_time().unwrap_or(civil::Time::midnight());
        return strtime::format(to, day.to_datetime(time)).map_err(wrong);
    }
    Ok(match precision {
        Precision::Year => format!("{:04}", day.year()),
        Precision::Month => format!("{:04}-{:02}", day.year(), day.month()),
        Precision::Day => day.to_string(),
        Precision::Time => time(&parsed, day, dates.zone.as_deref())?,
    })
}

fn time(parsed: &BrokenDownTime, day: civil::Date, zone: Option<&str>) -> Result<String, String> {
    let time = parsed.to_time().map_err(|error| error.to_string())?;
    let stated = parsed.offset().map(|offset| match offset.seconds() {
        0 => "Z".to_owned(),
        seconds => {
            let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    });
    let zone = stated.or_else(|| zone.map(str::to_owned)).ok_or("the time has no zone; give zone, such as +08:00")?;
    Ok(format!("{day}T{time}{zone}"))
}

fn offset(text: &str) -> Option<()> {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let written =
        bytes.len() == 6 && matches!(bytes[0], b'+' | b'-') && digits(1..3) && bytes[3] == b':' && digits(4..6);
    (text == "Z" || written).then_some(())
}

/// How far a format goes; `None` if it has no year.
fn precision(format: &str) -> Option<Precision> {
    let mut directives = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            directives.extend(chars.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '%'));
        }
    }
    // Weeks, names of zones and the like would be passed over.
    let known = |c: &char| "YymdejbBhFDHIklMSfTRpPzaAnt%".contains(*c);
    let twelve =
        directives.iter().any(|c| matches!(c, 'I' | 'l')) && !directives.iter().any(|c| matches!(c, 'p' | 'P'));
    if twelve || !directives.iter().all(known) {
        return None;
    }
    let has = |any: &str| directives.iter().any(|c| any.contains(*c));
    match () {
        () if !has("YyFD") => None,
        () if has("HIklTRSMf") => Some(Precision::Time),
        () if has("dejFD") => Some(Precision::Day),
        () if has("mbBh") => Some(Precision::Month),
        () => Some(Precision::Year),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(formats: &[&str], to: Option<&str>, zone: Option<&str>) -> Dates {
        Dates {
            formats: formats.iter().map(|format| (*format).to_owned()).collect(),
            to: to.map(str::to_owned),
            zone: zone.map(str::to_owned),
        }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        for (formats, to, zone, text, expected) in [
            (&["%Y年%m月%d日"][..], None, None, "2024年3月5日", Ok("2024-03-05")),
            (&["%d.%m.%Y"], None, None, "5.3.2024", Ok("2024-03-05")),
            (&["%d/%m/%Y", "%Y-%m-%d"], None, None, "2024-03-05", Ok("2024-03-05")),
            (&["%d/%m/%Y"], None, None, "31/02/2024", Err("is not a date like %d/%m/%Y")),
            (&["%m/%d/%y"], None, None, "3/5/24", Ok("2024-03-05")),
            (&["%d %b %Y"], None, None, "5 Mar 2024", Ok("2024-03-05")),
            (&["%Y%m%d"], None, None, "20240305", Ok("2024-03-05")),
            (&["%Y年%m月"], None, None, "2024年11月", Ok("2024-11")),
            (&["%Y"], None, None, "2024", Ok("2024")),
            (&["%Y-%m-%d"], Some("%Y"), None, "2024-03-05", Ok("2024")),
            (&["%Y/%m/%d %H:%M"], None, Some("+08:00"), "2024/3/5 9:07", Ok("2024-03-05T09:07:00+08:00")),
            (&["%Y-%m-%dT%H:%M:%S%z"], None, None, "2024-03-05T09:07:00+0100", Ok("2024-03-05T09:07:00+01:00")),
            (&["%Y-%m-%dT%H:%M:%S%z"], None, None, "2024-03-05T09:07:00+01:00", Ok("2024-03-05T09:07:00+01:00")),
            (&["%Y-%m-%dT%H:%M:%S%z"], None, None, "2024-03-05T09:07:00Z", Ok("2024-03-05T09:07:00Z")),
            (&["%Y/%m/%d %H:%M"], None, None, "2024/3/5 9:07", Err("is not a date")),
            (&["%Y-%m-%d"], None, None, "2024-03-05x", Err("is not a date")),
            (&["%Y-%m-%d"], None, None, "", Err("is not a date")),
        ] {
            let found = convert(text, &dates(formats, to, zone));
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Ok(expected), "{formats:?} {text}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{formats:?} {text}"),
            }
        }
    }

    #[test]
    fn formats_that_cannot_be_read_are_refused() {
        for (format, zone, part) in [
            ("%d.%m", None, "has no year"),
            ("YYYY-MM-DD", None, "has no year"),
            ("%G-W%V-%u", None, "has no year, or a part"),
            ("%Y-%m-%d %I:%M", Some("+08:00"), "has no year, or a part"),
            ("%Y-%m-%d %H:%M %Q", Some("+08:00"), "has no year, or a part"),
            ("%Y-%m-%J", None, "%Y-%m-%J"),
            ("%Y-%m-%d %H:%M", None, "give zone"),
            ("%Y-%m-%d", Some("Shanghai"), "not an offset"),
        ] {
            let found = check(&dates(&[format], None, zone)).unwrap_err();
            assert!(found.contains(part), "{format}: {found}");
        }
        assert_eq!(check(&dates(&["%Y-%m-%d %H:%M", "%F", "%D", "%d %B %Y"], None, Some("+08:00"))), Ok(()));
    }
}
