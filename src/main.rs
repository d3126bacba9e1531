//! Parses the arguments, runs the command and sets the exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match crosspark::cli::Cli::try_parse() {
        Ok(cli) => crosspark::cli::run(cli),
        Err(error) => crosspark::cli::wrong_usage(&error),
    }
}
