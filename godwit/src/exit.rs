//! How the process ends: every exit code, and errors that carry one.

use std::fmt;
use std::process::ExitCode;

/// Why the process ends. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// Wrong usage or settings.
    Settings = 2,
    /// The data is not what this build or these settings can use.
    Data = 3,
    /// A listen address is in use, or not this machine's.
    Address = 4,
    /// The log or the store could not be reached at start.
    Unreachable = 5,
    /// A second signal ended it, or one before it was ready.
    Interrupted = 130,
}

/// The table for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; after SIGTERM or SIGINT: drained
  1    failed for a reason without a code of its own
  2    wrong usage or settings
  3    data refused: another layout, another partition count, or in use by another process
  4    a listen address is in use, or not this machine's
  5    the log or the store could not be reached at start
  6    an fsync failed: what the disk holds is not known any more
  7    a part of the process panicked: a bug
  130  interrupted: a second signal, or one while it was still starting";

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// An error with the code that the process ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    /// What happened and what to do about it.
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// An error that ends the process with `exit`.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}
