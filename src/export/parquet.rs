//! Parquet with plain types that every reader knows: texts, 64-bit integers, doubles, truth values, dates, and instants in
//! microseconds; lists and objects are texts with JSON.

use super::cells::{Cell, Column, Columns, Holds};
use super::writer::RecordWriter;
use crate::core::json::Tape;
use crate::core::limits;
use jiff::{Timestamp, civil};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::io::{self, Write};
use std::sync::Arc;

pub(super) struct File<W: Write + Send> {
    out: SerializedFileWriter<W>,
    columns: Columns,
    /// The values of each column.
    values: Vec<Values>,
    rows: usize,
    bytes: usize,
}

/// The values of a column in a row group, and for each record whether it has one.
struct Values {
    present: Vec<i16>,
    values: Typed,
}

enum Typed {
    Texts(Vec<ByteArray>),
    Wholes(Vec<i64>),
    Doubles(Vec<f64>),
    Booleans(Vec<bool>),
    Days(Vec<i32>),
}

fn broken(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => io::Error::other(error),
        error => io::Error::other(error.to_string()),
    }
}

impl<W: Write + Send> File<W> {
    pub(super) fn begin(out: W, columns: Columns) -> io::Result<Self> {
        let fields: Result<Vec<Arc<Type>>, ParquetError> =
            columns.iter().map(|column| field(column).map(Arc::new)).collect();
        let schema = Type::group_type_builder("record").with_fields(fields.map_err(broken)?).build().map_err(broken)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_created_by(concat!("crosspark ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(broken)?;
        let empty = |column: &Column| Values { present: Vec::new(), values: Typed::of(column.holds) };
        Ok(Self { out, values: columns.iter().map(empty).collect(), columns, rows: 0, bytes: 0 })
    }

    fn flush_group(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group().map_err(broken)?;
        for Values { present, values } in &mut self.values {
            match values {
                Typed::Texts(values) => write::<ByteArrayType, W>(&mut group, values, present),
                Typed::Wholes(values) => write::<Int64Type, W>(&mut group, values, present),
                Typed::Doubles(values) => write::<DoubleType, W>(&mut group, values, present),
                Typed::Booleans(values) => write::<BoolType, W>(&mut group, values, present),
                Typed::Days(values) => write::<Int32Type, W>(&mut group, values, present),
            }
            .map_err(broken)?;
            present.clear();
            values.clear();
        }
        group.close().map_err(broken)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

fn write<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    present: &[i16],
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, Some(present), None)?;
        column.close()?;
    }
    Ok(())
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical, converted) = match column.holds {
        Holds::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String), ConvertedType::UTF8),
        Holds::Json => (Physical::BYTE_ARRAY, Some(LogicalType::String), ConvertedType::UTF8),
        Holds::Whole => (Physical::INT64, None, ConvertedType::NONE),
        Holds::Number => (Physical::DOUBLE, None, ConvertedType::NONE),
        Holds::Boolean => (Physical::BOOLEAN, None, ConvertedType::NONE),
        Holds::Date => (Physical::INT32, Some(LogicalType::Date), ConvertedType::DATE),
        Holds::Time => {
            let logical = LogicalType::timestamp(true, TimeUnit::MICROS);
            (Physical::INT64, Some(logical), ConvertedType::TIMESTAMP_MICROS)
        }
    };
    Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .with_converted_type(converted)
        .build()
}

impl Typed {
    fn of(holds: Holds) -> Self {
        match holds {
            Holds::Text | Holds::Json => Self::Texts(Vec::new()),
            Holds::Whole | Holds::Time => Self::Wholes(Vec::new()),
            Holds::Number => Self::Doubles(Vec::new()),
            Holds::Boolean => Self::Booleans(Vec::new()),
            Holds::Date => Self::Days(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Texts(values) => values.clear(),
            Self::Wholes(values) => values.clear(),
            Self::Doubles(values) => values.clear(),
            Self::Booleans(values) => values.clear(),
            Self::Days(values) => values.clear(),
        }
    }
}

impl Values {
    fn push(&mut self, column: &Column, cell: &Cell<'_>) -> io::Result<()> {
        if matches!(cell, Cell::Nothing) {
            self.present.push(0);
            return Ok(());
        }
        let wrong = |what: &str| {
            let (name, value) = (&column.name, cell.text());
            let shown: String = value.chars().take(limits::SHOWN_CHARS_MAX).collect();
            let problem = format!("{name}: `{shown}` is not {what}, which this format needs; write CSV or NDJSON");
            io::Error::new(io::ErrorKind::InvalidData, problem)
        };
        let text = cell.text();
        match (&mut self.values, cell) {
            (Typed::Texts(values), _) => values.push(text.as_bytes().to_vec().into()),
            (Typed::Wholes(values), _) if column.holds == Holds::Time => {
                values.push(microseconds(text).ok_or_else(|| wrong("an instant in whole microseconds"))?);
            }
            (Typed::Wholes(values), _) => values.push(text.parse().map_err(|_| wrong("a 64-bit integer"))?),
            (Typed::Doubles(values), _) => values.push(text.parse().map_err(|_| wrong("a number"))?),
            (Typed::Booleans(values), Cell::Boolean(value)) => values.push(*value),
            (Typed::Booleans(_), _) => return Err(wrong("true or false")),
            (Typed::Days(values), _) => values.push(days(text).ok_or_else(|| wrong("a date"))?),
        }
        self.present.push(1);
        Ok(())
    }
}

/// Days since 1970-01-01.
fn days(text: &str) -> Option<i32> {
    let day: civil::Date = text.parse().ok()?;
    let since = day.since(civil::date(1970, 1, 1)).ok()?;
    Some(since.get_days())
}

/// Microseconds since 1970; a second 60 and parts of microseconds have no number.
fn microseconds(text: &str) -> Option<i64> {
    let at: Timestamp = text.to_ascii_uppercase().parse().ok()?;
    (!text.contains(":60") && at.subsec_nanosecond() % 1_000 == 0).then(|| at.as_microsecond())
}

impl<W: Write + Send> RecordWriter for File<W> {
    fn record(&mut self, tape: &Tape) -> io::Result<()> {
        let cells = self.columns.cells(tape)?;
        for ((column, values), cell) in self.columns.iter().zip(&mut self.values).zip(cells) {
            self.bytes += 16 + cell.text().len();
            values.push(column, &cell)?;
        }
        self.rows += 1;
        if self.rows >= limits::ROW_GROUP_ROWS_MAX || self.bytes >= limits::ROW_GROUP_BYTES_MAX {
            self.flush_group()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush_group()?;
        self.out.finish().map_err(broken)?;
        self.out.inner_mut().flush()
    }
}
