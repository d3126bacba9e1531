//! Offers to propose a mapping for a file whose columns are not those of the schema.

use super::output::{note, say};
use super::reading::Local;
use crate::mapping::{Confidence, suggest, toml};
use crate::schema::Schema;
use anyhow::Context;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;

/// Records that are looked at.
const RECORDS: usize = 200;

/// If a file that was refused has columns that are not those of the schema, writes a proposal of a mapping beside it, once
/// the user agrees; where nobody can be asked, says how.
pub fn mapping(local: &Local, schema: &Schema, name: &str) -> anyhow::Result<()> {
    if local.mapping.is_some() || !local.path.is_file() {
        return Ok(());
    }
    let file = local.path.display().to_string();
    let opened = File::open(&local.path).with_context(|| file.clone())?;
    let columns = crate::ingest::columns(local.text(BufReader::new(opened))?, RECORDS)?;
    let titles = schema.titles();
    let strange = columns.iter().filter(|(name, _)| titles.column(name).is_none()).count();
    if strange == 0 {
        return Ok(());
    }
    let beside = PathBuf::from(format!("{file}.mapping.toml"));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() || beside.exists() {
        note!("A mapping can say which columns become which properties: crosspark map suggest {file} --schema {name}");
        return Ok(());
    }
    eprint!(
        "{strange} of {} columns are not those of the schema. Propose a mapping in {}? [Y/n] ",
        columns.len(),
        beside.display()
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes" | "是" | "好") {
        return Ok(());
    }
    let found = suggest(&columns, schema);
    let mut out = File::create_new(&beside).with_context(|| beside.display().to_string())?;
    out.write_all(toml(&found, &columns, schema).as_bytes())?;
    let sure = found.iter().filter(|one| one.confidence == Confidence::High).count();
    let mapping = beside.display();
    say!("Wrote {mapping}: {} of {} columns have a field, {sure} for sure.", found.len(), columns.len());
    say!("Complete it, try it with: crosspark map check {file} --schema {name} --mapping {mapping}");
    say!("Then publish again with --mapping {mapping}.");
    Ok(())
}
