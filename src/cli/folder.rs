//! A folder of files, as a dataset: each file with a record that describes it.

use super::outcome::{Outcome, exit};
use super::output::{self, note};
use super::reading::{Local, temporary_file};
use crate::core::digest::Hasher;
use crate::core::{json, limits};
use crate::dataset::assemble::Decoded;
use crate::dataset::contents::clash;
use crate::ingest::Chunks;
use crate::schema::{Schema, path_problem};
use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use rustix::fs::OFlags;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A folder that is published.
pub struct Folder {
    /// Its records, one a line, in the order of the files.
    pub records: File,
    /// Its files, with their paths in the dataset and their sizes.
    pub files: Vec<(String, PathBuf, u64)>,
    /// Bytes of all files.
    pub size: u64,
    /// Number of files whose names begin with a dot, which are left out.
    pub hidden: u64,
}

/// What is wrong with a record: the path of its file, and why.
pub struct Misfit(pub String, pub String);

/// Reads a folder, and what `table` says of its files. The records are valid under `schema`, or it says which are not.
pub fn read(folder: &Path, table: Option<&Local>, schema: &Schema) -> anyhow::Result<Result<Folder, Vec<Misfit>>> {
    ensure!(
        schema.has_content(),
        "{} has records that describe no files; publish the folder under a schema with x-content, such as \
         urn:crosspark:schema:document",
        schema.id()
    );
    let (mut files, mut hidden) = (BTreeMap::new(), 0);
    walk(folder, "", &mut files, &mut hidden)?;
    ensure!(!files.is_empty(), "{} has no files", folder.display());
    let paths: Vec<&str> = files.keys().map(String::as_str).collect();
    if let Some(clash) = clash(paths.iter().copied()) {
        bail!("{}: {}", folder.display(), clash.in_words(|at| paths[at]));
    }
    let mut described = table.map(|table| descriptions(table, schema)).transpose()?.unwrap_or_default();
    if let Some(other) = described.keys().find(|path| !files.contains_key(*path)) {
        bail!("{} describes `{other}`, which is no file of {}", table_name(table), folder.display());
    }
    let total = files.values().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum();
    let bar = output::bytes_bar(Some(total), "reading");
    let (validator, mut misfits) = (schema.validator()?, Vec::new());
    let (mut records, mut size, mut tape) = (io::BufWriter::new(temporary_file()?), 0, validator.tape());
    let mut listed = Vec::new();
    for (path, file) in &files {
        let mut record = described.remove(path).unwrap_or_default();
        let own = describe(path, file, schema, &mut record, &bar).with_context(|| file.display().to_string())?;
        size += own;
        listed.push((path.clone(), file.clone(), own));
        let text = json::to_canonical(&Value::Object(record));
        let found = crate::dataset::assemble::check(&mut tape, Decoded::whole(0, &text), &validator);
        let reasons = found.into_iter().map(|one| format!("{}: {} [{}]", one.pointer, one.reason, one.rule));
        misfits.extend(reasons.map(|reason| Misfit(path.clone(), reason)));
        records.write_all(&text)?;
        records.write_all(b"\n")?;
    }
    bar.finish_and_clear();
    if !misfits.is_empty() {
        return Ok(Err(misfits));
    }
    let mut records = records.into_inner().map_err(io::IntoInnerError::into_error)?;
    records.rewind()?;
    Ok(Ok(Folder { records, files: listed, size, hidden }))
}

/// Says which records are invalid.
pub fn refused(misfits: &[Misfit], folder: &Path, as_json: bool) -> Outcome {
    if as_json {
        let found: Vec<Value> =
            misfits.iter().map(|Misfit(path, reason)| serde_json::json!({"path": path, "reason": reason})).collect();
        output::json(&found)?;
    } else {
        let shown = misfits.iter().take(limits::VIOLATIONS_REPORTED_MAX);
        shown.for_each(|Misfit(path, reason)| note!("{}: {reason}", folder.join(path).display()));
        note!(
            "error: {} in the records of the files; nothing was published",
            output::count(misfits.len() as u64, "problem", "problems")
        );
    }
    Ok(ExitCode::from(exit::REFUSED))
}

fn table_name(table: Option<&Local>) -> String {
    table.map(|table| table.path.display().to_string()).unwrap_or_default()
}

/// Finds the files of a folder and of those in it. Links are not followed: they may lead out of it.
fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>, hidden: &mut u64) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let at = entry.path();
        let shown = at.display();
        let name = entry.file_name().into_string().ok().with_context(|| format!("{shown}: the name is not UTF-8"))?;
        if name.starts_with('.') {
            *hidden += 1;
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&at, &format!("{path}/"), files, hidden)?;
            continue;
        }
        ensure!(kind.is_file(), "{shown} is neither a file nor a folder; links are not followed");
        if let Some(problem) = path_problem(&path) {
            bail!("{shown}: {problem}");
        }
        files.insert(path, at);
        ensure!(files.len() <= limits::FILES_MAX, "a dataset has at most {} files; divide it", limits::FILES_MAX);
    }
    Ok(())
}

