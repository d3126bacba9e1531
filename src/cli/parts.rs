//! A multipart body (RFC 7578) of many files. A form of reqwest wraps one stream in another for each part, which is too deep
//! for thousands of them.

use super::folder;
use crate::core::random::{self, SystemRandomness};
use futures_util::stream::{self, StreamExt};
use indicatif::ProgressBar;
use reqwest::Body;
use std::io;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Bytes read from a file in one step.
const PIECE_BYTES: usize = 256 * 1024;

/// What a part has.
pub enum Source {
    /// A text.
    Text(String),
    /// A file that is open.
    Open(File),
    /// A file of this size, opened when its turn comes.
    Path(PathBuf, u64),
}

/// What is left of a part.
enum Rest {
    Text(Vec<u8>),
    /// A file, and what it is called and how many bytes it has left, if that is known.
    File(File, Option<(PathBuf, u64)>),
    Unopened(PathBuf, u64),
}

impl From<Source> for Rest {
    fn from(source: Source) -> Self {
        match source {
            Source::Text(text) => Self::Text(text.into_bytes()),
            Source::Open(file) => Self::File(file, None),
            Source::Path(path, size) => Self::Unopened(path, size),
        }
    }
}

/// A failure of a file of this machine, among those of sending.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct OfFile {
    path: PathBuf,
    what: String,
}

fn of_file(path: &Path, what: impl ToString) -> io::Error {
    io::Error::other(OfFile { path: path.to_owned(), what: what.to_string() })
}

/// The next piece of a part, and the rest.
async fn piece(rest: Rest) -> io::Result<Option<(Vec<u8>, Rest)>> {
    let (mut file, mut known) = match rest {
        Rest::Text(text) if text.is_empty() => return Ok(None),
        Rest::Text(text) => return Ok(Some((text, Rest::Text(Vec::new())))),
        Rest::File(file, known) => (file, known),
        Rest::Unopened(path, size) => {
            let opened = folder::open(&path).map_err(|error| of_file(&path, error))?;
            (File::from_std(opened), Some((path, size)))
        }
    };
    let mut piece = vec![0; PIECE_BYTES];
    let read = file.read(&mut piece).await;
    let read = read.map_err(|error| known.as_ref().map_or(error.kind().into(), |(path, _)| of_file(path, &error)))?;
    piece.truncate(read);
    if let Some((path, left)) = &mut known {
        if read as u64 > *left || (read == 0 && *left > 0) {
            return Err(of_file(path, "it changed while it was published; publish again"));
        }
        *left -= read as u64;
    }
    Ok((read > 0).then_some((piece, Rest::File(file, known))))
}

/// A body of parts with names, and its content type; `bar` shows how much of it was sent.
pub fn body(parts: Vec<(&'static str, Source)>, bar: ProgressBar) -> (String, Body) {
    let boundary = hex::encode(random::bytes::<16>(&SystemRandomness::new()));
    let kind = format!("multipart/form-data; boundary={boundary}");
    let end = format!("--{boundary}--\r\n").into_bytes();
    let parts = stream::iter(parts).flat_map(move |(name, source)| {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
        let content = stream::try_unfold(Rest::from(source), piece);
        stream::iter([Ok(head)]).chain(content.boxed()).chain(stream::iter([Ok(b"\r\n".to_vec())]))
    });
    let all = parts.chain(stream::iter([Ok::<_, io::Error>(end)]));
    let counted = all.inspect(move |piece| bar.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
    (kind, Body::wrap_stream(counted.boxed()))
}
