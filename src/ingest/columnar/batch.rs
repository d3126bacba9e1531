//! Rows of a record batch of Arrow as cells of CSV.

use super::values::{TOO_LONG, Unreadable, clock, date, decimal, double, moment, push_text, separate};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

/// Writes the value at a position, which is not missing.
type Writer<'a> = Box<dyn Fn(usize, &mut String) -> Result<(), Unreadable> + 'a>;

/// The name of a column, and why a value of it has no text.
type OfColumn = (String, Unreadable);

/// Writes the rows of a batch.
pub(super) struct Row<'a> {
    columns: Vec<(String, Column<'a>)>,
}

impl<'a> Row<'a> {
    /// Looks at the columns of a batch.
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, OfColumn> {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, array)| {
            let named = |what| (field.name().clone(), what);
            Ok((field.name().clone(), Column::of(array.as_ref()).map_err(named)?))
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Writes the cells of a row.
    pub(super) fn write(&self, n: usize, cells: &mut [String]) -> Result<(), OfColumn> {
        for ((name, column), cell) in self.columns.iter().zip(cells) {
            cell.clear();
            if !column.is_missing(n) {
                (column.write)(n, cell).map_err(|what| (name.clone(), what))?;
            }
        }
        Ok(())
    }
}

/// Values of one type.
struct Column<'a> {
    array: &'a dyn Array,
    write: Writer<'a>,
    /// Whether a value is a text in JSON.
    is_text: bool,
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Result<Self, Unreadable> {
        let (write, is_text) = writer(array)?;
        Ok(Self { array, write, is_text })
    }

    fn is_missing(&self, n: usize) -> bool {
        match self.array.data_type() {
            DataType::Null => true,
            _ => self.array.is_null(n),
        }
    }

    fn write_json(&self, n: usize, out: &mut String) -> Result<(), Unreadable> {
        if self.is_missing(n) {
            out.push_str("null");
            return Ok(());
        }
        if !self.is_text {
            return (self.write)(n, out);
        }
        let mut text = String::new();
        (self.write)(n, &mut text)?;
        push_text(&text, out);
        Ok(())
    }

    fn write_list(&self, range: std::ops::Range<usize>, out: &mut String) -> Result<(), Unreadable> {
        out.push('[');
        for (n, item) in range.enumerate() {
            separate(n, out);
            self.write_json(item, out)?;
        }
        out.push(']');
        Ok(())
    }
}

const OTHER: Unreadable = "has a type that is not read; write it as text, number, time, list or group";

/// How the values of an array are written, and whether they are texts in JSON.
fn writer(array: &dyn Array) -> Result<(Writer<'_>, bool), Unreadable> {
    macro_rules! number {
        ($kind:ty) => {{
            let values = array.as_primitive::<$kind>();
            (Box::new(move |n, out: &mut String| text(out, values.value(n).to_string())), false)
        }};
    }
    macro_rules! made {
        ($values:expr, $is_text:expr, $make:expr) => {{
            let (values, make) = ($values, $make);
            (Box::new(move |n, out: &mut String| text(out, make(values.value(n))?)), $is_text)
        }};
    }
    let utf8 =
        |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "holds bytes that are not text");
    let whole = |value: &str| Ok::<_, Unreadable>(value.to_owned());
    Ok(match array.data_type() {
        DataType::Null => (Box::new(|_, _: &mut String| Ok(())), false),
        DataType::Boolean => made!(array.as_boolean(), false, |value: bool| Ok::<_, Unreadable>(value.to_string())),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => number!(Float16Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => {
            made!(array.as_primitive::<Float64Type>(), false, |value| Ok::<_, Unreadable>(double(value)))
        }
        DataType::Utf8 => made!(array.as_string::<i32>(), true, whole),
        DataType::LargeUtf8 => made!(array.as_string::<i64>(), true, whole),
        DataType::Utf8View => made!(array.as_string_view(), true, whole),
        DataType::Binary => made!(array.as_binary::<i32>(), true, utf8),
        DataType::LargeBinary => made!(array.as_binary::<i64>(), true, utf8),
        DataType::BinaryView => made!(array.as_binary_view(), true, utf8),
        DataType::FixedSizeBinary(_) => made!(array.as_fixed_size_binary(), true, utf8),
        DataType::Decimal32(_, scale) => decimals(array.as_primitive::<Decimal32Type>(), *scale),
        DataType::Decimal64(_, scale) => decimals(array.as_primitive::<Decimal64Type>(), *scale),
        DataType::Decimal128(_, scale) => decimals(array.as_primitive::<Decimal128Type>(), *scale),
        DataType::Decimal256(_, scale) => {
            let scale = i32::from(*scale);
            made!(array.as_primitive::<Decimal256Type>(), false, move |value: arrow_buffer::i256| {
                decimal(value.to_i128().ok_or(TOO_LONG)?, scale)
            })
        }
        DataType::Date32 => made!(array.as_primitive::<Date32Type>(), true, date),
        DataType::Date64 => {
            made!(array.as_primitive::<Date64Type>(), true, |ms| moment(i128::from(ms) * 1_000_000, false))
        }
        DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => (times(array)?, true),
        DataType::Dictionary(..) => dictionary(array)?,
        _ => (nested(array)?, false),
    })
}

