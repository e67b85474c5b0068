//! `test`: back ends up, every test, back ends down, one closing line.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::backends::{self, Cluster};
use crate::tools::{cargo, is_ci, root};

/// Seeds of the simulation in a run of everything; a run of `sim` alone has fewer.
const SIM_SEEDS: &str = "5000";

/// Tests of one binary that run at once: most of them wait.
const THREADS: &str = "4";

/// What the runs of a test command add up to.
#[derive(Default, Debug, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Sum {
    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`; any other is nothing.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let Some((_, counts)) = rest.split_once(". ") else { return };
        for part in counts.split("; ") {
            let mut words = part.split(' ');
            let count = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Descriptors that a test holds at the most, both ends of every link.
const DESCRIPTORS: u64 = 20_000;

/// What a login shell grants is often less than it may.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < enough) {
        // Where it cannot be, the test that is short of them tells.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(enough), ..limit });
    }
}

/// Runs the tests.
pub(crate) fn run(with_backends: bool, args: &[String]) -> Result<()> {
    raise_descriptors();
    let cluster = if with_backends { backends_for_tests()? } else { None };
    if cluster.is_none() {
        println!("left out: every test against a real Kafka and a real Cassandra");
    }
    let outcome = run_tests(cluster.as_ref(), args);
    if let Some(cluster) = &cluster {
        cluster.down()?;
    }
    let (sum, ok) = outcome?;
    if !ok || sum.failed > 0 {
        println!("{} passed, {} failed", sum.passed, sum.failed.max(1));
        bail!("tests failed");
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.ignored);
    Ok(())
}

/// Three brokers and three nodes of this run's own; none where the tools for them are missing.
fn backends_for_tests() -> Result<Option<Cluster>> {
    let missing = backends::missing();
    if missing.is_empty() {
        let cluster = Cluster::for_tests()?;
        cluster.down()?;
        cluster.wipe()?;
        cluster.up()?;
        return Ok(Some(cluster));
    }
    let words = format!("no {}", missing.join(", no "));
    if is_ci() {
        bail!("{words}: the tests against real back ends cannot run");
    }
    println!("{words}");
    Ok(None)
}

/// Whose turn it is with the campaign, and its seed: another one with every commit.
fn turn() -> String {
    let count = Command::new("git").args(["rev-list", "--count", "HEAD"]).current_dir(root()).output();
    let count = count.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    count.trim().parse::<u64>().unwrap_or(0).to_string()
}

fn run_tests(cluster: Option<&Cluster>, args: &[String]) -> Result<(Sum, bool)> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    if !args.iter().any(|arg| arg == "-p" || arg == "--package") {
        command.arg("--workspace");
    }
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", THREADS);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    if let (true, Some(built)) = (args.is_empty(), std::env::current_exe()?.parent()) {
        // What is built for their own tests; building them alone, with other features, would take minutes.
        command.env("GODWIT_BIN", built.join("godwit")).env("LOADTEST_BIN", built.join("loadtest"));
    }
    if args.is_empty() {
        command.env("SIM_SEEDS", SIM_SEEDS).env("GODWIT_CAMPAIGN_TURN", turn());
    }
    match cluster {
        Some(cluster) => drop(command.envs(cluster.env()?)),
        // Tests that find no back end fail in CI, and say that they are left out elsewhere.
        None => drop(command.env_remove("GODWIT_TEST_KAFKA").env_remove("GODWIT_TEST_CQL")),
    }
    let mut child = command.spawn().context("cannot run cargo test")?;
    let mut sum = Sum::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        sum.add(&line);
        println!("{line}");
    }
    Ok((sum, child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn result_lines_add_up_and_others_do_not() {
        let mut sum = Sum::default();
        sum.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s",
        );
        sum.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        sum.add("test nothing ... ok");
        assert_eq!(sum, Sum { passed: 14, failed: 1, ignored: 1 });
    }
}
