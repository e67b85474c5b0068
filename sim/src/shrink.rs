//! Makes a failing schedule smaller while it still fails: first without whole kinds of faults, then shorter.

use crate::world::{self, Outcome};
use crate::{Fault, Plan};

/// The smallest failing schedule that was found, and what comes of it.
#[must_use]
pub fn shrink(plan: &Plan) -> (Plan, Outcome) {
    let mut best = (plan.clone(), world::run(plan));
    for fault in Fault::ALL {
        let mut off = best.0.off.clone();
        off.push(fault);
        let plan = Plan { off, ..best.0.clone() };
        keep(&mut best, plan);
    }
    let (mut passes, mut fails) = (0, best.1.summary.steps);
    while passes + 1 < fails {
        let steps = passes.midpoint(fails);
        let plan = Plan { steps: Some(steps), ..best.0.clone() };
        match keep(&mut best, plan) {
            true => fails = steps,
            false => passes = steps,
        }
    }
    best
}

/// Takes a schedule that fails, and says whether it does.
fn keep(best: &mut (Plan, Outcome), plan: Plan) -> bool {
    let outcome = world::run(&plan);
    let fails = outcome.violation.is_some();
    if fails {
        *best = (plan, outcome);
    }
    fails
}
