//! `soak`: a mixed load on one process for a long time; see `cargo xtask soak`, which builds what it needs.

#![allow(clippy::unwrap_used, reason = "a harness: what it does not expect ends it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tests::Soak;

/// Something grew that should not, or a promise was broken.
const VIOLATION: u8 = 20;

#[derive(Parser)]
#[command(
    about = "A mixed load on one process for a long time. Exit codes: 0 clean, 20 something does not hold, 101 the soak itself failed"
)]
struct Args {
    /// For how long. Growth is judged from 1,200,000 messages on: 40 minutes at the usual rate.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Devices; a multiple of ten.
    #[arg(long, default_value_t = 1_000)]
    links: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Links that end on purpose, a second.
    #[arg(long, default_value_t = 10.0)]
    churn: f64,
    /// A setting of the server, as `section.name=VALUE`; may be repeated.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Where everything is kept; emptied first.
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let Args { minutes, links, rate, churn, settings, dir } = Args::parse();
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let dir = dir.canonicalize().unwrap();
    let (duration, every) = (Duration::from_secs_f64(minutes * 60.0), Duration::from_secs(10));
    let report = Soak { duration, every, links, rate, churn, settings, dir: dir.clone() }.run();
    println!("{report}");
    std::fs::write(dir.join("report.md"), report.to_string()).unwrap();
    report.failures().iter().for_each(|line| println!("{line}"));
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(VIOLATION) }
}
