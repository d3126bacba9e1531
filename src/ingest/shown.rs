//! Values of spreadsheets, as people see them.

use calamine::{Data, ExcelDateTime};

/// A cell as people see it, as far as it is a value.
pub fn text_of(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        Data::String(text) => text.clone(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => number_text(*number),
        Data::Bool(value) => value.to_string(),
        Data::DateTime(time) => time_text(time),
        Data::DateTimeIso(text) => text.strip_suffix("T00:00:00").unwrap_or(text).to_owned(),
        Data::DurationIso(text) => text.clone(),
        Data::Error(error) => error.to_string(),
    }
}

/// A number with the 15 digits that spreadsheets keep: 7.0000000000000009 is 7.
pub fn number_text(number: f64) -> String {
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    match rounded.abs() {
        // A number that long has lost digits; shown as a spreadsheet shows it, it is not taken for what it was.
        size if size >= 1e15 => format!("{rounded:E}"),
        _ if rounded.is_finite() => ryu_js::Buffer::new().format(rounded).to_owned(),
        _ => rounded.to_string(),
    }
}

fn time_text(time: &ExcelDateTime) -> String {
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let clock = |hour: u64| match milli {
        0 => format!("{hour:02}:{minute:02}:{second:02}"),
        milli => format!("{hour:02}:{minute:02}:{second:02}.{milli:03}"),
    };
    let (value, date) = (time.as_f64(), format!("{year:04}-{month:02}-{day:02}"));
    match value {
        // Hours may be more than a day's.
        value if time.is_duration() => clock((value.max(0.0) * 24.0 + 1e-6) as u64),
        value if (0.0..1.0).contains(&value) => clock(u64::from(hour)),
        _ if (hour, minute, second, milli) == (0, 0, 0, 0) => date,
        _ => format!("{date}T{}", clock(u64::from(hour))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calamine::ExcelDateTimeType;

    #[test]
    fn cells_are_what_people_see() {
        let time = |value, is_1904| Data::DateTime(ExcelDateTime::new(value, ExcelDateTimeType::DateTime, is_1904));
        let span = |value| Data::DateTime(ExcelDateTime::new(value, ExcelDateTimeType::TimeDelta, false));
        for (cell, expected) in [
            (Data::Float(7.000000000000001), "7"),
            (Data::Float(0.1 + 0.2), "0.3"),
            (Data::Float(40300.61996 + 4e-12), "40300.61996"),
            (Data::Float(12.0), "12"),
            (Data::Float(911101072300000.0), "911101072300000"),
            (Data::Float(110101199003070000.0), "1.1010119900307E17"),
            (Data::Int(5), "5"),
            (Data::Bool(true), "true"),
            (time(45_356.0, false), "2024-03-05"),
            (time(43_894.0, true), "2024-03-05"),
            (time(45_356.375, false), "2024-03-05T09:00:00"),
            (time(0.375, false), "09:00:00"),
            (span(1.5), "36:00:00"),
            (Data::DateTimeIso("2024-03-05T00:00:00".into()), "2024-03-05"),
            (Data::Error(calamine::CellErrorType::NA), "#N/A"),
            (Data::Empty, ""),
        ] {
            assert_eq!(text_of(&cell), expected, "{cell:?}");
        }
    }
}
