//! Many seeds without a violation; and every deliberate defect found.
//! `SIM_SEEDS` says how many (5,000 by default), `SIM_FIRST` where to begin.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Mutation, world};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The first seed of a range that fails, looked for on two threads.
fn first_failure(first: u64, count: u64, mutation: Option<Mutation>) -> Option<(u64, String)> {
    let next = AtomicU64::new(first);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return None;
            }
            if let Err(violation) = world::run(seed, mutation) {
                next.store(first + count, Ordering::Relaxed);
                return Some((seed, violation));
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(search);
        let mine = search();
        let other = other.join().unwrap();
        [mine, other].into_iter().flatten().min_by_key(|(seed, _)| *seed)
    })
}

#[test]
fn no_seed_finds_a_violation() {
    let (first, count) = (setting("SIM_FIRST", 0), setting("SIM_SEEDS", 5_000));
    if let Some((seed, violation)) = first_failure(first, count, None) {
        panic!("seed {seed}: {violation}");
    }
}

#[test]
fn every_defect_is_found() {
    for mutation in Mutation::ALL {
        let found = first_failure(0, 3_000, Some(mutation));
        println!("{mutation:?}: {found:?}");
        assert!(found.is_some(), "{mutation:?} was not found in 3,000 seeds");
    }
}

#[test]
fn a_seed_replays() {
    let once = format!("{:?}", world::run(7, None));
    assert_eq!(once, format!("{:?}", world::run(7, None)));
}

#[test]
fn the_seeds_do_something() {
    let mut sum = world::Summary::default();
    for seed in 0..200 {
        let one = world::run(seed, None).unwrap();
        sum.acked += one.acked;
        sum.shown += one.shown;
        sum.rejected += one.rejected;
        sum.checkpointed += one.checkpointed;
    }
    let enough = sum.acked > 2_000 && sum.shown > 4_000 && sum.rejected > 50 && sum.checkpointed > 1_000;
    assert!(enough, "{sum:?}");
}
