//! Some seeds without a violation; every deliberate defect found; failures that replay and shrink.
//! `SIM_SEEDS` says how many seeds (1,000 by default); `cargo xtask sim` runs as many as it is told.
#![allow(clippy::unwrap_used, reason = "test code")]

use sim::{Fault, Mutation, Plan, golden, hunt, shrink, world};

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
fn what_earlier_builds_wrote_comes_to_the_same_rows() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut rows = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        rows += golden::check(&text).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    }
    assert!(rows > 500, "{rows} rows");
}

#[test]
fn another_row_another_record_or_another_level_is_told() {
    let kept = golden::keep(23).unwrap();
    golden::check(&kept).unwrap();
    let last_message = kept.lines().rfind(|line| line.starts_with("message")).unwrap();
    let last_row = kept.lines().last().unwrap();
    for line in [last_message, last_row] {
        let other = golden::check(&kept.replace(&format!("{line}\n"), ""));
        assert!(other.is_err_and(|cause| cause.starts_with("kept: ")), "{line}");
    }
    let level = golden::check(&kept.replacen("level 1", "level 2", 1));
    assert_eq!(level, Err("kept by a build of level Some(2)".into()));
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
