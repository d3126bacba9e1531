//! Secrets of connections, read from their files when they are used, so that they can be changed at any time.

use crate::core::limits;
use crate::node::Error;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// The content of a file, without white space at its ends.
pub fn secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(limits::SECRET_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Error::Unavailable(format!("the secret {} cannot be read: {error}", path.display())))?;
    if text.trim().is_empty() {
        return Err(Error::Unavailable(format!("the secret {} is empty", path.display())));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The content of a file with certificates.
pub fn certificates(path: Option<&Path>) -> Result<Option<Vec<u8>>, Error> {
    let read = path.map(std::fs::read).transpose();
    read.map_err(|error| {
        let path = path.unwrap_or(Path::new("")).display();
        Error::Unavailable(format!("the certificates {path} cannot be read: {error}"))
    })
}
