//! Some seeds without a violation; every deliberate defect found; failures that replay and shrink.
//! `SIM_SEEDS` says how many seeds (1,000 by default); `cargo xtask sim` runs as many as it is told.
#![allow(clippy::unwrap_used, reason = "test code")]

use sim::{Fault, Mutation, Plan, hunt, shrink, world};

#[test]
fn no_seed_finds_a_violation_and_every_fault_happens() {
    let seeds = std::env::var("SIM_SEEDS").map_or(1_000, |text| text.parse().unwrap());
    let hunt = hunt::hunt(&Plan::new(0, None), seeds);
    let failure = hunt.failure.map(|(plan, violation)| format!("{violation}\nreplay: {plan}"));
    assert_eq!(failure, None);
    let sum = hunt.sum;
    let enough = sum.acked > 20_000 && sum.shown > 40_000 && sum.rejected > 500 && sum.checkpointed > 20_000;
    assert!(enough, "{sum:?}");
    for fault in Fault::ALL {
        assert!(hunt.faults.get(&fault) >= Some(&50), "{fault}: {:?}", hunt.faults.get(&fault));
    }
}

#[test]
fn every_defect_is_found() {
    for mutation in Mutation::ALL {
        assert!(hunt::detect(mutation, 3_000, 1).is_some(), "{mutation:?} was not found");
    }
}

#[test]
fn a_seed_replays() {
    let once = format!("{:?}", world::run(&Plan::new(7, None)));
    assert_eq!(once, format!("{:?}", world::run(&Plan::new(7, None))));
}

#[test]
fn a_failure_shrinks_to_one_that_replays() {
    let (plan, violation) = hunt::hunt(&Plan::new(0, Some(Mutation::NoPrev)), 3_000).failure.unwrap();
    let whole = world::run(&plan);
    assert_eq!(whole.violation, Some(violation));
    let (small, outcome) = shrink(&plan);
    assert!(outcome.journal.len() < whole.journal.len(), "{small}");
    assert_eq!(world::run(&small).violation, outcome.violation);
}
