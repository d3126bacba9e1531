//! The contents of the files that records describe. They follow the records in the container, in the same order, each cut
//! into frames of their own. FORMATS.md, "Frames".

use crate::core::digest::{Digest, Hasher};
use crate::core::limits;
use crate::schema::Content;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
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

/// The files that the records describe.
#[derive(Default)]
pub struct Files {
    list: Vec<Content>,
    /// Digests of names, without regard to case, and whether each is a file or a folder.
    names: HashMap<u64, bool, RandomState>,
}

impl Files {
    /// Adds the next file. Fails if a folder cannot hold it with those before.
    pub fn add(&mut self, content: Content) -> Result<(), String> {
        let path = content.path.to_lowercase();
        let name = |text: &str| self.names.hasher().hash_one(text);
        let folders = path.match_indices('/').map(|(at, _)| name(&path[..at])).collect::<Vec<_>>();
        let own = name(&path);
        if self.list.len() == limits::FILES_MAX {
            return Err(format!("a dataset has at most {} files; divide it", limits::FILES_MAX));
        }
        if folders.iter().any(|folder| self.names.get(folder) == Some(&true)) {
            return Err(format!("`{}` is in a folder that has the name of another file", content.path));
        }
        self.names.extend(folders.into_iter().map(|folder| (folder, false)));
        if self.names.insert(own, true).is_some() {
            return Err(format!("`{}` differs from another path at most in its case", content.path));
        }
        self.list.push(content);
        Ok(())
    }

    /// Goes through their contents.
    pub fn walk(&self) -> Walk<'_> {
        Walk { files: self.list.iter(), current: None }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }
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
        let result = |paths: &[&str]| {
            let mut files = Files::default();
            paths.iter().map(|path| files.add(content(path, b""))).find_map(Result::err).unwrap_or_default()
        };
        for (paths, problem) in [
            (&["a/b", "a/c", "a.txt", "A.md"][..], ""),
            (&["Plan.pdf", "plan.PDF"], "at most in its case"),
            (&["a", "A/b"], "in a folder"),
            (&["a/b/c", "a/B"], "at most in its case"),
            (&["图/一", "图/二"], ""),
        ] {
            let found = result(paths);
            assert!(found.contains(problem) && found.is_empty() == problem.is_empty(), "{paths:?}: {found}");
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
