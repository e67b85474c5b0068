//! `fuzz`: builds the targets of `fuzz/` with coverage counters, on the compiler that everything else is built with,
//! and lets libFuzzer search each of them for a time. What it learns is kept in `fuzz/corpus`, what it finds in
//! `fuzz/found`; the tests run both through the same checks.

mod reached;
mod seeds;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{cargo, root, run as spawn};

/// Build scripts are not instrumented only where a target is named.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What `-Zsanitizer=fuzzer` would mean, in words that a stable compiler takes.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// What is kept of a corpus, at the most.
const KEPT_FILES_MAX: usize = 50;
const KEPT_BYTES_MAX: u64 = 300 * 1024;
/// Where targets that need files have them, if it is there: a disk would take most of the time.
const MEMORY: &str = "/dev/shm";
/// Runs of one target until its time on a processor is used up; a busy machine gives each run less.
const RUNS_MAX: u32 = 50;

/// What to search, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this one; all of them otherwise.
    #[arg(long)]
    target: Option<String>,
    /// Processor time for each, in minutes; 0 runs what is kept, and nothing more.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
}

/// Builds, and searches one target after the other; stops at the first that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    if let Some(named) = args.target.as_ref().filter(|named| !targets.contains(named)) {
        bail!("no target {named}; there are {}", targets.join(", "));
    }
    build()?;
    let chosen = targets.iter().filter(|name| args.target.as_ref().is_none_or(|named| named == *name));
    for name in chosen {
        let target = Target::new(name)?;
        let line = target.search(args.minutes * 60)?;
        println!("{name}: {line}; {}", target.keep()?);
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let files = fs::read_dir(root().join("fuzz/fuzz_targets"))?.collect::<io::Result<Vec<_>>>()?;
    let stem = |file: &fs::DirEntry| Some(file.path().file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = files.iter().filter_map(stem).collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<()> {
    // The same versions as everywhere else; what only the targets need is added by cargo.
    fs::copy(root().join("Cargo.lock"), root().join("fuzz/Cargo.lock"))?;
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE]);
    command.arg("--target-dir").arg(place()).env("RUSTFLAGS", FLAGS.join(" "));
    spawn(&mut command)
}

fn place() -> PathBuf {
    root().join("target/fuzz")
}

struct Target {
    name: String,
    program: PathBuf,
    /// Everything that was learnt on this machine.
    work: PathBuf,
    /// The part of it that is kept.
    corpus: PathBuf,
    found: PathBuf,
}

impl Target {
    fn new(name: &str) -> Result<Self> {
        let this = Self {
            name: name.to_owned(),
            program: place().join(TRIPLE).join("release").join(name),
            work: place().join("work").join(name),
            corpus: root().join("fuzz/corpus").join(name),
            found: root().join("fuzz/found").join(name),
        };
        for dir in [&this.work, &this.corpus, &this.found] {
            fs::create_dir_all(dir)?;
        }
        seeds::write(name, &this.work)?;
        Ok(this)
    }

    /// Searches until so much processor time is used up; says in one line how far it came.
    fn search(&self, seconds: u64) -> Result<String> {
        let (mut units, mut used, mut said) = (0, 0, String::new());
        for _ in 0..RUNS_MAX {
            let before = children_s();
            let limit =
                if seconds == 0 { "-runs=0".into() } else { format!("-max_total_time={}", seconds - used) };
            said = self.fuzz(&[&limit, "-print_final_stats=1"], &[&self.work, &self.corpus, &self.found])?;
            units +=
                after(&said, "stat::number_of_executed_units:").and_then(|n| n.parse().ok()).unwrap_or(0);
            used += children_s() - before;
            if used + 1 >= seconds {
                break;
            }
        }
        let coverage = said.lines().filter_map(|line| after(line, " cov: ")).next_back().unwrap_or_default();
        Ok(format!("{units} executions in {used} s, coverage {coverage}"))
    }

    fn fuzz(&self, options: &[&str], dirs: &[&PathBuf]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(options).arg(format!("-max_len={}", length_max(&self.name)));
        command.args(["-timeout=10", "-rss_limit_mb=2048", "-detect_leaks=0"]);
        command.arg(format!("-artifact_prefix={}/", self.found.display())).args(dirs).current_dir(place());
        if Path::new(MEMORY).is_dir() {
            command.env("TMPDIR", MEMORY);
        }
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let tail: Vec<&str> = said.lines().rev().take(40).collect();
            tail.iter().rev().for_each(|line| println!("{line}"));
            let input = after(&said, "Test unit written to ").unwrap_or("see above");
            bail!("{} fails on {input}; again: {} {input}", self.name, self.program.display());
        }
        Ok(said)
    }

    /// Keeps those inputs that together reach the most of what all of them reach.
    fn keep(&self) -> Result<String> {
        let merged = place().join("merged").join(&self.name);
        let control = merged.with_extension("control");
        let _ = fs::remove_dir_all(&merged);
        let _ = fs::remove_file(&control);
        fs::create_dir_all(&merged)?;
        let file = format!("-merge_control_file={}", control.display());
        self.fuzz(&["-merge=1", &file], &[&merged, &self.work, &self.corpus])?;
        let all = reached::read(&fs::read_to_string(&control)?);
        let (chosen, part) = reached::choose(&all, KEPT_FILES_MAX, KEPT_BYTES_MAX);
        let chosen = chosen.iter().map(|input| Ok((input.name()?, fs::read(&input.path)?)));
        let chosen = chosen.collect::<Result<Vec<_>>>()?;
        fs::remove_dir_all(&self.corpus)?;
        fs::create_dir_all(&self.corpus)?;
        for (name, bytes) in &chosen {
            fs::write(self.corpus.join(name), bytes)?;
        }
        let (kept, percent) = (chosen.len(), part * 100.0);
        Ok(format!("corpus {}, kept {kept} that reach {percent:.0} % of what all reach", all.len()))
    }
}

/// As long as fits the decoder: what is longer only costs time.
fn length_max(target: &str) -> u32 {
    match target {
        "ids" | "stored" | "journal" => 256,
        "framing" | "columns" | "token" | "keys" | "line" | "settings" => 1_024,
        _ => 4_096,
    }
}

/// The word behind a label.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_once(label)?.1.split_whitespace().next()
}

/// Processor time of every program that was run and has ended, in seconds.
fn children_s() -> u64 {
    // SAFETY: a struct of plain numbers, all of which may be zero, filled by the call.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec).unwrap_or(0)
}
