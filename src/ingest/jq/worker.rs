//! The process that runs jq programs: programs as a JSON array on the first line, then a record a line; it answers each
//! with one line.

use super::Said;
use crate::core::limits;
use jaq_core::data::JustLut;
use jaq_core::load::{Arena, Error, File, Loader};
use jaq_core::{Compiler, Ctx, Vars};
use jaq_json::{Val, read};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use std::io::{self, BufRead, Write};

/// The argument by which the program becomes this process.
pub const WORKER: &str = "jq-worker";

type Filter = jaq_core::Filter<JustLut<Val>>;

/// Runs until the input ends.
pub fn work() -> io::Result<()> {
    set(Resource::Core, 0)?;
    set(Resource::As, limits::JQ_MEMORY_BYTES_MAX)?;
    begin_record()?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let sources: Vec<String> = serde_json::from_slice(&line)?;
    let compiled: Vec<Result<Filter, String>> = sources.iter().map(|source| compile(source)).collect();
    let wrong: Vec<Option<&String>> = compiled.iter().map(|filter| filter.as_ref().err()).collect();
    writeln!(output, "{}", serde_json::to_string(&wrong)?)?;
    output.flush()?;
    let filters: Vec<Filter> = compiled.into_iter().flatten().collect();
    for records in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        begin_record()?;
        let said: Vec<Said> = match is_slow(records) {
            true => filters.iter().map(|_| Said { value: None, wrong: Some(SLOW.into()) }).collect(),
            false => filters.iter().map(|filter| say(filter, &line)).collect(),
        };
        writeln!(output, "{}", serde_json::to_string(&said)?)?;
        output.flush()?;
    }
    Ok(())
}

/// What is said of each record after programs took too long for many.
const SLOW: &str = "takes too long for the records together";

/// Whether the programs took more time than so many records are worth.
fn is_slow(records: u64) -> bool {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used_ms = used.tv_sec.unsigned_abs() * 1_000 + used.tv_nsec.unsigned_abs() / 1_000_000;
    used_ms > limits::JQ_SECONDS_TOTAL_MAX * 1_000 + records * limits::JQ_MS_PER_RECORD
}

fn set(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// Gives the next record its time.
fn begin_record() -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    Ok(setrlimit(Resource::Cpu, Rlimit { current: Some(used + 1 + limits::JQ_SECONDS_MAX), maximum })?)
}

fn compile(source: &str) -> Result<Filter, String> {
    let loader = Loader::new(jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()));
    let arena = Arena::default();
    let modules = loader.load(&arena, File { code: source, path: () }).map_err(|errors| {
        let first = errors.into_iter().next().map(|(_, error)| unread(&error));
        format!("cannot be read{}", first.unwrap_or_default())
    })?;
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
        let unknown = errors.into_iter().flat_map(|(_, undefined)| undefined).map(|(name, _)| name.to_string());
        format!("there is no {}", unknown.collect::<Vec<_>>().join(", "))
    })
}

/// Where a program cannot be read.
fn unread(error: &Error<&str>) -> String {
    let at = |rest: &str| {
        format!(" from `{rest}` on; names with other characters than letters need quotes, as in .\"名称\"")
    };
    match error {
        Error::Io(files) => format!(": it includes {}", files.first().map_or("a file", |(name, _)| name)),
        Error::Lex(errors) => errors.first().map(|(_, rest)| at(rest)).unwrap_or_default(),
        Error::Parse(errors) => match errors.first() {
            Some((_, "")) | None => ": it ends too early".into(),
            Some((_, rest)) => at(rest),
        },
    }
}

/// Characters of what a program fails with, which may quote the record.
const WRONG_CHARS_MAX: usize = 100;

/// The only result of a program for a record.
fn say(filter: &Filter, record: &[u8]) -> Said {
    let wrong = |wrong: String| {
        let shown: String = wrong.chars().take(WRONG_CHARS_MAX).collect();
        Said { value: None, wrong: Some(shown) }
    };
    let record = match read::parse_single(record) {
        Ok(record) => record,
        Err(error) => return wrong(error.to_string()),
    };
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    // `unwrap_valr` would end this process at a `halt`.
    let results = filter.id.run((context, record));
    let mut results =
        results.map(|result| result.map_err(|end| end.get_err().map_or("it halts".into(), |e| e.to_string())));
    let first = match results.next() {
        None => return Said { value: None, wrong: None },
        Some(Err(error)) => return wrong(format!("fails: {error}")),
        Some(Ok(value)) => value,
    };
    if results.next().is_some() {
        return wrong("has more than one result; put them into a list: [ … ]".into());
    }
    match RawValue::from_string(first.to_string()) {
        Ok(value) => Said { value: Some(value), wrong: None },
        Err(_) => wrong("has a result that JSON cannot hold".into()),
    }
}
