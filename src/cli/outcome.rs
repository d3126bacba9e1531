//! How a command ends.

use std::process::ExitCode;

/// Exit codes other than 0 (done) and 2 (wrong usage, from clap).
pub mod exit {
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// The command was refused: by a policy, by a peer, or because records are invalid.
    pub const REFUSED: u8 = 3;
    /// Evidence does not verify.
    pub const UNVERIFIED: u8 = 4;
    /// The request is not decided yet.
    pub const PENDING: u8 = 5;
}

/// Result of a command.
pub type Outcome = anyhow::Result<ExitCode>;

/// Success.
pub fn done() -> Outcome {
    Ok(ExitCode::SUCCESS)
}