fn text(out: &mut String, value: String) -> Result<(), Unreadable> {
    out.push_str(&value);
    Ok(())
}

fn decimals<T>(values: &arrow_array::PrimitiveArray<T>, scale: i8) -> (Writer<'_>, bool)
where
    T: ArrowPrimitiveType,
    i128: From<T::Native>,
{
    let write = move |n, out: &mut String| text(out, decimal(i128::from(values.value(n)), i32::from(scale))?);
    (Box::new(write), false)
}

fn nanos(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Times of day, and points in time.
fn times(array: &dyn Array) -> Result<Writer<'_>, Unreadable> {
    macro_rules! of {
        ($kind:ty, $show:expr) => {{
            let (values, show) = (array.as_primitive::<$kind>(), $show);
            Box::new(move |n, out: &mut String| text(out, show(i128::from(values.value(n)))?))
        }};
    }
    Ok(match array.data_type() {
        DataType::Time32(TimeUnit::Second) => of!(Time32SecondType, |value| clock(value * 1_000_000_000)),
        DataType::Time32(TimeUnit::Millisecond) => of!(Time32MillisecondType, |value| clock(value * 1_000_000)),
        DataType::Time64(TimeUnit::Microsecond) => of!(Time64MicrosecondType, |value| clock(value * 1_000)),
        DataType::Time64(TimeUnit::Nanosecond) => of!(Time64NanosecondType, clock),
        DataType::Timestamp(unit, zone) => {
            let (nanos, in_utc) = (nanos(*unit), zone.is_some());
            let show = move |value: i128| moment(value * nanos, in_utc);
            match unit {
                TimeUnit::Second => of!(TimestampSecondType, show),
                TimeUnit::Millisecond => of!(TimestampMillisecondType, show),
                TimeUnit::Microsecond => of!(TimestampMicrosecondType, show),
                TimeUnit::Nanosecond => of!(TimestampNanosecondType, show),
            }
        }
        _ => return Err(OTHER),
    })
}

/// Values that stand in a dictionary.
fn dictionary(array: &dyn Array) -> Result<(Writer<'_>, bool), Unreadable> {
    let dictionary = array.as_any_dictionary();
    let values = Column::of(dictionary.values().as_ref())?;
    let is_text = values.is_text;
    let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
    let write = move |n: usize, out: &mut String| match keys.get(n) {
        Some(key) if !values.is_missing(*key) => (values.write)(*key, out),
        _ => Ok(()),
    };
    Ok((Box::new(write), is_text))
}

/// Lists, groups and maps, as JSON.
fn nested(array: &dyn Array) -> Result<Writer<'_>, Unreadable> {
    Ok(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (items, ends) = (Column::of(list.values().as_ref())?, list.value_offsets());
            Box::new(move |n, out: &mut String| items.write_list(ends[n] as usize..ends[n + 1] as usize, out))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (items, ends) = (Column::of(list.values().as_ref())?, list.value_offsets());
            Box::new(move |n, out: &mut String| items.write_list(ends[n] as usize..ends[n + 1] as usize, out))
        }
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let (items, length) = (Column::of(list.values().as_ref())?, list.value_length() as usize);
            Box::new(move |n, out: &mut String| items.write_list(n * length..(n + 1) * length, out))
        }
        DataType::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            let members = members.map(|(field, array)| Ok((field.name().as_str(), Column::of(array.as_ref())?)));
            let members: Vec<(&str, Column<'_>)> = members.collect::<Result<_, Unreadable>>()?;
            Box::new(move |n, out: &mut String| {
                out.push('{');
                for (at, (name, member)) in members.iter().filter(|(_, member)| !member.is_missing(n)).enumerate() {
                    separate(at, out);
                    push_text(name, out);
                    out.push(':');
                    member.write_json(n, out)?;
                }
                out.push('}');
                Ok(())
            })
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (Column::of(map.keys().as_ref())?, Column::of(map.values().as_ref())?);
            let ends = map.value_offsets();
            Box::new(move |n, out: &mut String| {
                out.push('{');
                for (at, pair) in (ends[n] as usize..ends[n + 1] as usize).enumerate() {
                    separate(at, out);
                    let mut key = String::new();
                    (keys.write)(pair, &mut key)?;
                    push_text(&key, out);
                    out.push(':');
                    values.write_json(pair, out)?;
                }
                out.push('}');
                Ok(())
            })
        }
        _ => return Err(OTHER),
    })
}
