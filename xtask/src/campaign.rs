//! `campaign`: faults on real processes under load, judged from what the devices kept of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::backends::{self, Cluster};
use crate::tools::{answers, build_release, program, root, run as spawn};

/// What the servers stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// One process on embedded storage.
    Embedded,
    /// Two conn and two logic processes on three brokers and three CQL nodes.
    Cluster,
}

/// `cargo xtask campaign …`
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, value_enum, default_value = "embedded")]
    backend: Backend,
    /// Messages to send.
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Faults, spread evenly over the load.
    #[arg(long, default_value_t = 20)]
    faults: u32,
    /// Decides which faults, on whom, and for how long.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Further arguments of the campaign, such as `--rate 500`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// Set in the part that has a network of its own.
const INSIDE: &str = "GODWIT_CAMPAIGN_INSIDE";

/// Builds what is needed, brings back ends up, and runs it, in a network of its own. Fails where a promise was
/// broken.
pub(crate) fn run(args: &Args) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return inside(args);
    }
    for (program, arg) in [
        ("nft", "--version"),
        ("strace", "--version"),
        ("prlimit", "--version"),
        ("unshare", "--version"),
        ("ip", "-V"),
    ] {
        if !answers(program, arg) {
            bail!("a campaign needs {program}, and the rights of root");
        }
    }
    build_release()?;
    if args.backend == Backend::Cluster {
        let missing = backends::missing();
        if !missing.is_empty() {
            bail!("needed and not found: {}", missing.join(", "));
        }
        // What has to be fetched is fetched while there is a network.
        backends::fetch()?;
    }
    // Rules and mounts end with it, however it ends.
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", r#"ip link set lo up && exec "$0" "$@""#]);
    spawn(command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1"))
}

fn inside(args: &Args) -> Result<()> {
    let mut command = program("campaign");
    let (messages, faults, seed) =
        (args.messages.to_string(), args.faults.to_string(), args.seed.to_string());
    command.args(["--messages", &messages, "--faults", &faults, "--seed", &seed]);
    command.arg("--dir").arg(dir()).args(&args.more);
    if args.backend == Backend::Embedded {
        return spawn(&mut command);
    }
    let cluster = Cluster::for_tests()?;
    cluster.down()?;
    cluster.wipe()?;
    cluster.up()?;
    let outcome = spawn(command.args(["--backend", "cluster"]).envs(cluster.env()?));
    cluster.down()?;
    outcome
}

/// Data, logs, journals and the report of the last campaign.
fn dir() -> PathBuf {
    root().join("target/campaign")
}
