//! Records through a mapping.

use super::decoder::TextDecoder;
use super::invalid;
use super::jq::Programs;
use crate::core::json::Tape;
use crate::dataset::assemble::{Chunk, Decoded, Decoder};
use crate::mapping::{Answer, Mapping, Plan};
use crate::schema::{Schema, Violation};
use std::io;

/// Decodes records and maps them.
pub struct MappedDecoder {
    pub(super) records: Box<dyn Decoder>,
    pub(super) plan: Plan,
    /// The file's markers of missing values.
    missing: Vec<String>,
    programs: Option<Programs>,
}

impl MappedDecoder {
    /// The decoder of a file whose records `text` decodes.
    pub(super) fn new(text: TextDecoder, mapping: &Mapping, schema: &Schema) -> io::Result<Self> {
        mapping.check().map_err(invalid)?;
        let (columns, writing) = text.columns.unzip();
        let writing = writing.unwrap_or_default();
        let plan = Plan::of(mapping, schema, columns.as_deref(), writing.notation).map_err(invalid)?;
        Ok(Self { records: text.decoder, plan, missing: writing.missing, programs: Programs::of(mapping)? })
    }

    fn map(&self, record: Decoded<'_>, answers: &[Answer], work: &mut Work, each: &mut dyn FnMut(Decoded<'_>)) {
        let Decoded { line, json, mut wrong } = record;
        let Some(json) = json else { return each(Decoded { line, json: None, wrong }) };
        if let Err(error) = work.tape.parse(json) {
            wrong.push(Violation::new(error.pointer.clone(), "json", error.to_string()));
            return each(Decoded { line, json: None, wrong });
        }
        wrong.extend(self.plan.apply(work.tape.root(), &self.missing, answers, &mut work.out));
        each(Decoded { line, json: Some(&work.out), wrong });
    }
}

/// Buffers for one record after the other.
#[derive(Default)]
struct Work {
    tape: Tape,
    out: Vec<u8>,
}

impl Decoder for MappedDecoder {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let mut work = Work::default();
        let Some(programs) = &self.programs else {
            return self.records.decode(chunk, &mut |record| self.map(record, &[], &mut work, each));
        };
        let kept = Programs::records(chunk, |chunk, each| self.records.decode(chunk, each));
        let texts: Vec<Vec<u8>> = kept.iter().map(|record| record.json.clone().unwrap_or(b"null".into())).collect();
        let answers = programs.answers(&texts);
        for (record, answers) in kept.into_iter().zip(answers) {
            let decoded = Decoded { line: record.line, json: record.json.as_deref(), wrong: record.wrong };
            self.map(decoded, &answers, &mut work, each);
        }
    }
}
