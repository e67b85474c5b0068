//! `recovery`: what devices feel of faults and floods, and when it is over; see `cargo xtask recovery`, which builds
//! what it needs and starts the back ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::{Backend, Recovery, emptied, reported};

#[derive(Parser)]
#[command(
    about = "What devices feel of faults and floods, and when it is over. Exit codes: 0 all bounds hold, 20 one does not, 101 the run itself failed"
)]
struct Args {
    /// What the servers stand on.
    #[arg(long, value_enum, default_value = "embedded")]
    backend: Backend,
    /// Devices; two make a pair. By default 500, on a cluster 200.
    #[arg(long)]
    links: Option<u32>,
    /// Messages a second. By default a fifth of the most that two cores carry: 6,000, on a cluster 200.
    #[arg(long)]
    rate: Option<u32>,
    /// Connections, and sign-ins, a second of a flood. By default as if every device came five times, on a
    /// cluster once: beside it two cores have no room for more.
    #[arg(long)]
    flood: Option<u32>,
    /// Only these trials, with commas between them; all of those that the back end can be put to otherwise.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where everything is kept; emptied first.
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let dir = emptied(&args.dir);
    let storage = args.backend.storage("recovery on a cluster");
    let (links, rate, times) = match args.backend {
        Backend::Embedded => (500, 6_000, 5),
        Backend::Cluster => (200, 200, 1),
    };
    let (links, rate) = (args.links.unwrap_or(links), args.rate.unwrap_or(rate));
    let flood = args.flood.unwrap_or(times * links);
    let report = Recovery { storage, links, rate, flood, only: args.only, dir: dir.clone() }.run();
    reported(&dir, &report, report.holds())
}
