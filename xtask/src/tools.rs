//! Running other programs, and where the repository is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace").to_owned()
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program to its end; its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Builds the servers, the harness and the programs of `tests/`, in the profile in which they are measured.
pub(crate) fn build_release() -> Result<()> {
    run(cargo().args(["build", "--release", "--bins", "-p", "godwit", "-p", "loadtest", "-p", "tests"]))
}

/// A program of `tests/` that [`build_release`] built, told where the others are.
pub(crate) fn program(name: &str) -> Command {
    let built = root().join("target/release");
    let mut command = Command::new(built.join(name));
    command.env("GODWIT_BIN", built.join("godwit")).env("LOADTEST_BIN", built.join("loadtest"));
    command
}

/// Whether a program is there and answers.
pub(crate) fn answers(program: &str, arg: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(arg).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether this is a run in continuous integration, where nothing may be left out.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The time at this moment.
#[allow(clippy::disallowed_methods, reason = "the clock of this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
