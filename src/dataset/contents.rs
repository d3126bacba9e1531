//! The contents of the files that records describe. They follow the records in the container, in the same order, each cut
//! into frames of their own. FORMATS.md, "Frames".

use super::manifest::FilesRef;
use crate::core::digest::{Digest, Hasher, HashingReader};
use crate::core::limits;
use crate::schema::Content;
use std::io::{self, Read};
use std::ops::Range;

/// Bytes of a file in one frame; its last frame may have fewer.
pub const PIECE_BYTES: usize = limits::FRAME_TEXT_BYTES;

/// Files as they arrive: after the records, one after the other.
pub trait Contents: Read {
    /// Goes on to the next file; false if there is none. A read returns nothing at the end of each file.
    fn next_file(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

impl<R: Contents> Contents for HashingReader<R> {
    fn next_file(&mut self) -> io::Result<bool> {
        io::copy(self, &mut io::sink())?;
        self.inner().next_file()
    }
}

/// The files that the records describe.
#[derive(Default)]
pub struct Files {
    list: Vec<Content>,
    size: u64,
    frames: u64,
}

impl Files {
    /// Adds the next file. Fails if they are too many.
    pub fn add(&mut self, content: Content) -> Result<(), String> {
        self.size = self.size.saturating_add(content.size);
        self.frames = self.frames.saturating_add(content.size.div_ceil(PIECE_BYTES as u64));
        self.list.push(content);
        match self.list.len() > limits::FILES_MAX {
            true => Err(format!("a dataset has at most {} files; divide it", limits::FILES_MAX)),
            false => Ok(()),
        }
    }

    /// What the records state of the contents of all files.
    pub fn stated(&self) -> FilesRef {
        FilesRef { size: self.size, frames: self.frames }
    }

    /// Fails unless one folder can hold them all.
    pub fn check_names(&self) -> Result<(), String> {
        let found = clash(self.list.iter().map(|content| content.path.as_str()));
        found.map_or(Ok(()), |clash| Err(clash.in_words(|at| self.list[at].path.as_str())))
    }

    /// Goes through their contents.
    pub fn walk(&self) -> Walk<'_> {
        Walk { files: self.list.iter(), current: None }
    }
}

/// Two files that not every folder can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// Position of the later one, from 0.
    pub at: usize,
    /// Position of the other one.
    pub other: usize,
}

impl Clash {
    /// In words, with their paths.
    pub fn in_words<'a>(self, path: impl Fn(usize) -> &'a str) -> String {
        let (one, other) = (path(self.other), path(self.at));
        format!(
            "no folder can hold both `{one}` and `{other}`: without regard to case they are the same, or one is a folder of the other"
        )
    }
}

/// Finds two paths that are the same without regard to case, or of which one is a folder of the other.
pub fn clash<'a>(paths: impl Iterator<Item = &'a str>) -> Option<Clash> {
    // A path comes right before those below it, because no other character is smaller than the one between the names.
    let fold = |c: char| -> String {
        if c == '/' { '\0'.into() } else { c.to_uppercase().flat_map(char::to_lowercase).collect() }
    };
    let folded = |path: &str| path.chars().map(fold).collect::<String>();
    let mut sorted: Vec<(String, usize)> = paths.enumerate().map(|(at, path)| (folded(path), at)).collect();
    sorted.sort_unstable();
    let is_within =
        |one: &str, other: &str| other.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'));
    let found = sorted.windows(2).find(|pair| is_within(&pair[0].0, &pair[1].0))?;
    let (one, other) = (found[0].1, found[1].1);
    Some(Clash { at: one.max(other), other: one.min(other) })
}

/// Goes through the contents of files in their order, and compares them with what their records state.
pub struct Walk<'a> {
    files: std::slice::Iter<'a, Content>,
    current: Option<(&'a Content, u64, Hasher)>,
}

