//! A ZIP archive with the records as a workbook, and the files that they describe. It is written from beginning to end.

use super::{Choice, Export, Format, wrong};
use crate::core::json::Tape;
use crate::dataset::contents::Numbering;
use crate::dataset::open::Package;
use crate::schema::{Content, Schema};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// The folder of the files in an archive; beside it, no name of a file is taken.
const FILES: &str = "files/";

/// The fastest one that makes nothing longer.
const LEVEL: i64 = 2;

/// Bytes beyond which an entry may not fit 32 bits, even if compression makes it longer.
const LARGE_BYTES_MIN: u64 = 1 << 31;

/// Writes the chosen ones of these records, and their files. Returns the number of records.
pub fn archive<R: Read + Seek + Send>(
    package: &mut Package<R>,
    range: Range<u64>,
    schema: &Schema,
    choice: Choice,
    origin: &super::Origin,
    out: impl Write + Send,
) -> io::Result<u64> {
    let mut out = ZipWriter::new_stream(out);
    let options = SimpleFileOptions::default().compression_level(Some(LEVEL));
    out.start_file("records.xlsx", options)?;
    let mut export = Export::begin(Format::Xlsx, schema, choice.clone(), origin, &mut out)?;
    package.read_records(range.clone(), |text| export.text(text)).map_err(io::Error::other)?;
    let records = export.finish()?;
    for (content, frames) in chosen(package, range, schema, choice)? {
        let large = content.size >= LARGE_BYTES_MIN;
        // Compression again takes ten times as long as all else, so only what it makes smaller is compressed.
        let is_dense = package.compressed_size(frames.clone()) > content.size / 10 * 9;
        let method = if is_dense { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let level = if is_dense { None } else { Some(LEVEL) };
        let own = options.large_file(large).compression_method(method).compression_level(level);
        out.start_file(format!("{FILES}{}", content.path), own)?;
        package.read_file(frames, |piece| out.write_all(piece)).map_err(io::Error::other)?;
    }
    out.finish()?;
    Ok(records)
}

/// The files of the chosen records, and their frames.
fn chosen<R: Read + Seek + Send>(
    package: &mut Package<R>,
    range: Range<u64>,
    schema: &Schema,
    choice: Choice,
) -> io::Result<Vec<(Content, Range<usize>)>> {
    let mut rows = choice.rows;
    rows.resolve(schema).map_err(wrong)?;
    let (mut found, mut numbering, mut number, mut tape) = (Vec::new(), Numbering::default(), 0, Tape::of_doubles());
    let read = package.read(|text| {
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            tape.parse(line).map_err(wrong)?;
            let content = Content::of(&tape).map_err(|violation| wrong(violation.reason))?;
            let frames = numbering.frames(content.size);
            if range.contains(&number) && rows.has(&tape) {
                found.push((content, frames));
            }
            number += 1;
        }
        Ok(())
    });
    read.map_err(io::Error::other).map(|()| found)
}
