//! Parses the arguments, runs the command and sets the exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    crosspark::cli::run(crosspark::cli::Cli::parse())
}
