//! The sealed container: a FLOE message (c2sp.org/FLOE) under a random data key, written once.

use super::manifest::SEGMENT_BYTES;
use crate::core::digest::{Digest, Hasher};
use fast_floe::{Key, Parameters, io::EncryptWriter};
use std::io::{self, Read, Seek, Write};
use zeroize::Zeroizing;

/// The key of one dataset version. Zeroised when dropped and never shown in `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// From the 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From a slice of 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    /// The 32 bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

fn parameters() -> Parameters {
    Parameters::with_segment_length(SEGMENT_BYTES).expect("the format's segment length is within FLOE's range")
}

/// Counts and hashes the bytes written through it.
pub struct Tally<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Encrypts the bytes written to it.
pub struct Sealer<W: Write>(EncryptWriter<Tally<W>>);

impl<W: Write> Sealer<W> {
    /// Creates the sealer and writes the header.
    pub fn new(out: W, key: &DataKey, associated_data: &[u8]) -> io::Result<Self> {
        let tally = Tally { inner: out, hasher: Hasher::new(), size: 0 };
        EncryptWriter::new(tally, &Key::from_bytes(*key.expose()), associated_data, parameters()).map(Self)
    }

    /// Writes the last segment and returns the writer, the container's digest and its size.
    pub fn finish(self) -> io::Result<(W, Digest, u64)> {
        let tally = self.0.finish().map_err(|error| error.into_error())?;
        Ok((tally.inner, tally.hasher.finish(), tally.size))
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Random-access reader of a container.
pub struct Opened<R>(fast_floe::random_access::Reader<R>);

impl<R: Read + Seek> Opened<R> {
    /// Opens the container and authenticates its header and last segment.
    pub fn new(source: R, key: &DataKey, associated_data: &[u8]) -> io::Result<Self> {
        let key = Key::from_bytes(*key.expose());
        fast_floe::random_access::Reader::new_with_parameters(source, &key, associated_data, parameters()).map(Self)
    }

    /// Size of the plaintext in bytes.
    pub fn size(&mut self) -> io::Result<u64> {
        self.0.seek(io::SeekFrom::End(0))
    }

    /// Decrypts and authenticates a range of the plaintext.
    pub fn range(&mut self, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
        self.0.read_range(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex_file(folder: &std::path::Path, name: &str) -> Vec<u8> {
        hex::decode(std::fs::read_to_string(folder.join(name)).unwrap().trim()).unwrap()
    }

    #[test]
    fn published_known_answers() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/floe");
        let Ok(files) = std::fs::read_dir(&folder) else {
            return eprintln!("skipped: vectors not present");
        };
        let mut seen = 0;
        for name in files.map(|f| f.unwrap().file_name().into_string().unwrap()) {
            let Some(base) = name.strip_suffix("_ct.txt").filter(|base| base.contains("GCM256_IV256")) else {
                continue;
            };
            let sealed = hex_file(&folder, &name);
            let opened = fast_floe::decrypt(&Key::from_bytes([0; 32]), b"This is AAD", &sealed).unwrap();
            assert_eq!(opened, hex_file(&folder, &format!("{base}_pt.txt")), "{base}");
            seen += 1;
        }
        assert!(seen >= 8);
    }

    #[test]
    fn any_change_to_bytes_key_or_context_is_found() {
        let key = DataKey::from_bytes([9; 32]);
        let mut sealer = Sealer::new(Vec::new(), &key, b"context").unwrap();
        let text = vec![b'x'; 3_000_000];
        sealer.write_all(&text).unwrap();
        let (sealed, digest, size) = sealer.finish().unwrap();
        assert_eq!((Digest::of(&sealed), sealed.len() as u64), (digest, size));
        let open = |sealed: &[u8], key: &DataKey, context: &[u8]| {
            let mut opened = Opened::new(io::Cursor::new(sealed.to_vec()), key, context)?;
            let size = opened.size()?;
            opened.range(0..size)
        };
        assert_eq!(open(&sealed, &key, b"context").unwrap(), text);
        assert!(open(&sealed, &key, b"other").is_err());
        assert!(open(&sealed, &DataKey::from_bytes([8; 32]), b"context").is_err());
        for at in [0, 10, 40, 70, 1_000_000, 1_048_576, 2_500_000, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open(&altered, &key, b"context").is_err(), "{at}");
        }
        for end in [0, 5, 73, 1_048_700, sealed.len() - 1] {
            assert!(open(&sealed[..end], &key, b"context").is_err(), "{end}");
        }
    }
}
