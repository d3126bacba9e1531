//! Writes frames into a container.

use super::container::{DataKey, Sealer};
use super::frame::{self, Frame};
use crate::core::digest::Digest;
use crate::core::limits;
use std::io::{self, Write};

/// A container that is being written.
pub(super) struct Framing<W: Write> {
    sealer: Sealer<W>,
    frames: Vec<Frame>,
    offset: u64,
    records: u64,
}

impl<W: Write> Framing<W> {
    pub(super) fn new(out: W, key: &DataKey, associated_data: &[u8]) -> io::Result<Self> {
        let sealer = Sealer::new(out, key, associated_data)?;
        Ok(Self { sealer, frames: Vec::new(), offset: 0, records: 0 })
    }

    /// Writes a compressed frame.
    pub(super) fn add(&mut self, compressed: &[u8], records: u32) -> io::Result<()> {
        self.sealer.write_all(compressed)?;
        let length = compressed.len() as u32;
        self.frames.push(Frame { offset: self.offset, length, first_record: self.records, records });
        self.offset += u64::from(length);
        self.records += u64::from(records);
        Ok(())
    }

    /// Whether it has more than a container may have.
    pub(super) fn is_too_large(&self) -> bool {
        self.frames.len() > limits::FRAMES_MAX || self.offset > limits::CONTAINER_BYTES_MAX
    }

    pub(super) fn count(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Writes the table of the frames; returns the writer, the container's digest and its size.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest, u64)> {
        self.sealer.write_all(&frame::table(&self.frames))?;
        self.sealer.finish()
    }
}
