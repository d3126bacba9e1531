//! Frames: independent zstd frames of about 1 MiB of text, split between records, followed by a seek table in a
//! skippable zstd frame (RFC 8878 section 3.1.2). `zstd -d` reads all of them as one stream. FORMATS.md, "Frames".

use crate::core::limits;

/// Compression level, chosen so that validation remains the slowest step.
pub const LEVEL: i32 = 1;

/// One of the sixteen magic numbers of skippable frames, in little-endian order.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5C;
/// The last bytes of a container's plaintext.
const TABLE_MAGIC: &[u8; 8] = b"CPFRAME1";
/// The maximum compressed size of a frame.
const FRAME_BYTES_MAX: u32 = (limits::FRAME_TEXT_BYTES_MAX + limits::FRAME_TEXT_BYTES_MAX / 128 + 1_024) as u32;
const ENTRY_BYTES: usize = 24;
const FOOTER_BYTES: usize = 12;

/// Position and content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Offset in bytes.
    pub offset: u64,
    /// Compressed size in bytes.
    pub length: u32,
    /// Number of its first record, from 0.
    pub first_record: u64,
    /// Number of records.
    pub records: u32,
}

/// Why a seek table or frame is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the container's frames are damaged: {0}")]
pub struct FrameError(&'static str);

/// The maximum length of a zstd frame header (RFC 8878 section 3.1.1.1).
pub const HEAD_BYTES_MAX: u64 = 18;

/// The uncompressed size of a frame, from its header.
pub fn text_size(head: &[u8]) -> Result<u64, FrameError> {
    let stated = zstd::zstd_safe::get_frame_content_size(head).ok().flatten();
    let bounded = stated.filter(|size| *size <= limits::FRAME_TEXT_BYTES_MAX as u64);
    bounded.ok_or(FrameError("a frame states no size, or one that is too large"))
}

/// Serialises the seek table as a skippable frame.
pub fn table(frames: &[Frame]) -> Vec<u8> {
    let length = frames.len() * ENTRY_BYTES + FOOTER_BYTES;
    let mut out = Vec::with_capacity(8 + length);
    out.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    out.extend_from_slice(&(length as u32).to_le_bytes());
    for frame in frames {
        out.extend_from_slice(&frame.offset.to_le_bytes());
        out.extend_from_slice(&frame.length.to_le_bytes());
        out.extend_from_slice(&frame.first_record.to_le_bytes());
        out.extend_from_slice(&frame.records.to_le_bytes());
    }
    out.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    out.extend_from_slice(TABLE_MAGIC);
    out
}

/// Reads the seek table of a plaintext of `size` bytes; `read` returns a range of it.
pub fn read_table<E: From<FrameError>>(
    size: u64,
    mut read: impl FnMut(std::ops::Range<u64>) -> Result<Vec<u8>, E>,
) -> Result<Vec<Frame>, E> {
    let error = |reason| E::from(FrameError(reason));
    let footer_at = size.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| error("too short"))?;
    let footer = read(footer_at..size)?;
    if footer.get(4..) != Some(TABLE_MAGIC) {
        return Err(error("the seek table is missing at the end"));
    }
    let count = u32_at(&footer, 0) as usize;
    let length = count * ENTRY_BYTES + FOOTER_BYTES;
    if count > limits::FRAMES_MAX {
        return Err(error("more frames than allowed"));
    }
    let begin = size.checked_sub(8 + length as u64).ok_or_else(|| error("too short"))?;
    let bytes = read(begin..size)?;
    if bytes.len() != 8 + length || u32_at(&bytes, 0) != SKIPPABLE_MAGIC || u32_at(&bytes, 4) as usize != length {
        return Err(error("the header of the seek table does not match its end"));
    }
    let mut frames = Vec::with_capacity(count);
    let (mut offset, mut record) = (0u64, 0u64);
    for entry in bytes[8..8 + count * ENTRY_BYTES].chunks_exact(ENTRY_BYTES) {
        let frame = Frame {
            offset: u64_at(entry, 0),
            length: u32_at(entry, 8),
            first_record: u64_at(entry, 12),
            records: u32_at(entry, 20),
        };
        let length_fits = (1..=FRAME_BYTES_MAX).contains(&frame.length);
        if frame.offset != offset || frame.first_record != record || !length_fits {
            return Err(error("frames overlap or leave gaps"));
        }
        offset += u64::from(frame.length);
        record += u64::from(frame.records);
        frames.push(frame);
    }
    if offset != begin { Err(error("some bytes belong to no frame")) } else { Ok(frames) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A reusable compressor of frames.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// Creates a compressor with the compression level of the format.
    pub fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(LEVEL).map(Self)
    }

    /// Compresses one frame.
    pub fn compress(&mut self, text: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.compress(text)
    }
}

/// A reusable decompressor of frames.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    /// Creates a decompressor.
    pub fn new() -> std::io::Result<Self> {
        zstd::bulk::Decompressor::new().map(Self)
    }

    /// Decompresses one frame, to at most [`limits::FRAME_TEXT_BYTES_MAX`].
    pub fn decompress(&mut self, frame: &[u8]) -> Result<Vec<u8>, FrameError> {
        let declared = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
        let size = declared.and_then(|size| usize::try_from(size).ok()).filter(|s| *s <= limits::FRAME_TEXT_BYTES_MAX);
        let size = size.ok_or(FrameError("a frame states no size, or one that is too large"))?;
        let text = self.0.decompress(frame, size).map_err(|_| FrameError("a frame does not decompress"))?;
        if text.len() == size { Ok(text) } else { Err(FrameError("a frame is shorter than it states")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        read_table(bytes.len() as u64, |range| Ok(bytes[range.start as usize..range.end as usize].to_vec()))
    }

    fn example(lengths: &[u32]) -> Vec<u8> {
        let mut frames = Vec::new();
        let (mut offset, mut first_record) = (0, 0);
        for &length in lengths {
            frames.push(Frame { offset, length, first_record, records: length * 2 });
            offset += u64::from(length);
            first_record += u64::from(length) * 2;
        }
        let mut bytes = vec![7; offset as usize];
        bytes.extend(table(&frames));
        assert_eq!(read(&bytes), Ok(frames));
        bytes
    }

    proptest! {
        #[test]
        fn tables_round_trip_and_damage_is_found(lengths in prop::collection::vec(1u32..50, 0..20), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = example(&lengths);
            let begin = lengths.iter().sum::<u32>() as usize;
            let at = begin + at.index(bytes.len() - begin);
            bytes[at] ^= 1 << bit;
            // The record count of the last frame is checked against the records themselves; other damage is found here.
            let last_records = bytes.len() - FOOTER_BYTES - 4..bytes.len() - FOOTER_BYTES;
            prop_assert!(read(&bytes).is_err() || last_records.contains(&at));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = Decompressor::new().unwrap().decompress(&bytes);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0u8; limits::FRAME_TEXT_BYTES_MAX + 1], 19).unwrap();
        assert!(bomb.len() < 2_000);
        assert!(Decompressor::new().unwrap().decompress(&bomb).is_err());
    }
}
