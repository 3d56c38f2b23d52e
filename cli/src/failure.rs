//! How a command fails: one line on stderr that says what happened, to which thing and what to do, and an exit code.

use std::fmt;

/// The exit codes that are not a container's own.
pub(crate) mod code {
    /// The command did not do what it was asked.
    pub(crate) const FAILED: i32 = 1;
    /// The command line, or what it names, is wrong.
    pub(crate) const USAGE: i32 = 2;
    /// Longshore's or the world's fault, or the container never started.
    pub(crate) const PLATFORM: i32 = 125;
    /// Interrupted by the person at the keyboard.
    pub(crate) const INTERRUPTED: i32 = 130;
}

/// Ends the process with its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `None`: the command's own for what is not the user's doing.
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into() }
    }

    pub(crate) fn with_code(code: i32, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::with_code(code::USAGE, message)
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The code of a failed command: its own, or `otherwise`.
pub(crate) fn exit_code(error: &anyhow::Error, otherwise: i32) -> i32 {
    error.downcast_ref::<Failure>().and_then(|failure| failure.code).unwrap_or(otherwise)
}

/// Whoever read our output has gone; nothing is wrong.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(io)
}
