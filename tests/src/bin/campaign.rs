//! `campaign`: faults on real processes under load; see `cargo xtask campaign`, which builds what it needs and
//! starts the back ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::{Backend, Campaign, emptied, reported};

#[derive(Parser)]
#[command(
    about = "Faults on real processes under load. Exit codes: 0 clean, 20 a promise was broken, 101 the campaign itself failed"
)]
struct Args {
    /// What the servers stand on.
    #[arg(long, value_enum, default_value = "embedded")]
    backend: Backend,
    /// Messages to send.
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Faults, spread evenly.
    #[arg(long, default_value_t = 20)]
    faults: u32,
    /// Decides which.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Devices; two make a pair, ten a group.
    #[arg(long, default_value_t = 2_000)]
    links: u32,
    /// Messages a second. By default as many as make the load last as long as the faults.
    #[arg(long)]
    rate: Option<u32>,
    /// Where everything is kept; emptied first.
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let dir = emptied(&args.dir);
    let storage = args.backend.storage("a campaign on a cluster");
    let Args { messages, faults, seed, links, .. } = args;
    let rate = args.rate.unwrap_or_else(|| Campaign::rate(&storage, messages, faults)).max(1);
    let campaign = Campaign { storage, messages, faults, seed, links, rate, dir: dir.clone() };
    let report = campaign.run();
    reported(&dir, &report, report.is_clean())
}
