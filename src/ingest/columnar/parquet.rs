//! The rows of a Parquet file as CSV.

use super::values::{self, TOO_LONG, Unreadable, clock, date, moment, push_text, separate};
use crate::core::limits;
use crate::ingest::csv::write_row;
use crate::ingest::invalid;
use crate::ingest::piped::piped;
use parquet::basic::{LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::{Type, TypePtr};
use std::fs::File;
use std::io::{self, Read};

fn broken(error: impl std::fmt::Display) -> io::Error {
    invalid(format!("the Parquet file cannot be read: {error}"))
}

/// The rows of a file, after one with the names of the columns.
pub fn rows(file: File) -> impl Read + Send {
    piped(move |out| {
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let columns: Vec<TypePtr> = reader.metadata().file_metadata().schema().get_fields().to_vec();
        if columns.len() > limits::CSV_COLUMNS_MAX {
            return Err(invalid(format!("the file has more than {} columns", limits::CSV_COLUMNS_MAX)));
        }
        write_row(out, columns.iter().map(|column| column.name()))?;
        let mut cells: Vec<String> = vec![String::new(); columns.len()];
        for row in RowIter::from_file_into(Box::new(reader)) {
            let row = row.map_err(broken)?;
            for ((cell, column), (name, field)) in cells.iter_mut().zip(&columns).zip(row.get_column_iter()) {
                cell.clear();
                write_cell(field, column, cell).map_err(|what| invalid(format!("the column `{name}` {what}")))?;
            }
            write_row(out, cells.iter().map(String::as_str))?;
        }
        Ok(())
    })
}

/// A value as a cell of CSV.
fn write_cell(field: &Field, kind: &Type, out: &mut String) -> Result<(), Unreadable> {
    match field {
        Field::Null => Ok(()),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => write_json(field, kind, out),
        _ => plain(field, kind).map(|text| out.push_str(&text)),
    }
}

/// A value as JSON.
fn write_json(field: &Field, kind: &Type, out: &mut String) -> Result<(), Unreadable> {
    match field {
        Field::Null => out.push_str("null"),
        Field::ListInternal(list) => {
            out.push('[');
            for (n, item) in list.elements().iter().enumerate() {
                separate(n, out);
                write_json(item, element(kind), out)?;
            }
            out.push(']');
        }
        Field::Group(row) => {
            out.push('{');
            for (n, (name, member)) in row.get_column_iter().filter(|(_, member)| **member != Field::Null).enumerate() {
                separate(n, out);
                push_text(name, out);
                out.push(':');
                write_json(member, member_type(kind, name), out)?;
            }
            out.push('}');
        }
        Field::MapInternal(map) => {
            out.push('{');
            let pair = element(kind);
            for (n, (key, value)) in map.entries().iter().enumerate() {
                separate(n, out);
                push_text(&plain(key, member_type(pair, "key"))?, out);
                out.push(':');
                write_json(value, member_type(pair, "value"), out)?;
            }
            out.push('}');
        }
        Field::Str(_) | Field::Bytes(_) | Field::Date(_) => push_text(&plain(field, kind)?, out),
        Field::TimeMillis(_) | Field::TimeMicros(_) | Field::TimestampMillis(_) | Field::TimestampMicros(_) => {
            push_text(&plain(field, kind)?, out);
        }
        _ if matches!(
            kind.get_basic_info().logical_type_ref(),
            Some(LogicalType::Timestamp(_) | LogicalType::Time(_))
        ) =>
        {
            push_text(&plain(field, kind)?, out);
        }
        _ => out.push_str(&plain(field, kind)?),
    }
    Ok(())
}

/// The type of a list's elements or a map's pairs, which groups surround (LogicalTypes.md, "Nested Types").
fn element(kind: &Type) -> &Type {
    let mut inner = kind;
    // LIST: a repeated group with the element; MAP: a repeated group with key and value.
    for _ in 0..2 {
        match inner.is_group().then(|| inner.get_fields()) {
            Some([one]) => inner = one,
            _ => return inner,
        }
    }
    inner
}

fn member_type<'a>(kind: &'a Type, name: &str) -> &'a Type {
    let members: &[TypePtr] = if kind.is_group() { kind.get_fields() } else { &[] };
    members.iter().find(|member| member.name() == name).map_or(kind, |member| member)
}

