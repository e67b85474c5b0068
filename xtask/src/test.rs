//! `test`: back ends up, every test, back ends down, one closing line.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::backends::{self, Cluster};
use crate::tools::{cargo, is_ci, root};

/// Seeds of the simulation in a run of everything; a run of `sim` alone has fewer.
const SIM_SEEDS: &str = "5000";

/// Tests of one binary that run at once: most of them wait.
const THREADS: &str = "4";

/// Tests and builds of which nothing is heard for so long hang: more than twice what the longest of them takes.
const SILENCE_MAX: Duration = Duration::from_mins(15);

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
    let lines = lines(child.stdout.take().context("no output")?);
    loop {
        match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => {
                let line = line?;
                sum.add(&line);
                println!("{line}");
            }
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => kill_programs_of(&mut child)?,
            // What a test left running may hold the output open for ever.
            Err(_) => return Ok((sum, child.wait()?.success())),
        }
    }
}

/// The lines of an output as they come.
fn lines(output: ChildStdout) -> Receiver<io::Result<String>> {
    let (line_in, lines) = channel();
    thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| line_in.send(line)));
    lines
}

/// Ends the programs that cargo waits for, which makes them failed ones; cargo goes on with the next. The names of the
/// tests that hang are in the output: each was said to run for over 60 seconds.
fn kill_programs_of(cargo: &mut Child) -> Result<()> {
    let minutes = SILENCE_MAX.as_secs() / 60;
    let programs = children(cargo.id())?;
    for pid in &programs {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        println!("nothing was heard of the tests for {minutes} minutes: {} is killed", name.trim());
        if let Some(pid) = Pid::from_raw(*pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    if programs.is_empty() {
        println!("nothing was heard of cargo for {minutes} minutes: it is killed");
        cargo.kill()?;
    }
    Ok(())
}

/// Processes whose parent is this one.
fn children(parent: u32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Gone meanwhile, if it cannot be read.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if of.is_some_and(|of| of.trim() == parent.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_and_the_one_that_waits_for_it_goes_on() {
        let mut shell = Command::new("sh").args(["-c", "sleep 1000; exit 7"]).spawn().unwrap();
        while children(shell.id()).unwrap().is_empty() {
            thread::yield_now();
        }
        kill_programs_of(&mut shell).unwrap();
        assert_eq!(shell.wait().unwrap().code(), Some(7));
    }

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
