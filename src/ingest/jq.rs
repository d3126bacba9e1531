//! The jq programs of a mapping. They are run by processes of their own, which have neither files nor secrets and end when
//! they take too much time, memory or stack: a program that never ends makes one record invalid, and nothing else.

mod worker;

pub use worker::{WORKER, work};

use crate::core::limits;
use crate::mapping::{Answer, Mapping};
use crate::schema::Violation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of records that are written before answers are read; every pipe holds as many, so that both sides never wait.
const BATCH_BYTES: usize = 4 * 1024;

/// What a worker says of one program and one record.
#[derive(Serialize, Deserialize)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<String>,
}

/// The programs of a mapping, and the processes that run them.
pub struct Programs {
    sources: Vec<String>,
    idle: Mutex<Vec<Worker>>,
    /// How many records ended a process.
    ended: AtomicUsize,
}

struct Worker {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Programs {
    /// Fails if a program cannot be compiled; `None` if there is none.
    pub fn of(mapping: &Mapping) -> io::Result<Option<Self>> {
        let sources: Vec<String> = mapping.programs().into_iter().map(str::to_owned).collect();
        if sources.is_empty() {
            return Ok(None);
        }
        let first = Worker::begin(&sources)?;
        Ok(Some(Self { sources, idle: Mutex::new(vec![first]), ended: AtomicUsize::new(0) }))
    }

    /// Calls `each` with each record and the answers of all programs, in batches.
    pub fn run(&self, records: &[Kept], each: &mut dyn FnMut(&Kept, &[Answer])) {
        let idle = || self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let all = |why: &str| vec![Err(why.to_owned()); self.sources.len()];
        let mut worker = None;
        let mut rest = records;
        while let [first, others @ ..] = rest {
            if self.ended.load(Ordering::Relaxed) >= limits::JQ_PROCESSES_ENDED_MAX {
                each(first, &all("is not run any more: its process ended several times"));
                rest = others;
                continue;
            }
            let mut working = match worker.take().or_else(idle).map_or_else(|| Worker::begin(&self.sources), Ok) {
                Ok(working) => working,
                Err(error) => {
                    each(first, &all(&error.to_string()));
                    rest = others;
                    continue;
                }
            };
            let mut bytes = first.text().len();
            let more = others.iter().take_while(|record| {
                bytes += record.text().len();
                bytes < BATCH_BYTES
            });
            let (batch, after) = rest.split_at(1 + more.count());
            let mut answered = 0;
            let asked = working.ask(batch, &mut |answers| {
                each(&batch[answered], &answers);
                answered += 1;
            });
            rest = after;
            match asked {
                Ok(()) => worker = Some(working),
                Err(why) => {
                    self.ended.fetch_add(1, Ordering::Relaxed);
                    each(&batch[answered], &all(&why));
                    rest = &records[records.len() - after.len() - (batch.len() - answered - 1)..];
                }
            }
        }
        if let (Some(worker), Ok(mut idle)) = (worker, self.idle.lock()) {
            idle.push(worker);
        }
    }
}

/// A record that is kept until the answers are there.
pub struct Kept {
    pub line: u64,
    pub json: Option<Vec<u8>>,
    pub wrong: Vec<Violation>,
}

impl Kept {
    /// What the programs read; nothing, if the record could not be read.
    fn text(&self) -> &[u8] {
        self.json.as_deref().unwrap_or(b"null")
    }
}

impl Worker {
    fn begin(sources: &[String]) -> io::Result<Self> {
        let broken = || io::Error::other("the process for jq programs did not start");
        // The program that runs, also if its file was replaced.
        let mut process = Command::new("/proc/self/exe")
            .arg(WORKER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take().ok_or_else(broken)?);
        let mut worker = Self { process, input, output: BufReader::new(output) };
        let programs = serde_json::to_vec(sources)?;
        worker.write(&[&programs])?;
        let Some(answer) = worker.line()? else {
            return Err(super::invalid(format!("compiling the jq programs {}", worker.end())));
        };
        let wrong: Vec<Option<String>> = serde_json::from_str(&answer)?;
        match wrong.into_iter().zip(sources).find_map(|(wrong, source)| Some((wrong?, source))) {
            Some((wrong, source)) => Err(super::invalid(format!("the jq program `{source}`: {wrong}"))),
            None => Ok(worker),
        }
    }

    fn write(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        for line in lines {
            input.write_all(line)?;
            input.write_all(b"\n")?;
        }
        input.flush()
    }

    /// The next line of a bounded length; `None` if the process has ended.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let most = (limits::RECORD_BYTES_MAX + 1024) as u64;
        io::Read::take(&mut self.output, most).read_line(&mut line)?;
        Ok(line.ends_with('\n').then_some(line))
    }

    /// Calls `each` with the answers for each record; fails with what ended the process before the next one.
    fn ask(&mut self, records: &[Kept], each: &mut dyn FnMut(Vec<Answer>)) -> Result<(), String> {
        let lines: Vec<&[u8]> = records.iter().map(Kept::text).collect();
        let written = self.write(&lines);
        for _ in records {
            let said = self.line().ok().flatten().and_then(|line| serde_json::from_str::<Vec<Said>>(&line).ok());
            let said = said.ok_or_else(|| self.end())?;
            each(said.into_iter().map(Said::answer).collect());
        }
        written.map_err(|error| error.to_string())
    }

    fn end(&mut self) -> String {
        let _ = self.process.kill();
        match self.process.wait() {
            Ok(status) => why(status),
            Err(error) => error.to_string(),
        }
    }
}

/// Why a process ended.
fn why(status: ExitStatus) -> String {
    let signal = status.signal().and_then(rustix::process::Signal::from_named_raw);
    match signal {
        Some(rustix::process::Signal::XCPU) => {
            format!("takes more than {} seconds for this record", limits::JQ_SECONDS_MAX)
        }
        Some(rustix::process::Signal::ABORT) => {
            format!(
                "takes more than {} MiB for this record, or calls itself too often",
                limits::JQ_MEMORY_BYTES_MAX >> 20
            )
        }
        // Killed here, because its answer is longer than a record may be.
        _ => "ends without a result that a record could hold".into(),
    }
}

impl Said {
    fn answer(self) -> Answer {
        match (self.value, self.wrong) {
            (_, Some(wrong)) => Err(wrong),
            (value, None) => Ok(value.map(|value| value.get().as_bytes().to_vec())),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // At the end of its input the process ends; one that does not listen is killed.
        self.input = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
