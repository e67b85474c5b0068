//! `sim`: the seeded simulation, as many seeds as are asked for.

use anyhow::Result;

use crate::tools::{cargo, run as spawn};

/// Runs it with the arguments that it takes itself; fails where it does.
pub(crate) fn run(args: &[String]) -> Result<()> {
    spawn(cargo().args(["run", "--quiet", "--package", "sim", "--"]).args(args))
}
