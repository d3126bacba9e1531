//! How a command ends.

use std::process::ExitCode;

/// Exit codes other than 0 (done) and 2 (wrong usage, from clap).
pub mod exit {
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// The command was refused: by a policy, by a peer, or by the node (invalid records, no such dataset, no permission).
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

/// An error with its causes. Some errors repeat their cause in their own text.
pub fn in_words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |words, cause| match cause.to_string() {
        cause if words.is_empty() => cause,
        cause if words.contains(&cause) => words,
        cause => format!("{words}: {cause}"),
    })
}
