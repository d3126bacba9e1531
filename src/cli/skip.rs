//! Leaves the invalid records of a file out of a publication, and writes them to a file of rejects.

use super::output;
use super::reading::{Local, temporary_file};
use super::validate;
use crate::dataset::select::Selection;
use crate::ingest::{Form, divide};
use crate::schema::Schema;
use anyhow::Context;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek};
use std::path::{Path, PathBuf};

/// The valid records of a file, and how many there are besides.
pub struct Valid {
    /// A temporary file without a name.
    pub file: File,
    /// Invalid records.
    pub skipped: u64,
    /// All records.
    pub records: u64,
}

/// Where rejects are written: FILE.rejects.csv beside FILE.csv.
pub fn rejects_beside(file: &Path, form: Form) -> PathBuf {
    file.with_extension(format!("rejects.{}", form.name()))
}

/// Divides a file into its valid records and the rejects.
pub fn divide_file(local: &Local, schema: &Schema, rejects: &Path) -> anyhow::Result<Valid> {
    let file = &local.path;
    let name = file.display().to_string();
    anyhow::ensure!(file.is_file(), "{name} is not a file; with --skip-invalid it is read twice");
    let Selection { records, rejected } = validate::select(local, schema)?;
    let skipped = rejected.len() as u64;
    anyhow::ensure!(skipped < records, "all {records} records of {name} are invalid; nothing was published");
    let mut valid = temporary_file()?;
    let source = BufReader::with_capacity(1 << 20, File::open(file).with_context(|| name.clone())?);
    let to = BufWriter::new(&mut valid);
    match skipped {
        0 => divide(local.text(source)?, &rejected, to, io::sink()),
        _ => {
            let left_out = File::options().write(true).create_new(true).open(rejects);
            let left_out = left_out.with_context(|| {
                format!(
                    "{} cannot be made, and nothing was published; remove it or give another name with --rejects",
                    rejects.display()
                )
            })?;
            let divided = local.text(source).and_then(|text| divide(text, &rejected, to, BufWriter::new(left_out)));
            if divided.is_err() {
                std::fs::remove_file(rejects).with_context(|| rejects.display().to_string())?;
            }
            divided
        }
    }
    .context(name)?;
    valid.seek(io::SeekFrom::Start(0))?;
    Ok(Valid { file: valid, skipped, records })
}

/// Says what was left out.
pub fn told(valid: &Valid, rejects: &Path) -> String {
    let records = output::count(valid.skipped, "record is", "records are");
    format!(
        "{records} invalid and left out, of {}. They are in {} with the reasons. Mend them there, and publish them as a \
         dataset of their own, or together with the others as the next version (--dataset).",
        valid.records,
        rejects.display()
    )
}
