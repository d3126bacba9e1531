//! Files as people have them: what is found out of each, and the records that it becomes.

use super::*;
use crate::core::limits;
use encoding_rs::{BIG5, GB18030, WINDOWS_1252};
use rust_xlsxwriter::{ExcelDateTime, Format as CellFormat, Workbook};
use std::fs::File;
use std::io::{Read, Seek, Write};

/// A schema with a field of each kind.
fn schema() -> Schema {
    let field = |kind: &str, english: &str, chinese: &str| serde_json::json!({"type": kind, "title": english, "x-zh": {"title": chinese}});
    let mut day = field("string", "Day", "日期");
    day["format"] = "date".into();
    let schema = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:test:files", "x-version": "1.0.0",
        "type": "object", "additionalProperties": false, "required": ["id"],
        "properties": {
            "id": field("string", "Number", "编号"), "name": field("string", "Name", "名称"),
            "staff": field("integer", "Staff", "员工人数"), "share": field("number", "Share", "占比"),
            "open": field("boolean", "Open", "是否营业"), "day": day,
        },
    });
    Schema::parse(&serde_json::to_vec(&schema).unwrap()).unwrap()
}

fn spool(source: &mut dyn Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(source, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// What is found out, and the records or the first problem.
fn read(name: &str, bytes: &[u8], given: &Given) -> (String, Result<String, String>) {
    let (schema, mut file) = (schema(), spool(&mut &*bytes).unwrap());
    let found = match detect(&mut file, name, given, Expected::Schema(&schema), &spool) {
        Ok(found) => found,
        Err(error) => return (String::new(), Err(error.to_string())),
    };
    let words = found.in_words().unwrap_or_default();
    (words, records(file, &found, &schema))
}

fn records(file: File, found: &Detected, schema: &Schema) -> Result<String, String> {
    let input = Input::open(file, found.format, &found.reading, &spool).map_err(|error| error.to_string())?;
    let (mut chunks, decoder) = Chunks::open(input, schema, None).map_err(|error| error.to_string())?;
    let validator = schema.validator().unwrap();
    let (mut out, mut wrong) = (String::new(), None);
    while let Some(chunk) = chunks.next_chunk().map_err(|error| error.to_string())? {
        decoder.decode(&chunk, &mut |record| {
            let line = record.line;
            let (mut tape, mut text) = (validator.tape(), Vec::new());
            match crate::dataset::assemble::check(&mut tape, record, &validator).into_iter().next() {
                Some(first) => wrong = wrong.take().or(Some(format!("{line}: {}: {}", first.pointer, first.reason))),
                None => tape.write_canonical(&mut text),
            }
            out += &format!("{}\n", String::from_utf8(text).unwrap());
        });
    }
    wrong.map_or(Ok(out), Err)
}

const HEAD: &str = "编号,名称,员工人数,占比,是否营业,日期\n";
const ONE: &str =
    "{\"day\":\"2024-03-05\",\"id\":\"001\",\"name\":\"中关村\",\"open\":true,\"share\":1.5,\"staff\":1234}\n";

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        out.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(text.as_bytes()).unwrap();
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn tables_are_read_as_they_are_meant() {
    let plain = format!("{HEAD}001,中关村,1234,1.5,true,2024-03-05\n");
    let semicolons =
        "编号;名称;员工人数;占比;是否营业;日期\n001;中关村;1.234;1,5;TRUE;2024-03-05\n002;x;2.345.678;2,25;False;\n";
    let more = "{\"id\":\"002\",\"name\":\"x\",\"open\":false,\"share\":2.25,\"staff\":2345678}\n";
    let both = format!("{ONE}{more}");
    for (name, bytes, words, expected) in [
        ("a.csv", plain.clone().into_bytes(), "", ONE),
        ("a.csv", format!("\u{FEFF}{plain}").into_bytes(), "", ONE),
        ("a.csv", GB18030.encode(&plain).0.into_owned(), "read as csv: gb18030", ONE),
        ("a.csv", [&[0xFF, 0xFE][..], &utf16(&plain)].concat(), "read as csv: utf-16le", ONE),
        ("a.txt", utf16(&plain.replace("中关村", "Zhongguancun")), "read as csv: utf-16le", ""),
        ("a.csv.gz", gzipped(&plain), "read as csv: gzip", ONE),
        ("a.zip", zipped(&[("a.csv", &plain)]), "read as csv: zip", ONE),
        (
            "a.csv",
            semicolons.into(),
            "read as csv: cells between semicolons; decimal commas; points between thousands",
            &both,
        ),
        ("a.tsv", plain.replace(',', "\t").into_bytes(), "read as csv: cells between tabs", ONE),
        (
            "a.csv",
            format!("sep=;\n{}", plain.replace(',', ";")).into_bytes(),
            "read as csv: cells between semicolons; header in line 2",
            ONE,
        ),
        (
            "a.csv",
            format!("园区统计表,,,,,\n（单位：人）,,,,,\n\n{plain}").into_bytes(),
            "read as csv: header in line 4",
            ONE,
        ),
        ("a.csv", plain.replace('\n', "\r").into_bytes(), "read as csv: lines that end with carriage returns", ONE),
        ("a.csv", plain.replace('\n', ",,\r\n").into_bytes(), "", ONE),
        ("a.csv", format!("{plain},,,,,\n , ,,,,\n").into_bytes(), "", ONE),
        (
            "a.csv",
            format!(",{}0,001,中关村,1234,1.5,True,2024-03-05\n", HEAD).into_bytes(),
            "read as csv: the first column has no name and numbers the rows; it is left out",
            ONE,
        ),
        ("a.csv", " Number ,NAME,staff,Share,OPEN,day\n001,中关村, 1234 ,+1.50,true,2024-03-05\n".into(), "", ONE),
        (
            "a.csv",
            format!("{HEAD}001,中关村,\"1,234\",1.5,true,2024-03-05\n002,NA,n/a,.5,,—\n").into_bytes(),
            "read as csv: commas between thousands; no value where numbers are n/a, —",
            &format!("{ONE}{{\"id\":\"002\",\"name\":\"NA\",\"share\":0.5}}\n"),
        ),
    ] {
        let (found, records) = read(name, &bytes, &Given::default());
        assert_eq!(found, words, "{:?}", String::from_utf8_lossy(&bytes));
        if !expected.is_empty() {
            assert_eq!(records.as_deref(), Ok(expected), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
    let big5 = "编号,名稱\n001,臺北資訊股份有限公司\n".replace("编号,名稱", "id,name");
    let (words, records) = read("a.csv", &BIG5.encode(&big5).0, &Given::default());
    assert_eq!(
        (words.as_str(), records.unwrap()),
        ("read as csv: big5", "{\"id\":\"001\",\"name\":\"臺北資訊股份有限公司\"}\n".into())
    );
}

#[test]
fn documents_and_lines_are_told_apart() {
    let record = r#"{"id":"001","staff":5}"#;
    let expected = "{\"id\":\"001\",\"staff\":5}\n";
    for (name, text, words, count) in [
        ("a.ndjson", format!("{record}\n{record}\n"), "", 2),
        ("a.json", format!("{record}\n{record}\n"), "", 2),
        ("a.json", format!("[{record},\n {record}]"), "", 2),
        ("a.dat", format!("[{record}]"), "", 1),
        (
            "a.json",
            format!(r#"{{"total":1,"data":{{"items":[{record}]}}}}"#),
            "read as json: records at /data/items",
            1,
        ),
        ("a.json.gz", format!("[{record}]"), "read as json: gzip", 1),
    ] {
        let bytes = if name.ends_with("gz") { gzipped(&text) } else { text.clone().into_bytes() };
        let (found, records) = read(name, &bytes, &Given::default());
        assert_eq!((found.as_str(), records), (words, Ok(expected.repeat(count))), "{text}");
    }
}

#[test]
fn what_is_doubtful_or_something_else_is_refused() {
    let rows = |cells: &str| format!("编号;员工人数;占比\n001;5;{cells}\n");
    let several = zipped(&[("a.csv", "id\n"), ("b.csv", "id\n")]);
    let given = |at: &str| Given { at: Some(at.into()), ..Given::default() };
    let none = Given::default();
    for (name, bytes, given, part) in [
        ("a.csv", b"%PDF-1.7 ...".to_vec(), &none, "a PDF"),
        ("a.csv", b"<html><table>".to_vec(), &none, "HTML"),
        ("a.parquet", b"PAR1....PAR1".to_vec(), &none, "the Parquet file cannot be read"),
        ("a.bin", b"ARROW1..".to_vec(), &none, "its end is missing"),
        ("a.csv", GB18030.encode("id,name\n1,模\n").0.into_owned(), &none, "give --encoding"),
        ("a.csv", rows("1,234").into_bytes(), &none, "`1,234` may be a number of thousands or have decimals"),
        ("a.csv", rows("1,5\n002;6;1,234,567").into_bytes(), &none, "give --decimal"),
        ("a.csv", rows("1.250\n002;6;12.500").into_bytes(), &none, "`1.250` may be"),
        ("a.csv", "id,staff\n001,12.000\n".into(), &none, "`12.000` may be"),
        ("a.csv", "id;staff;share\n001;1.500;1,5\n".into(), &none, "`1.500` may be"),
        ("a.csv", ",id\n2020,001\n2021,002\n".into(), &none, "column 1 has no name, but this cell"),
        ("a.json", br#"[{"id":"1"}] [{"id":"2"}]"#.to_vec(), &none, "more after the end"),
        ("a.csv", WINDOWS_1252.encode("id;name\n1;M\u{FC}ller 12 \u{20AC}\n").0.into_owned(), &none, "give --encoding"),
        ("a.zip", several, &none, "several files"),
        ("a.zip", zipped(&[("a.parquet", "PAR1..PAR1")]), &none, "what is compressed is a Parquet file"),
        ("a.json", br#"{"a":[{"id":"1"}],"b":[{"id":"2"}]}"#.to_vec(), &none, "one of /a, /b"),
        ("a.json", br#"{"a":[{"id":"1"}]}"#.to_vec(), &given("/c"), "no array at /c"),
        ("a.json", br#"{"a":1}"#.to_vec(), &none, "give the JSON pointer"),
        (
            "a.csv",
            format!("{HEAD}1,x,5,1,true,2024-03-05,more\n").into_bytes(),
            &none,
            "2: : the row has 7 cells, the header has 6",
        ),
        ("a.csv", "id,name,\n1,x,y\n".into(), &none, "2: : column 3 has no name, but this cell"),
        ("a.csv.gz", gzipped(&HEAD.repeat(40_000))[..200].to_vec(), &none, "damaged or cut off"),
        ("a.xlsx", zipped(&[("xl/workbook.xml", "<x"), ("[Content_Types].xml", "")]), &none, "cannot be read"),
        ("a.xls", [b"\xD0\xCF\x11\xE0".as_slice(), &[0; 600]].concat(), &none, "cannot be read"),
    ] {
        let (_, found) = read(name, &bytes, given);
        assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{name} {part}: {found:?}");
    }
    // Stated by the user, it is not asked.
    let decimal = Given { decimal: Some(','), ..Given::default() };
    let (_, found) = read("a.csv", rows("1,234").as_bytes(), &decimal);
    assert_eq!(found.unwrap(), "{\"id\":\"001\",\"share\":1.234,\"staff\":5}\n");
}

/// The last number of a sample that is cut off says nothing.
#[test]
fn samples_end_with_a_row() {
    for cut in 0..8 {
        let mut text = "id;share\n".to_owned();
        while text.len() < limits::SAMPLE_BYTES_MAX - 12 {
            text += "1;5\n";
        }
        // The end of the sample is within this number.
        text += &format!("{};1,234\n", "1".repeat(limits::SAMPLE_BYTES_MAX - text.len() - cut));
        let mut file = spool(&mut text.as_bytes()).unwrap();
        let found = detect(&mut file, "a.csv", &Given::default(), Expected::Schema(&schema()), &spool).unwrap();
        assert_eq!((found.reading.decimal, found.reading.thousands), ('.', None), "{cut}");
    }
}

#[test]
fn few_bytes_do_not_become_very_many() {
    let zeros = gzipped(&format!("{HEAD}{}", "\n".repeat(100 << 20)));
    let (_, found) = read("a.csv.gz", &zeros, &Given::default());
    assert!(found.as_ref().is_err_and(|error| error.contains("times as many")), "{found:?}");
}

fn workbook() -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("企业").unwrap();
    let (date, plain) = (CellFormat::new().set_num_format("yyyy-mm-dd"), CellFormat::new());
    sheet.merge_range(0, 0, 0, 5, "园区统计表", &plain).unwrap();
    sheet.merge_range(1, 0, 2, 0, "编号", &plain).unwrap();
    sheet.merge_range(1, 1, 1, 2, "名称", &plain).unwrap();
    for (column, name) in ["", "", "", "占比", "是否营业", "日期"].iter().enumerate().skip(3) {
        sheet.merge_range(1, column as u16, 2, column as u16, name, &plain).unwrap();
    }
    sheet.write(2, 1, "中文").unwrap();
    sheet.write(2, 2, "英文").unwrap();
    sheet.write(3, 0, "001").unwrap();
    sheet.write(3, 1, "中关村, \"VR\"\n园").unwrap();
    sheet.write(3, 3, 7.000000000000001).unwrap();
    sheet.write(3, 4, true).unwrap();
    sheet.write_with_format(3, 5, ExcelDateTime::from_ymd(2024, 3, 5).unwrap(), &date).unwrap();
    sheet.write(5, 0, 2).unwrap();
    sheet.write(5, 3, "n/a").unwrap();
    book.add_worksheet().set_name("说明").unwrap().write(0, 0, "note").unwrap();
    book.save_to_buffer().unwrap()
}

#[test]
fn workbooks_are_read_as_people_see_them() {
    let bytes = workbook();
    let (words, found) = read("a.xlsx", &bytes, &Given::default());
    assert!(words.contains("sheet `企业`; header in line 3; no value where numbers are n/a"), "{words}");
    assert!(words.contains("only the sheet `企业` is read, not 说明"), "{words}");
    // The header of two rows names the columns.
    assert!(found.unwrap_err().starts_with("line 3: the columns `名称 中文`, `名称 英文` are neither"));
    let (schema, mut file) = (schema(), spool(&mut &bytes[..]).unwrap());
    let found = detect(&mut file, "a.xlsx", &Given::default(), Expected::Schema(&schema), &spool).unwrap();
    let mut text = String::new();
    Input::open(file, found.format, &found.reading, &spool).unwrap().source.read_to_string(&mut text).unwrap();
    let expected = "园区统计表,,\n\n编号,名称 中文,名称 英文,占比,是否营业,日期\n\
                    001,\"中关村, \"\"VR\"\"\n园\",,7,true,2024-03-05\n\n2,,,n/a,,\n";
    assert_eq!(text, expected);
    // The row is the workbook's, although a cell has two lines.
    let unknown = read("a.xlsx", &bytes, &Given { sheet: Some("企".into()), ..Given::default() }).1;
    assert!(unknown.unwrap_err().contains("no sheet `企`; it has: 企业, 说明"));
}

/// What a schema that knows none of it makes of a table: the lines of the header and the columns.
#[test]
fn headers_are_not_lost() {
    for (text, header, names) in [
        ("Region,2021,2022\nNorth,n.a.,n/a\nSouth,3,4\n", 1, "Region,2021,2022"),
        ("Ort,Text,Text\nA,b,c\nB,d,e\n", 1, "Ort,Text,Text"),
        ("id,name,city\nx1,Anna,Bonn,\nx2,Bert,Ulm,\n", 1, "id,name,city"),
        ("Umsatz, netto;Kosten, brutto\n1,5;2,5\n3,5;4,5\n", 1, "Umsatz, netto;Kosten, brutto"),
        ("Report 2024,,\n\nName,Value,Unit\nA,1,kg\n", 3, "Name,Value,Unit"),
        ("name\nA\nB\n", 1, "name"),
        (",value\n2020,3\n2021,4\n", 1, ",value"),
        ("datum,wert\n05.03.2024,1.5\n06.03.2024,2.5\n", 1, "datum,wert"),
    ] {
        let mut file = spool(&mut text.as_bytes()).unwrap();
        let found = detect(&mut file, "a.csv", &Given::default(), Expected::Unknown, &spool).unwrap();
        assert_eq!(found.reading.header, header, "{text}");
        assert_eq!(text.lines().nth(header as usize - 1), Some(names));
        assert_eq!(
            (found.reading.decimal, found.reading.thousands),
            (if text.contains("1,5") { ',' } else { '.' }, None)
        );
    }
}

fn book(fill: impl FnOnce(&mut rust_xlsxwriter::Worksheet)) -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write_row(0, 0, ["id", "name", "staff"]).unwrap();
    fill(sheet);
    book.save_to_buffer().unwrap()
}

#[test]
fn cells_of_workbooks_are_not_lost() {
    let plain = CellFormat::new();
    // Merged over several rows: all of them have the value.
    let merged = book(|sheet| {
        sheet.merge_range(1, 1, 3, 1, "A", &plain).unwrap();
        for row in 1..4u32 {
            sheet.write(row, 0, format!("{row}")).unwrap();
        }
        sheet.write(4, 0, "4").unwrap();
    });
    let rows: Vec<String> = (1..4).map(|row| format!("{{\"id\":\"{row}\",\"name\":\"A\"}}\n")).collect();
    let (_, found) = read("a.xlsx", &merged, &Given::default());
    assert_eq!(found.unwrap(), format!("{}{{\"id\":\"4\"}}\n", rows.concat()));
    // A text that only a spreadsheet program would make.
    let error = book(|sheet| {
        sheet.write_row(1, 0, ["1", "#REF!"]).unwrap();
    });
    assert!(read("a.xlsx", &error, &Given::default()).1.unwrap_err().contains("an error of the spreadsheet"));
    let formula = book(|sheet| {
        sheet.write(1, 0, "1").unwrap();
        sheet.write_formula(1, 2, rust_xlsxwriter::Formula::new("=1+1").set_result("")).unwrap();
    });
    let (_, found) = read("a.xlsx", &formula, &Given::default());
    assert!(
        found.as_ref().is_err_and(|error| error.contains("the cell C2 has a formula")) || found.is_ok(),
        "{found:?}"
    );
}

/// A sheet in the parts of a workbook, as a program could write it.
fn parts(sheet: &str, strings: &str) -> Vec<u8> {
    let content = r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>"#;
    let root = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
    let rels = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>"#;
    let book = r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>"#;
    let sheet = format!(
        r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c></row>{sheet}</worksheet>"#
    );
    let strings = format!(
        r#"<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>{strings}</t></si></sst>"#
    );
    zipped(&[
        ("[Content_Types].xml", content),
        ("_rels/.rels", root),
        ("xl/workbook.xml", book),
        ("xl/_rels/workbook.xml.rels", rels),
        ("xl/worksheets/sheet1.xml", &sheet),
        ("xl/sharedStrings.xml", &strings),
    ])
}

#[test]
fn hostile_workbooks_are_refused() {
    let repeated = r#"<c t="s"><v>0</v></c>"#.repeat(4_000);
    let merges = r#"<mergeCell ref="A1:B1"/>"#.repeat(limits::SHEET_MERGED_MAX + 1);
    for (sheet, strings, part) in [
        (r#"<row r="2"><c r="A2" t="s"><v>0</v></c></row></sheetData>"#.to_owned(), "x", ""),
        (format!(r#"<row r="2">{repeated}</row></sheetData>"#), &"x".repeat(3 << 20), "a row of the sheet has more"),
        (r#"<row r="4294967295"><c r="A4294967295"><v>1</v></c></row></sheetData>"#.into(), "", "not in order"),
        (r#"<row r="99999999999"><c r="A99999999999"><v>1</v></c></row></sheetData>"#.into(), "", "damaged"),
        (r#"</sheetData><mergeCells><mergeCell ref="B2:A1"/></mergeCells>"#.into(), "", "damaged"),
        (format!("</sheetData><mergeCells>{merges}</mergeCells>"), "", "merged cells"),
        (
            r#"<row r="2"><c r="A2"><f>1+1</f></c></row></sheetData>"#.into(),
            "",
            "the cell A2 has a formula whose value",
        ),
    ] {
        let found = read("a.xlsx", &parts(&sheet, strings), &Given::default()).1;
        match part {
            "" => assert_eq!(found.unwrap(), "{\"id\":\"x\"}\n"),
            part => {
                // What a panic is in a program with checks is another error in one without.
                let refused = found.as_ref().is_err_and(|error| error.contains(part) || part == "damaged");
                assert!(refused, "{part}: {:?}", found.map(|text| text.len()));
            }
        }
    }
}

#[test]
fn open_documents_are_read_row_by_row() {
    let content = r#"<?xml version="1.0" encoding="UTF-8"?>
<office:document-content xmlns:office="o" xmlns:table="t" xmlns:text="x" xmlns:style="s">
<office:automatic-styles><style:style style:name="ta2" style:family="table"><style:table-properties table:display="false"/></style:style></office:automatic-styles>
<office:body><office:spreadsheet>
<table:table table:name="Hidden" table:style-name="ta2"><table:table-row><table:table-cell office:value-type="string"><text:p>x</text:p></table:table-cell></table:table-row></table:table>
<table:table table:name="Data" table:style-name="ta1">
<table:table-row><table:table-cell office:value-type="string"><text:p>id</text:p></table:table-cell><table:table-cell office:value-type="string"><text:p>Name</text:p><office:annotation><text:p>a comment</text:p></office:annotation></table:table-cell><table:table-cell office:value-type="string"><text:p>staff</text:p></table:table-cell><table:table-cell office:value-type="string"><text:p>day</text:p></table:table-cell><table:table-cell table:number-columns-repeated="16380"/></table:table-row>
<table:table-row table:number-rows-repeated="2"><table:table-cell office:value-type="float" office:value="7.000000000000001"><text:p>7</text:p></table:table-cell><table:table-cell office:value-type="string"><text:p>A &amp; B&#20013;</text:p></table:table-cell><table:table-cell table:number-columns-repeated="1"/><table:table-cell office:value-type="date" office:date-value="2024-03-05T00:00:00"><text:p>5.3.24</text:p></table:table-cell></table:table-row>
<table:table-row table:number-rows-repeated="1048573"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>
</table:table></office:spreadsheet></office:body></office:document-content>"#;
    let parts = [("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", content)];
    let (words, found) = read("a.ods", &zipped(&parts), &Given::default());
    assert_eq!(words, "");
    assert_eq!(found.unwrap(), "{\"day\":\"2024-03-05\",\"id\":\"7\",\"name\":\"A & B中\"}\n".repeat(2));
    for (hostile, part) in [
        (
            content.replace(
                "number-columns-repeated=\"1\"/><table:table-cell office",
                "number-columns-repeated=\"999999\"/><table:table-cell office",
            ),
            "columns",
        ),
        (content.replace("A &amp; B", &"x".repeat(limits::RECORD_BYTES_MAX + 10)), "too long"),
        (content[..1_500].to_owned(), "cannot be read"),
        (
            content
                .replace("A &amp; B", &"x".repeat(3 << 20))
                .replace("number-rows-repeated=\"2\"", "number-rows-repeated=\"1048576\""),
            "very much longer",
        ),
        (content.replace("</text:p></table:table-cell><table:table-cell office", "<"), "cannot be read"),
    ] {
        let parts = [parts[0], ("content.xml", hostile.as_str())];
        let found = read("a.ods", &zipped(&parts), &Given::default()).1;
        assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{part}: {:?}", found.map(|text| text.len()));
    }
}
