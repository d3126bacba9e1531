use crate::ingest::columnar;
use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array,
    Int64Array, RecordBatch, StringArray, StringViewArray, StructArray, Time64NanosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use std::io::{Read, Seek, Write};
use std::sync::Arc;

/// A column of each type, with a missing value last.
fn batch() -> RecordBatch {
    let noon = 1_709_640_000_000_000i64;
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a"), None]);
    lists.append_value(None::<Option<&str>>);
    lists.append(false);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("k");
    maps.values().append_value(1);
    for present in [true, true, false] {
        maps.append(present).unwrap();
    }
    let group = StructArray::try_from(vec![
        ("n", Arc::new(Int64Array::from(vec![Some(1), None, None])) as ArrayRef),
        ("s", Arc::new(StringArray::from(vec![Some("x"), Some("\"y\""), None]))),
    ]);
    let columns: [(&str, ArrayRef); 16] = [
        ("i8", Arc::new(Int8Array::from(vec![Some(-5), Some(7), None]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(0.1), Some(1e21), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("s", Arc::new(StringArray::from(vec![Some("园区, \"x\""), Some(""), None]))),
        ("view", Arc::new(StringViewArray::from(vec![Some("短"), Some("longer than twelve bytes"), None]))),
        ("bin", Arc::new(BinaryArray::from(vec![Some(&b"abc"[..]), Some(b""), None]))),
        (
            "d",
            Arc::new(
                Decimal128Array::from(vec![Some(12_345), Some(-5), None]).with_precision_and_scale(18, 2).unwrap(),
            ),
        ),
        ("date", Arc::new(Date32Array::from(vec![Some(19_787), Some(-1), None]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(noon + 500), Some(noon - 43_200_000_000), None]))),
        (
            "zone",
            Arc::new(TimestampMillisecondArray::from(vec![Some(noon / 1000), Some(0), None]).with_timezone("+08:00")),
        ),
        ("time", Arc::new(Time64NanosecondArray::from(vec![Some(1), Some(34_200_000_000_000), None]))),
        ("cat", Arc::new([Some("x"), Some("y"), None].into_iter().collect::<DictionaryArray<Int8Type>>())),
        ("list", Arc::new(lists.finish())),
        ("map", Arc::new(maps.finish())),
        ("group", Arc::new(group.unwrap())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

const EXPECTED: &str = r#"i8,u64,f64,b,s,view,bin,d,date,ts,zone,time,cat,list,map,group
-5,18446744073709551615,0.1,true,"园区, ""x""",短,abc,123.45,2024-03-05,2024-03-05T12:00:00.0005,2024-03-05T12:00:00Z,00:00:00.000000001,x,"[""a"",null]","{""k"":1}","{""n"":1,""s"":""x""}"
7,0,1e+21,false,,longer than twelve bytes,,-0.05,1969-12-31,2024-03-05,1970-01-01T00:00:00Z,09:30:00,y,[],{},"{""s"":""\""y\""""}"
,,,,,,,,,,,,,,,{}
"#;

fn rows_of(bytes: &[u8]) -> std::io::Result<String> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    let mut text = String::new();
    columnar::arrow(file).read_to_string(&mut text).map(|_| text)
}

/// The batch as a file and as a stream, with each compression.
fn written() -> Vec<(String, Vec<u8>)> {
    let batch = batch();
    let mut all = Vec::new();
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = || IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut file = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options()).unwrap();
        file.write(&batch).unwrap();
        all.push((format!("file {compression:?}"), file.into_inner().unwrap()));
        let mut stream = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options()).unwrap();
        stream.write(&batch).unwrap();
        all.push((format!("stream {compression:?}"), stream.into_inner().unwrap()));
    }
    all
}

#[test]
fn every_type_is_exact() {
    for (name, bytes) in written() {
        let found = rows_of(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, EXPECTED, "{name}");
        // A stream may end without saying so, a file may not; neither may end within a message.
        let shorter = rows_of(&bytes[..bytes.len() - 8]);
        assert_eq!(shorter.is_ok(), name.starts_with("stream"), "{name}: {shorter:?}");
        assert!(rows_of(&bytes[..bytes.len() / 2]).is_err(), "{name}");
    }
    for (bytes, said) in [
        (&b"ARROW1\0\0"[..], "its end is missing"),
        (b"ARROW1\0\0\xFF\xFF\xFF\x7FARROW1", "its end is missing"),
        (b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", "a message has more than 16 MiB"),
        (b"\xFF\xFF\xFF\xFF\x10\0\0\0abc", "it ends within a message"),
        (b"\xFF\xFF\xFF\xFF\0\0\0\0", "it has no schema"),
        (b"", "it has no schema"),
    ] {
        assert!(rows_of(bytes).unwrap_err().to_string().contains(said), "{bytes:?}");
    }
}

/// A buffer that states a size beyond all memory is refused before anything is taken for it.
#[test]
fn claims_are_checked_before_they_are_believed() {
    for (name, bytes) in written().into_iter().filter(|(name, _)| !name.ends_with("None")) {
        let mut found = 0;
        for at in (0..bytes.len() - 8).step_by(8) {
            let mut altered = bytes.clone();
            altered[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
            if let Err(error) = rows_of(&altered) {
                found += usize::from(error.to_string().contains("more than 256 MiB"));
            }
        }
        assert!(found > 0, "{name}");
    }
}

#[test]
fn rows_without_values_are_few() {
    let nothing = |rows: usize| {
        let batch =
            RecordBatch::try_from_iter([("a", Arc::new(arrow_array::NullArray::new(rows)) as ArrayRef)]).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        rows_of(&stream.into_inner().unwrap())
    };
    assert_eq!(nothing(3).unwrap().lines().count(), 4);
    assert!(nothing(1 << 30).unwrap_err().to_string().contains("hardly any values"));
}

#[test]
fn altered_files_are_errors_or_other_files() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for (_, bytes) in written() {
        for _ in 0..150 {
            let mut altered = bytes.clone();
            for _ in 0..=next() % 3 {
                let at = next() % altered.len();
                altered[at] = [0, 1, 0x7F, 0x80, 0xFF][next() % 5];
            }
            let _ = rows_of(&altered);
        }
    }
}
