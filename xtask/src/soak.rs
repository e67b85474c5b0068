//! `soak`: a mixed load on one process on embedded storage for a long time, judged by whether anything grows.

use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::{cargo, root, run as spawn};

/// `cargo xtask soak …`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Devices; a multiple of ten.
    #[arg(long, default_value_t = 1_000)]
    links: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Links that end on purpose and come back, a second.
    #[arg(long, default_value_t = 10.0)]
    churn: f64,
    /// Further arguments of the soak, such as `--set embedded.cache_bytes=4194304`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// Builds what is needed, and runs it. Ends with its exit code: 0, or 20 where something does not hold.
pub(crate) fn run(args: &Args) -> Result<()> {
    spawn(cargo().args(["build", "--release", "--bins", "-p", "godwit", "-p", "loadtest", "-p", "tests"]))?;
    let built = root().join("target/release");
    let mut command = Command::new(built.join("soak"));
    command.env("GODWIT_BIN", built.join("godwit")).env("LOADTEST_BIN", built.join("loadtest"));
    let Args { minutes, links, rate, churn, more } = args;
    command.args(["--minutes", &minutes.to_string(), "--links", &links.to_string()]);
    command.args(["--rate", &rate.to_string(), "--churn", &churn.to_string()]);
    command.arg("--dir").arg(root().join("target/soak")).args(more);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}
