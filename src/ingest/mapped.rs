//! Records through a mapping.

use super::decoder::TextDecoder;
use super::invalid;
use super::jq::{Kept, Programs};
use crate::core::json::Tape;
use crate::core::limits;
use crate::dataset::assemble::{Chunk, Decoded, Decoder};
use crate::mapping::{Answer, Mapping, Plan, RULE_MAPPING};
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
        if work.made > limits::MAPPED_CHUNK_BYTES_MAX {
            let most = limits::MAPPED_CHUNK_BYTES_MAX >> 20;
            let reason =
                format!("the mapping makes more than {most} MiB of a part of the file; are its constants so long?");
            wrong.push(Violation::new("", RULE_MAPPING, reason));
            return each(Decoded { line, json: None, wrong });
        }
        if let Err(error) = work.tape.parse(json) {
            wrong.push(Violation::new(error.pointer.clone(), "json", error.to_string()));
            return each(Decoded { line, json: None, wrong });
        }
        wrong.extend(self.plan.apply(work.tape.root(), &self.missing, answers, &mut work.out));
        work.made += work.out.len();
        each(Decoded { line, json: Some(&work.out), wrong });
    }
}

/// Buffers for one record after the other.
#[derive(Default)]
struct Work {
    tape: Tape,
    out: Vec<u8>,
    /// Bytes made of the chunk.
    made: usize,
}

impl Decoder for MappedDecoder {
    fn decode(&self, chunk: &Chunk, each: &mut dyn FnMut(Decoded<'_>)) {
        let mut work = Work::default();
        let Some(programs) = &self.programs else {
            return self.records.decode(chunk, &mut |record| self.map(record, &[], &mut work, each));
        };
        let mut kept = Vec::new();
        self.records.decode(chunk, &mut |Decoded { line, json, wrong }| {
            kept.push(Kept { line, json: json.map(<[u8]>::to_vec), wrong });
        });
        programs.run(&kept, &mut |record, answers| {
            let decoded = Decoded { line: record.line, json: record.json.as_deref(), wrong: record.wrong.clone() };
            self.map(decoded, answers, &mut work, each);
        });
    }
}
