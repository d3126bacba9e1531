//! The rows of an Arrow file or stream (Arrow columnar format, "Serialization and Interprocess Communication") as CSV.

use super::batch::Row;
use crate::core::limits;
use crate::ingest::csv::write_row;
use crate::ingest::invalid;
use crate::ingest::piped::piped;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, StreamDecoder};
use arrow_ipc::{Block, Message, MessageHeader, root_as_footer, root_as_message};
use arrow_schema::Schema;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::sync::Arc;

/// The first and the last bytes of a file.
const MAGIC: &[u8; 6] = b"ARROW1";
/// What stands before the length of a message; a length of 0 ends the stream.
const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Bytes before the head of a message: the continuation and the length.
const LENGTH_BYTES_MAX: usize = 8;
/// The length of a buffer that is not compressed although others are.
const NOT_COMPRESSED: i64 = -1;

/// Cells that a batch has for each of its bytes, at most, and bytes that count for any batch.
const CELLS_PER_BYTE_MAX: u64 = 1_024;
const SMALL_BYTES: u64 = 256;

fn broken(error: impl std::fmt::Display) -> io::Error {
    invalid(format!("the Arrow file cannot be read: {error}"))
}

/// The rows of a file, after one with the names of the columns.
pub fn rows(mut file: File) -> impl Read + Send {
    piped(move |out| {
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut start)?;
        file.rewind()?;
        // A stream without a file around it begins with its first message.
        if start == MAGIC { of_file(file, out) } else { of_stream(file, out) }
    })
}

/// A file has its batches where its footer says.
fn of_file(mut file: File, out: &mut dyn Write) -> io::Result<()> {
    let footer = footer(&mut file)?;
    let footer = root_as_footer(&footer).map_err(broken)?;
    let schema = footer.schema().ok_or_else(|| broken("it has no schema"))?;
    let schema = Arc::new(try_fb_to_schema(schema).map_err(broken)?);
    write_names(&schema, out)?;
    let (mut decoder, mut sizes) = (FileDecoder::new(schema, footer.version()), Sizes::default());
    let mut read = |block: &Block| {
        let damaged = || broken("its footer and its batches do not fit each other");
        let [at, head, body] = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()]
            .map(|number| u64::try_from(number).map_err(|_| damaged()));
        let (head, body) = (head?, body?);
        if head < LENGTH_BYTES_MAX as u64 || head > limits::ARROW_MESSAGE_BYTES_MAX {
            return Err(damaged());
        }
        if body > limits::ARROW_BATCH_BYTES_MAX {
            return Err(too_large());
        }
        file.seek(io::SeekFrom::Start(at?))?;
        let bytes = exactly(&mut file, head + body)?;
        let (head, body) = bytes.split_at(head as usize);
        let begin = if head.starts_with(&CONTINUATION) { LENGTH_BYTES_MAX } else { LENGTH_BYTES_MAX / 2 };
        sizes.check(&root_as_message(&head[begin..]).map_err(broken)?, body)?;
        Ok(Buffer::from_vec(bytes))
    };
    for block in footer.dictionaries().iter().flatten() {
        decoder.read_dictionary(block, &read(block)?).map_err(broken)?;
    }
    for block in footer.recordBatches().iter().flatten() {
        let batch = decoder.read_record_batch(block, &read(block)?).map_err(broken)?;
        batch.map_or(Ok(()), |batch| write_batch(&batch, out))?;
    }
    Ok(())
}

/// The footer of a file, before its length and the last bytes.
fn footer(file: &mut File) -> io::Result<Vec<u8>> {
    let unfinished = || broken("its end is missing");
    let mut end = [0; 10];
    file.seek(io::SeekFrom::End(-(end.len() as i64))).map_err(|_| unfinished())?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    let length = u32::from_le_bytes([a, b, c, d]);
    if magic != *MAGIC || u64::from(length) > limits::ARROW_MESSAGE_BYTES_MAX {
        return Err(unfinished());
    }
    file.seek(io::SeekFrom::End(-(end.len() as i64) - i64::from(length))).map_err(|_| unfinished())?;
    exactly(file, u64::from(length))
}

/// A stream has one message after the other.
fn of_stream(file: File, out: &mut dyn Write) -> io::Result<()> {
    let mut messages = Messages { source: BufReader::with_capacity(1 << 20, file), sizes: Sizes::default() };
    let (mut decoder, mut has_names) = (StreamDecoder::new(), false);
    loop {
        let next = messages.next_message()?;
        let ended = next.is_none();
        // What a message has without a body is decoded when the next one comes.
        let pieces = next.unwrap_or_else(|| [[CONTINUATION, [0; 4]].concat(), Vec::new()]);
        for mut piece in pieces.map(Buffer::from_vec) {
            while !piece.is_empty() {
                let batch = decoder.decode(&mut piece).map_err(broken)?;
                if let Some(schema) = decoder.schema().filter(|_| !has_names) {
                    write_names(&schema, out)?;
                    has_names = true;
                }
                batch.map_or(Ok(()), |batch| write_batch(&batch, out))?;
            }
        }
        if ended {
            return if has_names { Ok(()) } else { Err(broken("it has no schema")) };
        }
    }
}