/// What a table says of files, by their paths.
fn descriptions(table: &Local, schema: &Schema) -> anyhow::Result<BTreeMap<String, Map<String, Value>>> {
    let name = table.path.display().to_string();
    let file = File::open(&table.path).with_context(|| name.clone())?;
    let text = table.text(BufReader::with_capacity(1 << 20, file)).with_context(|| name.clone())?;
    let (mut chunks, decoder) = Chunks::open(text, schema, table.mapping.as_ref()).with_context(|| name.clone())?;
    let (mut found, mut wrong) = (BTreeMap::new(), None);
    while let Some(chunk) = chunks.next_chunk().with_context(|| name.clone())? {
        decoder.decode(&chunk, &mut |record: Decoded<'_>| {
            let line = record.line;
            let read = || {
                if let Some(violation) = record.wrong.first() {
                    bail!("{}: {}", violation.pointer, violation.reason);
                }
                let Value::Object(members) = json::read_value(record.json.unwrap_or_default())? else {
                    bail!("a record must be a JSON object");
                };
                let path = members.get("path").and_then(Value::as_str).context("it has no `path` of a file")?;
                Ok((path.to_owned(), members))
            };
            match read() {
                Ok((path, _)) if found.contains_key(&path) => {
                    wrong.get_or_insert_with(|| format!("line {line}: `{path}` is described twice"));
                }
                Ok((path, members)) => drop(found.insert(path, members)),
                Err(error) => drop(wrong.get_or_insert_with(|| format!("line {line}: {error}"))),
            }
        });
        if let Some(problem) = &wrong {
            bail!("{name}: {problem}");
        }
        ensure!(found.len() <= limits::FILES_MAX, "{name} describes more than {} files", limits::FILES_MAX);
    }
    Ok(found)
}

/// Adds what the file itself says, where the schema has a property for it; returns its size.
fn describe(
    path: &str,
    file: &Path,
    schema: &Schema,
    record: &mut Map<String, Value>,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut opened = open(file)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 256 * 1024]);
    loop {
        let read = opened.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
        bar.inc(read as u64);
    }
    record.insert("path".into(), path.into());
    record.insert("size".into(), size.into());
    record.insert("digest".into(), hasher.finish().to_string().into());
    // Not the time of its last change, which copying changes.
    if let Some(media_type) = media_type(path).filter(|_| !schema.property("media_type").is_null()) {
        record.entry("media_type").or_insert(media_type.into());
    }
    Ok(size)
}

/// Opens a file that is one: between the look at its folder and now, a link or a pipe may have taken its place.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no longer a file")),
    }
}

/// The media type that IANA has registered for files with this ending.
fn media_type(path: &str) -> Option<&'static str> {
    let ending = path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match ending.as_str() {
        "pdf" => "application/pdf",
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "xml" => "application/xml",
        "zip" => "application/zip",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "doc" => "application/msword",
        "xls" => "application/vnd.ms-excel",
        "ppt" => "application/vnd.ms-powerpoint",
        "odt" => "application/vnd.oasis.opendocument.text",
        "ods" => "application/vnd.oasis.opendocument.spreadsheet",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "dwg" => "image/vnd.dwg",
        "dxf" => "image/vnd.dxf",
        "gltf" => "model/gltf+json",
        "glb" => "model/gltf-binary",
        "stl" => "model/stl",
        "obj" => "model/obj",
        "step" | "stp" => "model/step",
        "ifc" => "application/p21",
        "parquet" => "application/vnd.apache.parquet",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::built_in;

    #[test]
    fn media_types_are_valid_by_the_schema() {
        let schema = built_in().into_iter().find(|schema| schema.id().ends_with(":document")).unwrap();
        let pattern = schema.property("media_type")["pattern"].as_str().unwrap().to_owned();
        assert!(pattern.starts_with("^[a-z]+/"));
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.PDF", "b.dwg", "c.tar.gz", "d", "图/e.ifc"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::fs::write(folder.path().join(".hidden"), "x").unwrap();
        let found = read(folder.path(), None, &schema).unwrap().unwrap_or_else(|misfits| panic!("{}", misfits[0].1));
        let paths: Vec<&str> = found.files.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!((paths, found.hidden), (vec!["a.PDF", "b.dwg", "c.tar.gz", "d", "图/e.ifc"], 1));
        let mut records = String::new();
        (&found.records).read_to_string(&mut records).unwrap();
        let types: Vec<Option<String>> = records
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["media_type"].as_str().map(str::to_owned))
            .collect();
        let expected = [Some("application/pdf"), Some("image/vnd.dwg"), None, None, Some("application/p21")];
        assert_eq!(types, expected.map(|one| one.map(str::to_owned)));
    }
}