/// A value that is no list or group, as text.
fn plain(field: &Field, kind: &Type) -> Result<String, Unreadable> {
    let logical = kind.get_basic_info().logical_type_ref();
    let stamp = |value: i64, stated: i128| match logical {
        Some(LogicalType::Timestamp(kind)) => moment(i128::from(value) * nanos(&kind.unit), kind.is_adjusted_to_u_t_c),
        _ => moment(i128::from(value) * stated, true),
    };
    Ok(match field {
        Field::Bool(value) => value.to_string(),
        Field::Byte(value) => value.to_string(),
        Field::Short(value) => value.to_string(),
        Field::UByte(value) => value.to_string(),
        Field::UShort(value) => value.to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        Field::Int(value) => match logical {
            Some(LogicalType::Date) => date(*value)?,
            Some(LogicalType::Time(kind)) => clock(i128::from(*value) * nanos(&kind.unit))?,
            Some(LogicalType::Decimal(kind)) => decimal(&Decimal::from_i32(*value, kind.precision, kind.scale))?,
            _ => value.to_string(),
        },
        Field::Long(value) => match logical {
            Some(LogicalType::Timestamp(_)) => stamp(*value, 1)?,
            Some(LogicalType::Time(kind)) => clock(i128::from(*value) * nanos(&kind.unit))?,
            Some(LogicalType::Decimal(kind)) => decimal(&Decimal::from_i64(*value, kind.precision, kind.scale))?,
            Some(LogicalType::Integer(kind)) if !kind.is_signed => (*value as u64).to_string(),
            _ => value.to_string(),
        },
        Field::Float16(value) => value.to_f32().to_string(),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => values::double(*value),
        Field::Decimal(value) => decimal(value)?,
        Field::Str(value) => value.clone(),
        Field::Bytes(value) => match (logical, value.data()) {
            (Some(LogicalType::Uuid), bytes) if bytes.len() == 16 => {
                uuid::Uuid::from_slice(bytes).map_err(|_| "has a UUID of another length")?.to_string()
            }
            (_, bytes) => std::str::from_utf8(bytes).map_err(|_| "holds bytes that are not text")?.to_owned(),
        },
        Field::Date(days) => date(*days)?,
        Field::TimeMillis(value) => clock(i128::from(*value) * 1_000_000)?,
        Field::TimeMicros(value) => clock(i128::from(*value) * 1_000)?,
        Field::TimestampMillis(value) if logical.is_none() => moment(i128::from(*value) * 1_000_000, false)?,
        Field::TimestampMillis(value) => stamp(*value, 1_000_000)?,
        Field::TimestampMicros(value) => stamp(*value, 1_000)?,
        Field::Null | Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => String::new(),
    })
}

fn nanos(unit: &TimeUnit) -> i128 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1_000,
        TimeUnit::NANOS => 1,
    }
}

/// A decimal number, exactly.
fn decimal(value: &Decimal) -> Result<String, Unreadable> {
    let bytes = value.data();
    if bytes.len() > 16 {
        return Err(TOO_LONG);
    }
    // Big-endian two's complement (LogicalTypes.md, "DECIMAL").
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let unscaled = bytes.iter().fold(if negative { -1i128 } else { 0 }, |so_far, byte| so_far << 8 | i128::from(*byte));
    values::decimal(unscaled, value.scale())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (unscaled, scale, expected) in
            [(12_345, 2, "123.45"), (-5, 3, "-0.005"), (7, 0, "7"), (-1_234_567_890_123, 4, "-123456789.0123")]
        {
            assert_eq!(decimal(&Decimal::from_i64(unscaled, 18, scale)).as_deref(), Ok(expected));
        }
        let wide = Decimal::from_bytes(vec![0xFF; 16].into(), 38, 10);
        assert_eq!(decimal(&wide).as_deref(), Ok("-0.0000000001"));
        assert_eq!(decimal(&Decimal::from_bytes(vec![0x7F; 17].into(), 40, 0)), Err(TOO_LONG));
    }
}
