//! `campaign` and `recovery`: things happen to real processes under load, in a network of their own, and what the
//! devices kept of it is judged.

use std::process::Command;

use anyhow::{Result, bail};

use crate::backends::{self, Cluster};
use crate::tools::{answers, build_release, program, root, run as spawn};

/// Set in the part that has a network of its own.
const INSIDE: &str = "GODWIT_STAGED_INSIDE";

/// Builds what is needed, brings back ends up, and runs a program of `tests/` with the arguments that it takes itself.
/// Fails where it does.
pub(crate) fn run(name: &str, args: &[String]) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return inside(name, args);
    }
    let needed = [
        ("nft", "--version"),
        ("strace", "--version"),
        ("prlimit", "--version"),
        ("unshare", "--version"),
        ("ip", "-V"),
    ];
    if let Some((missing, _)) = needed.into_iter().find(|(program, arg)| !answers(program, arg)) {
        bail!("a {name} needs {missing}, and the rights of root");
    }
    build_release()?;
    if on_cluster(args) {
        let missing = backends::missing();
        if !missing.is_empty() {
            bail!("needed and not found: {}", missing.join(", "));
        }
        // What has to be fetched is fetched while there is a network.
        backends::fetch()?;
    }
    // Rules, mounts and shared memory end with it, however it ends.
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "sh",
        "-c",
        r#"ip link set lo up && mount -t tmpfs tmpfs /dev/shm && exec "$0" "$@""#,
    ]);
    spawn(command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1"))
}

fn inside(name: &str, args: &[String]) -> Result<()> {
    let mut command = program(name);
    command.arg("--dir").arg(root().join("target").join(name)).args(args);
    if !on_cluster(args) {
        return spawn(&mut command);
    }
    let cluster = Cluster::for_tests()?;
    cluster.down()?;
    cluster.wipe()?;
    cluster.up()?;
    let outcome = spawn(command.envs(cluster.env()?));
    cluster.down()?;
    outcome
}

/// Whether back ends are asked for: they are started before the program, which says what else is wrong.
fn on_cluster(args: &[String]) -> bool {
    let values = args.iter().zip(args.iter().skip(1)).filter(|(name, _)| *name == "--backend");
    let joined = args.iter().filter_map(|arg| arg.strip_prefix("--backend="));
    values.map(|(_, value)| value.as_str()).chain(joined).any(|value| value == "cluster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_asked_for_in_either_way() {
        let on = |line: &str| on_cluster(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(on("--messages 5 --backend cluster --seed 1") && on("--backend=cluster"));
        assert!(!on("--backend embedded --seed 1") && !on("--seed cluster") && !on("--backend"));
    }
}
