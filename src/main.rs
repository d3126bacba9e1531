//! Parses the arguments, runs the command and sets the exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A damaged file is told as such, not as a defect of the program.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(crosspark::ingest::READING_THREAD) {
            report(panic);
        }
    }));
    match crosspark::cli::Cli::try_parse() {
        Ok(cli) => crosspark::cli::run(cli),
        Err(error) => crosspark::cli::wrong_usage(&error),
    }
}