fn write_names(schema: &Schema, out: &mut dyn Write) -> io::Result<()> {
    if schema.fields().len() > limits::CSV_COLUMNS_MAX {
        return Err(invalid(format!("the file has more than {} columns", limits::CSV_COLUMNS_MAX)));
    }
    write_row(out, schema.fields().iter().map(|field| field.name().as_str()))
}

fn write_batch(batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
    let of_column = |name: &str, what: &str| invalid(format!("the column `{name}` {what}"));
    let row = Row::of(batch).map_err(|(name, what)| of_column(&name, what))?;
    let mut cells = vec![String::new(); batch.num_columns()];
    for n in 0..batch.num_rows() {
        row.write(n, &mut cells).map_err(|(name, what)| of_column(&name, what))?;
        write_row(out, cells.iter().map(String::as_str))?;
    }
    Ok(())
}

/// The messages of a stream.
struct Messages {
    source: BufReader<File>,
    sizes: Sizes,
}

impl Messages {
    /// The head of the next message, with its length, and its body.
    fn next_message(&mut self) -> io::Result<Option<[Vec<u8>; 2]>> {
        let Some(mut length) = self.four()? else { return Ok(None) };
        // Files before version 0.15 of the format have the length only.
        if length == CONTINUATION {
            length = self.four()?.ok_or_else(|| broken("it ends within a message"))?;
        }
        let most = limits::ARROW_MESSAGE_BYTES_MAX;
        let head = match u32::from_le_bytes(length) {
            0 => return Ok(None),
            bytes if u64::from(bytes) > most => {
                return Err(broken(format!("a message has more than {} MiB", most >> 20)));
            }
            bytes => exactly(&mut self.source, u64::from(bytes))?,
        };
        let message = root_as_message(&head).map_err(broken)?;
        let length_of_body = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
        if length_of_body > limits::ARROW_BATCH_BYTES_MAX {
            return Err(too_large());
        }
        let body = exactly(&mut self.source, length_of_body)?;
        self.sizes.check(&message, &body)?;
        Ok(Some([[&CONTINUATION[..], &length, &head].concat(), body]))
    }

    fn four(&mut self) -> io::Result<Option<[u8; 4]>> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(4).read_to_end(&mut bytes)?;
        match bytes.try_into() {
            Ok(four) => Ok(Some(four)),
            Err(bytes) if bytes.is_empty() => Ok(None),
            Err(_) => Err(broken("it ends within a message")),
        }
    }
}

/// So many bytes; memory is taken for what is there, not for what is stated.
fn exactly(source: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(length).read_to_end(&mut bytes)?;
    if read as u64 == length { Ok(bytes) } else { Err(broken("it ends within a message")) }
}

/// What is read as a whole, which must not ask for more memory than there may be.
#[derive(Default)]
struct Sizes {
    /// Bytes of all dictionaries, which are kept.
    dictionaries: u64,
}

impl Sizes {
    /// Checks what the decoder relies on: that the buffers are in the body, and how much they become.
    fn check(&mut self, message: &Message<'_>, body: &[u8]) -> io::Result<()> {
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
        let damaged = || broken("a batch has sizes that do not fit each other");
        let whole = |number: i64| u64::try_from(number).map_err(|_| damaged());
        let rows = whole(batch.length())?;
        for node in batch.nodes().iter().flatten() {
            if whole(node.null_count())? > whole(node.length())? {
                return Err(damaged());
            }
        }
        let mut decoded = 0u64;
        for buffer in batch.buffers().iter().flatten() {
            let (from, length) = (whole(buffer.offset())?, whole(buffer.length())?);
            let range = usize::try_from(from).ok().zip(usize::try_from(from.saturating_add(length)).ok());
            let bytes = range.and_then(|(from, to)| body.get(from..to)).ok_or_else(damaged)?;
            decoded = decoded.saturating_add(match batch.compression() {
                Some(_) if !bytes.is_empty() => {
                    let stated = bytes.first_chunk().map(|eight| i64::from_le_bytes(*eight)).ok_or_else(damaged)?;
                    if stated == NOT_COMPRESSED { length } else { whole(stated)? }
                }
                _ => length,
            });
        }
        if message.header_type() == MessageHeader::DictionaryBatch {
            self.dictionaries = self.dictionaries.saturating_add(decoded);
        }
        if decoded.max(self.dictionaries) > limits::ARROW_BATCH_BYTES_MAX {
            return Err(too_large());
        }
        // Columns of missing values only have no bytes: a few bytes must not become very many cells.
        let cells = rows.saturating_mul(batch.nodes().map_or(0, |nodes| nodes.len()).max(1) as u64);
        let most = decoded.saturating_add(SMALL_BYTES).saturating_mul(CELLS_PER_BYTE_MAX);
        if cells > most { Err(broken("it has many rows with hardly any values")) } else { Ok(()) }
    }
}

fn too_large() -> io::Error {
    let most = limits::ARROW_BATCH_BYTES_MAX >> 20;
    invalid(format!("a batch of the Arrow file has more than {most} MiB; write it in smaller batches, or as Parquet"))
}