impl<'a> Walk<'a> {
    /// Goes on to the next file. Fails if the one before has another content than its record states.
    pub fn next_file(&mut self) -> Result<Option<&'a Content>, String> {
        if let Some((content, left, hasher)) = self.current.take() {
            let found = hasher.finish();
            if left > 0 {
                return Err(format!("`{}` has fewer bytes than its record states", content.path));
            }
            if found != content.digest {
                return Err(differs(content, &found));
            }
        }
        let next = self.files.next();
        self.current = next.map(|content| (content, content.size, Hasher::new()));
        Ok(next)
    }

    /// Length of the next piece of this file; 0 at its end.
    pub fn piece_length(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, left, _)| (*left).min(PIECE_BYTES as u64) as usize)
    }

    /// Takes the next piece, which has that length.
    pub fn take(&mut self, piece: &[u8]) {
        if let Some((_, left, hasher)) = &mut self.current {
            hasher.update(piece);
            *left = left.saturating_sub(piece.len() as u64);
        }
    }

    /// Takes the next frame, of whatever file.
    pub fn take_frame(&mut self, text: &[u8]) -> Result<(), String> {
        while self.piece_length() == 0 {
            self.next_file()?.ok_or("there are more files than records")?;
        }
        if text.len() != self.piece_length() {
            let path = self.current.as_ref().map_or("", |(content, ..)| &content.path);
            return Err(format!("a frame of `{path}` does not have the length that its record asks for"));
        }
        self.take(text);
        Ok(())
    }

    /// Fails unless all files are complete.
    pub fn end(&mut self) -> Result<(), String> {
        while self.next_file()?.is_some() {}
        Ok(())
    }
}

fn differs(content: &Content, found: &Digest) -> String {
    format!("`{}` has the digest {found}, its record states {}", content.path, content.digest)
}

/// The next piece of the files of `walk` from `source`; `None` after the last one.
pub fn next_piece(walk: &mut Walk<'_>, source: &mut impl Contents) -> io::Result<Option<Vec<u8>>> {
    let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    loop {
        let length = walk.piece_length();
        if length > 0 {
            let mut piece = Vec::with_capacity(length);
            source.by_ref().take(length as u64).read_to_end(&mut piece)?;
            walk.take(&piece);
            return match piece.len() == length {
                true => Ok(Some(piece)),
                // It says which file.
                false => walk.next_file().map(|_| None).map_err(wrong),
            };
        }
        if let Some((content, ..)) = &walk.current
            && source.read(&mut [0])? > 0
        {
            return Err(wrong(format!("`{}` has more bytes than its record states", content.path)));
        }
        match (walk.next_file().map_err(wrong)?, source.next_file()?) {
            (Some(_), true) => {}
            (None, false) => return Ok(None),
            (Some(content), false) => return Err(wrong(format!("the content of `{}` is missing", content.path))),
            (None, true) => return Err(wrong("there are more files than records".into())),
        }
    }
}

/// Numbers the frames of files in their order.
#[derive(Default)]
pub struct Numbering(usize);

impl Numbering {
    /// The frames of the next file, which has this size.
    pub fn frames(&mut self, size: u64) -> Range<usize> {
        let begin = self.0;
        self.0 += size.div_ceil(PIECE_BYTES as u64) as usize;
        begin..self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn content(path: &str, bytes: &[u8]) -> Content {
        Content { path: path.into(), size: bytes.len() as u64, digest: Digest::of(bytes) }
    }

    #[test]
    fn every_folder_can_hold_them() {
        for (paths, found) in [
            (&["a/b", "a/c", "a.txt", "A.md", "a!", "b"][..], None),
            (&["x", "Plan.pdf", "plan.PDF"], Some((2, 1))),
            (&["a", "a!", "A/b"], Some((2, 0))),
            (&["a/b/c", "a/B"], Some((1, 0))),
            (&["图/一", "图/二"], None),
            (&["ΑΣ", "ασ"], Some((1, 0))),
            (&["same", "same"], Some((1, 0))),
        ] {
            let clash = clash(paths.iter().copied());
            assert_eq!(clash.map(|clash| (clash.at, clash.other)), found, "{paths:?}");
        }
    }

    /// Files that arrive; the current one first.
    struct Arriving(VecDeque<Vec<u8>>, Vec<u8>);

    impl Read for Arriving {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = (&self.1[..]).read(buffer)?;
            self.1.drain(..read);
            Ok(read)
        }
    }

