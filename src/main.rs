//! Parses arguments, runs, sets the exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    crosspark::cli::run(crosspark::cli::Cli::parse())
}
