//! The project's own commands. `cargo xtask help` lists them.

mod backends;
mod ci;
mod fuzz;
mod layers;
mod sim;
mod soak;
mod staged;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Godwit's own commands")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that a change must pass: fmt, clippy, rustdoc, tidy, and then every test.
    Ci,
    /// Every test, real Kafka and Cassandra included; ends with one line that sums them up.
    Test {
        /// Leave the real back ends out, and say so.
        #[arg(long)]
        no_backends: bool,
        /// For `cargo test`, such as `-p logic` or a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The seeded simulation: `--seeds N --seed FIRST --mutation NAME`, `--mutations`; `--help` says more.
    #[command(disable_help_flag = true)]
    Sim {
        /// For the simulation.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Faults on real processes under load, judged from what the devices kept (nftables, strace and root needed).
    /// `--backend cluster`, `--messages N --faults N --seed S`; `--help` says more.
    #[command(disable_help_flag = true)]
    Campaign {
        /// For the campaign.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What devices feel of faults and floods, and when it is over; needs what a campaign needs. `--help` says more.
    #[command(disable_help_flag = true)]
    Recovery {
        /// For the recovery.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Every decoder under libFuzzer, for a time; what it learns is kept in `fuzz/corpus`, what it finds in `fuzz/found`.
    Fuzz(fuzz::Args),
    /// A mixed load on one process for a long time: does anything grow that should not? `--help` says how it is loaded.
    #[command(disable_help_flag = true)]
    Soak {
        /// For the soak.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What no compiler checks: layers, file heads, names in documents, codes in tables.
    Tidy,
    /// A real Kafka and a real Cassandra on this machine, from their Maven jars (JDK 17 and Maven needed).
    Backends(backends::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Ci => ci::run(),
        Command::Test { no_backends, args } => test::run(!no_backends, &args),
        Command::Sim { args } => sim::run(&args),
        Command::Campaign { args } => staged::run("campaign", &args),
        Command::Recovery { args } => staged::run("recovery", &args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Soak { args } => soak::run(&args),
        Command::Tidy => tidy::run(),
        Command::Backends(args) => backends::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
