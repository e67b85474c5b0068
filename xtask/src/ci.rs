//! `ci`: what a change must pass, cheapest first, the tests last.

use std::process::Command;

use anyhow::Result;

use crate::tools::{cargo, now, run as spawn};
use crate::{test, tidy};

/// Runs every step, and says how long each took.
pub(crate) fn run() -> Result<()> {
    let mut times = Vec::new();
    let mut step = |name: &'static str, act: &dyn Fn() -> Result<()>| {
        println!("== {name}");
        let begun = now();
        act()?;
        times.push(format!("{name} {} s", begun.elapsed().as_secs()));
        anyhow::Ok(())
    };
    step("fmt", &|| spawn(cargo().args(["fmt", "--all", "--check"])))?;
    step("tidy", &tidy::run)?;
    step("clippy", &|| {
        spawn(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("rustdoc", &|| spawn(doc().args(["doc", "--workspace", "--no-deps"])))?;
    println!("== times: {}", times.join(", "));
    println!("== test");
    test::run(true, &[])
}

fn doc() -> Command {
    let mut command = cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}
