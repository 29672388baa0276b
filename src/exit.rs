//! Exit codes: what a script or an orchestrator may rely on, and the one way in which a command fails.

use std::{fmt, io};

/// Why a command ended otherwise than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nobody reads our output any more: nothing went wrong, nothing is said.
    Quiet = 0,
    /// The operation or the job failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// The manager does not know who asks, or does not let them.
    Denied = 4,
    /// What was asked for contradicts what is there.
    Conflict = 5,
    /// What was waited for did not come in time; it goes on.
    TimedOut = 6,
    /// The manager cannot be reached.
    Unreachable = 7,
    /// Our own fault: an invariant does not hold.
    Internal = 70,
    /// Storage or an outside system failed for good; a full disk too.
    Storage = 74,
    /// A newer generation of the job, or another process, owns what this one used; or the job stood still. Start it again.
    Fenced = 75,
    /// The job file or its surroundings must be changed first.
    Invalid = 78,
    /// SIGINT came while something was waited for.
    Interrupted = 130,
}

/// A failed command: what to say, and with which code to end.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What was attempted, what came in the way, what to do.
    pub error: anyhow::Error,
}

/// All was said already.
#[derive(Debug)]
struct Said;

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all is said")
    }
}

/// What a command returns.
pub type Done = Result<(), Failure>;

impl Failure {
    /// Returns a failure with a message of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, error: anyhow::Error::msg(message.into()) }
    }

    /// Returns a failure of which all is said already.
    pub fn said(exit: Exit) -> Failure {
        Failure { exit, error: anyhow::Error::msg(Said) }
    }

    /// Returns whether there is nothing more to say.
    pub fn is_said(&self) -> bool {
        self.exit == Exit::Quiet || self.error.is::<Said>()
    }

    /// Returns the failure that follows from not being able to write to stdout: a reader that went away is none.
    pub fn stdout(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Quiet, "stdout was closed"),
            _ => Failure { exit: Exit::Storage, error: anyhow::Error::new(error).context("cannot write to stdout") },
        }
    }
}

/// Gives errors of libraries an exit code and the attempt that failed.
pub trait OrExit<T> {
    /// Returns the value, or the failure of `attempt` with this exit code.
    fn or_exit(self, exit: Exit, attempt: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit, attempt: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure { exit, error: anyhow::Error::new(error).context(attempt()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(Failure::stdout(io::ErrorKind::BrokenPipe.into()).exit, Exit::Quiet);
        assert_eq!(Failure::stdout(io::ErrorKind::StorageFull.into()).exit, Exit::Storage);
    }
}
