//! `sim`: runs seeds and says what came of them. `cargo xtask sim` calls it.

use std::process::ExitCode;

use clap::Parser;
use sim::hunt::{self, Hunt};
use sim::{Fault, Mutation, Oracle, Plan, golden, shrink};

/// Whole clusters in one thread each, under faults that a seed decides.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Breaks a rule on purpose.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Begins the healing after so many steps at the latest.
    #[arg(long)]
    steps: Option<usize>,
    /// Kinds of faults that do not happen, with commas between them.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Fault>,
    /// Prints how many seeds each mutation takes to be found, as the table of docs/SIMULATION.md.
    #[arg(long)]
    mutations: bool,
    /// Prints the logs that `--seed` ends with and the rows that this build makes of them, for sim/golden.
    #[arg(long)]
    golden: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mutations {
        return table(args.seeds);
    }
    if args.golden {
        return golden(args.seed);
    }
    let first = Plan { seed: args.seed, mutation: args.mutation, steps: args.steps, off: args.without };
    let hunt = hunt::hunt(&first, args.seeds);
    match &hunt.failure {
        None => println!("{}", covered(&hunt)),
        Some((plan, _)) => failed(plan),
    }
    if hunt.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn golden(seed: u64) -> ExitCode {
    match golden::keep(seed) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(cause) => {
            eprintln!("seed {seed}: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn covered(hunt: &Hunt) -> String {
    let (seeds, sum) = (hunt.seeds, &hunt.sum);
    let faults: Vec<_> = hunt.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    format!(
        "{seeds} seeds, no violation: {} devices, {} acked, {} shown ({} under faults), {} rejected, {} heads told, {} records, {} faults ({})",
        sum.devices,
        sum.acked,
        sum.shown,
        sum.lively,
        sum.rejected,
        sum.heads,
        sum.records,
        hunt.faults.values().sum::<u64>(),
        faults.join(", "),
    )
}

/// Says what failed, the smallest schedule that still does, and the one command that replays it.
fn failed(plan: &Plan) {
    const JOURNAL_MAX: usize = 60;
    let (plan, outcome) = shrink(plan);
    let Some(violation) = outcome.violation else { return };
    println!("seed {}: {violation}", plan.seed);
    let (steps, faults) = (outcome.summary.steps, outcome.journal.len());
    println!("shrunk to {steps} steps and {faults} faults:");
    let journal = outcome.journal.iter().skip(faults.saturating_sub(JOURNAL_MAX));
    journal.for_each(|(step, fault)| println!("  step {step}: {fault}"));
    println!("replay: {plan}");
}

fn table(seeds: u64) -> ExitCode {
    /// Failing seeds of each that are asked which oracle spoke first.
    const TIMES: usize = 1;
    let (mut all, mut silent) = (true, Oracle::ALL.to_vec());
    println!("| mutation | defect | what it breaks | seeds to detection | oracles |\n|---|---|---|---|---|");
    for mutation in Mutation::ALL {
        let (defect, breaks) = mutation.words();
        let found = hunt::detect(mutation, seeds, TIMES);
        all &= found.is_some();
        let count = found.as_ref().map_or(format!("not in {seeds}"), |found| found.seeds.to_string());
        let mut oracles: Vec<_> = found.into_iter().flat_map(|f| f.violations).map(|v| v.oracle).collect();
        silent.retain(|oracle| !oracles.contains(oracle));
        oracles.sort();
        oracles.dedup();
        let oracles: Vec<_> = oracles.iter().map(|oracle| format!("{oracle:?}")).collect();
        println!("| `{mutation:?}` | {defect} | {breaks} | {count} | {} |", oracles.join(", "));
    }
    println!("\noracles that found none: {silent:?}");
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
