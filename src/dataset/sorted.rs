//! Digests in order and in bounded memory: they are sorted in parts, which go to temporary files, and merged at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

/// A temporary file.
pub trait Temporary: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> Temporary for T {}

/// Makes temporary files.
pub type Scratch<'a> = dyn Fn() -> io::Result<Box<dyn Temporary>> + Sync + 'a;

/// Temporary files in memory.
pub fn in_memory() -> io::Result<Box<dyn Temporary>> {
    Ok(Box::new(io::Cursor::new(Vec::new())))
}

/// A key's digest (128 bits) and what is known of its record: the line of a file, its number, a digest of it.
pub type Seen = (u64, u64, u64);

const SEEN_BYTES: usize = 24;
/// Keys merged between two looks whether to stop.
const STOP_CHECK_KEYS: u64 = 1 << 16;

/// Digests of keys.
pub struct Sorted<'a> {
    scratch: &'a Scratch<'a>,
    in_memory_max: usize,
    seen: Vec<Seen>,
    parts: Vec<BufReader<Box<dyn Temporary>>>,
}

impl<'a> Sorted<'a> {
    /// None yet. `scratch` is called when there are more than `in_memory_max`.
    pub fn new(scratch: &'a Scratch<'a>, in_memory_max: usize) -> Self {
        Self { scratch, in_memory_max, seen: Vec::new(), parts: Vec::new() }
    }

    /// Adds some. `sorted` is called with each part before it goes to a file.
    pub fn add(&mut self, seen: &[Seen], sorted: impl FnOnce(&[Seen])) -> io::Result<()> {
        self.seen.extend_from_slice(seen);
        if self.seen.len() < self.in_memory_max {
            return Ok(());
        }
        self.seen.sort_unstable();
        sorted(&self.seen);
        let mut file = BufWriter::new((self.scratch)()?);
        for (high, low, at) in self.seen.drain(..) {
            let all = [high, low, at].map(u64::to_le_bytes);
            file.write_all(all.as_flattened())?;
        }
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.parts.push(BufReader::new(file));
        Ok(())
    }

    /// Calls `each` with all of them in order. Fails if `stopped`.
    pub fn merge(mut self, stopped: &dyn Fn() -> bool, mut each: impl FnMut(Seen)) -> io::Result<()> {
        self.seen.sort_unstable();
        let mut rest = self.seen.drain(..);
        let mut heads = BinaryHeap::new();
        for (part, file) in self.parts.iter_mut().enumerate() {
            heads.extend(read(file)?.map(|seen| Reverse((seen, part))));
        }
        let in_memory = self.parts.len();
        heads.extend(rest.next().map(|seen| Reverse((seen, in_memory))));
        for n in 0u64.. {
            let Some(Reverse((seen, part))) = heads.pop() else { break };
            if n.is_multiple_of(STOP_CHECK_KEYS) && stopped() {
                return Err(io::Error::other("stopped"));
            }
            let next = match self.parts.get_mut(part) {
                Some(file) => read(file)?,
                None => rest.next(),
            };
            heads.extend(next.map(|seen| Reverse((seen, part))));
            each(seen);
        }
        Ok(())
    }
}

/// The next key of a part; `None` at its end.
fn read(file: &mut impl Read) -> io::Result<Option<Seen>> {
    let mut bytes = [0; SEEN_BYTES];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [high, low, at] = [0, 8, 16].map(|from| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(word)
    });
    Ok(Some((high, low, at)))
}
