//! How a run ends.

/// The exit codes, as `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Pass = 0,
    /// The argument parser's, and ours where an argument names a file that is not there or not what it should be.
    Usage = 2,
    /// The server cannot be reached, or turns links away; or the harness itself failed.
    Unreachable = 5,
    /// A promise was broken.
    Violation = 20,
    /// The load was not kept up: the figures mean nothing.
    Saturated = 30,
    /// An objective was missed.
    Objective = 99,
}
