//! Values of arguments that several commands take.

use crate::core::id::Text;
use crate::export::Format;
use std::path::{Path, PathBuf};

/// `FOLDER.kek`: beside the folder, so that a copy of the folder does not contain it.
pub fn kek_beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".kek");
    folder.with_file_name(name)
}

/// Parses `en=Name`.
pub fn parse_name(text: &str) -> Result<(String, Text), String> {
    let (language, name) = text.split_once('=').ok_or("expected LANGUAGE=NAME, as in en=My Park")?;
    let tag = (2..=8).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !tag {
        return Err(format!("`{language}` is not a language tag"));
    }
    Ok((language.to_owned(), Text::parse(name).map_err(|error| error.to_string())?))
}

/// A format in which records are written.
pub fn parse_format(name: &str) -> Result<Format, String> {
    let known = || Format::ALL.map(Format::name).join(", ");
    Format::parse(name).ok_or_else(|| format!("`{name}` is not one of {}", known()))
}
