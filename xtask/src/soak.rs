//! `soak`: a mixed load on one process on embedded storage for a long time, judged by whether anything grows.

use anyhow::{Context, Result};

use crate::tools::{build_release, program, root};

/// Builds what is needed, and runs it with the arguments that it takes itself. Ends with its exit code: 0, or 20 where
/// something does not hold.
pub(crate) fn run(args: &[String]) -> Result<()> {
    build_release()?;
    let mut command = program("soak");
    command.arg("--dir").arg(root().join("target/soak")).args(args);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}
