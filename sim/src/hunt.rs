//! Many seeds, on as many threads as there are cores; what they covered, and the lowest one that fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::{self, Summary};
use crate::{Fault, Mutation, Plan, Violation};

/// What a range of seeds has shown.
#[derive(Clone, Debug, Default)]
pub struct Hunt {
    /// Runs that were made.
    pub seeds: u64,
    /// Everything that they did, added up.
    pub sum: Summary,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<Fault, u64>,
    /// The failing seed, and why it fails.
    pub failure: Option<(Plan, Violation)>,
}

impl Hunt {
    fn merge(&mut self, other: Hunt) {
        self.seeds += other.seeds;
        self.sum += other.sum;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        let seed = |hunt: &Option<(Plan, Violation)>| hunt.as_ref().map_or(u64::MAX, |(plan, _)| plan.seed);
        if seed(&other.failure) < seed(&self.failure) {
            self.failure = other.failure;
        }
    }
}

/// Runs seeds until one fails or `count` have been run: the plan's, and those that follow.
#[must_use]
pub fn hunt(first: &Plan, count: u64) -> Hunt {
    let (next, end) = (AtomicU64::new(first.seed), AtomicU64::new(first.seed.saturating_add(count)));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work: Vec<_> = (0..threads).map(|_| scope.spawn(|| search(first, &next, &end))).collect();
        let mut hunt = Hunt::default();
        for part in work {
            hunt.merge(part.join().expect("a run does not panic"));
        }
        hunt
    })
}

/// How a defect was found.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The first seed that finds it, counted from 1.
    pub seeds: u64,
    /// What this and the next few failing seeds say.
    pub violations: Vec<Violation>,
}

/// Looks for a defect in so many seeds, until it was found `times` times; none if it never was.
#[must_use]
pub fn detect(mutation: Mutation, seeds: u64, times: usize) -> Option<Detection> {
    let mut detection: Option<Detection> = None;
    let mut plan = Plan::new(0, Some(mutation));
    while let Some((failed, violation)) = hunt(&plan, seeds.saturating_sub(plan.seed)).failure {
        plan.seed = failed.seed + 1;
        let first = Detection { seeds: plan.seed, violations: Vec::new() };
        let detection = detection.get_or_insert(first);
        detection.violations.push(violation);
        if detection.violations.len() >= times {
            break;
        }
    }
    detection
}

/// One thread's share. No seed after a failing one is begun, and every one before it is run to its end.
fn search(first: &Plan, next: &AtomicU64, end: &AtomicU64) -> Hunt {
    let mut hunt = Hunt::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end.load(Ordering::Relaxed) {
            return hunt;
        }
        let plan = Plan { seed, ..first.clone() };
        let outcome = world::run(&plan);
        hunt.seeds += 1;
        hunt.sum += outcome.summary;
        for (_, fault) in outcome.journal {
            *hunt.faults.entry(fault).or_default() += 1;
        }
        if let Some(violation) = outcome.violation {
            end.fetch_min(seed, Ordering::Relaxed);
            hunt.merge(Hunt { failure: Some((plan, violation)), ..Hunt::default() });
        }
    }
}