    impl Contents for Arriving {
        fn next_file(&mut self) -> io::Result<bool> {
            let next = self.0.pop_front();
            self.1 = next.clone().unwrap_or_default();
            Ok(next.is_some())
        }
    }

    fn pieces(stated: &[Vec<u8>], sent: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
        let mut files = Files::default();
        for (n, bytes) in stated.iter().enumerate() {
            files.add(content(&n.to_string(), bytes)).unwrap();
        }
        let (mut walk, mut source) = (files.walk(), Arriving(sent.to_vec().into(), Vec::new()));
        let mut found = Vec::new();
        while let Some(piece) = next_piece(&mut walk, &mut source).map_err(|error| error.to_string())? {
            found.push(piece);
        }
        let mut walk = files.walk();
        found.iter().try_for_each(|piece| walk.take_frame(piece))?;
        walk.end().map(|()| found)
    }

    #[test]
    fn contents_are_what_their_records_state() {
        let bytes = |size: usize, byte: u8| vec![byte; size];
        let stated = [bytes(0, 0), bytes(PIECE_BYTES, 1), bytes(PIECE_BYTES + 1, 2), bytes(0, 0), bytes(3, 3)];
        let found = pieces(&stated, &stated).unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [PIECE_BYTES, PIECE_BYTES, 1, 3]);
        let mut numbering = Numbering::default();
        let frames = stated.iter().map(|file| numbering.frames(file.len() as u64)).collect::<Vec<_>>();
        assert_eq!(frames, [0..0, 0..1, 1..3, 3..3, 3..4]);

        let with = |n: usize, file: Vec<u8>| {
            let mut sent = stated.to_vec();
            sent[n] = file;
            pieces(&stated, &sent).unwrap_err()
        };
        assert!(with(4, bytes(2, 3)).contains("`4` has fewer bytes"), "{}", with(4, bytes(2, 3)));
        assert!(with(4, bytes(4, 3)).contains("`4` has more bytes"));
        assert!(with(4, bytes(3, 4)).contains("`4` has the digest sha256:"));
        assert!(with(0, bytes(1, 0)).contains("`0` has more bytes"));
        assert!(pieces(&stated, &stated[..4]).unwrap_err().contains("the content of `4` is missing"));
        assert!(pieces(&stated[..4], &stated).unwrap_err().contains("more files than records"));
    }

    proptest! {
        #[test]
        fn frames_that_differ_are_found(sizes in prop::collection::vec(0usize..5, 1..5), cut in any::<prop::sample::Index>()) {
            let mut files = Files::default();
            let texts: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            for (n, text) in texts.iter().enumerate() {
                files.add(content(&n.to_string(), text)).unwrap();
            }
            let whole: Vec<&Vec<u8>> = texts.iter().filter(|text| !text.is_empty()).collect();
            let taken = |frames: &[&Vec<u8>]| {
                let mut walk = files.walk();
                frames.iter().try_for_each(|frame| walk.take_frame(frame)).and_then(|()| walk.end())
            };
            prop_assert!(taken(&whole).is_ok());
            if !whole.is_empty() {
                let mut less = whole.clone();
                less.remove(cut.index(whole.len()));
                prop_assert!(taken(&less).is_err());
                let mut more = whole.clone();
                more.push(whole[0]);
                prop_assert!(taken(&more).is_err());
            }
        }
    }
}
