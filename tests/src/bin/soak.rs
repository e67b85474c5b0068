//! `soak`: a mixed load on one process for a long time; see `cargo xtask soak`, which builds what it needs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tests::{Soak, emptied, reported};

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
    let dir = emptied(&dir);
    let (duration, every) = (Duration::from_secs_f64(minutes * 60.0), Duration::from_secs(10));
    let report = Soak { duration, every, links, rate, churn, settings, dir: dir.clone() }.run();
    let code = reported(&dir, &report, report.is_clean());
    report.failures().iter().for_each(|line| println!("{line}"));
    code
}
