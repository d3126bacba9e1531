//! A multipart body (RFC 7578) of many files. A form of reqwest wraps one stream in another for each part, which is too deep
//! for thousands of them.

use crate::core::random::{self, SystemRandomness};
use futures_util::stream::{self, StreamExt};
use indicatif::ProgressBar;
use reqwest::Body;
use std::io;
use std::path::PathBuf;
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
    /// A file, opened when its turn comes.
    Path(PathBuf),
}

/// The next piece of a part, and the rest.
async fn piece(source: Source) -> io::Result<Option<(Vec<u8>, Source)>> {
    let mut file = match source {
        Source::Text(text) if text.is_empty() => return Ok(None),
        Source::Text(text) => return Ok(Some((text.into_bytes(), Source::Text(String::new())))),
        Source::Open(file) => file,
        Source::Path(path) => {
            let opened = File::open(&path).await;
            opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?
        }
    };
    let mut piece = vec![0; PIECE_BYTES];
    let read = file.read(&mut piece).await?;
    piece.truncate(read);
    Ok((read > 0).then_some((piece, Source::Open(file))))
}

/// A body of parts with names, and its content type; `bar` shows how much of it was sent.
pub fn body(parts: Vec<(&'static str, Source)>, bar: ProgressBar) -> (String, Body) {
    let boundary = hex::encode(random::bytes::<16>(&SystemRandomness::new()));
    let kind = format!("multipart/form-data; boundary={boundary}");
    let end = format!("--{boundary}--\r\n").into_bytes();
    let parts = stream::iter(parts).flat_map(move |(name, source)| {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
        let content = stream::try_unfold(source, piece);
        stream::iter([Ok(head)]).chain(content.boxed()).chain(stream::iter([Ok(b"\r\n".to_vec())]))
    });
    let all = parts.chain(stream::iter([Ok::<_, io::Error>(end)]));
    let counted = all.inspect(move |piece| bar.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
    (kind, Body::wrap_stream(counted.boxed()))
}
