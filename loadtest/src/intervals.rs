//! Latencies by the time at which messages were to be sent: what a fault does to them, and when it is over. Pure.

use serde_json::Value;

use crate::outcome::{self, Latencies};

/// Latencies of one kind, in stretches of the same length from the start of the load on.
#[derive(Debug)]
pub(crate) struct Intervals {
    /// The length of each in microseconds; 0 keeps none.
    every_us: u64,
    kept: Vec<Latencies>,
}

impl Intervals {
    /// Nothing yet.
    pub(crate) fn new(every_us: u64) -> Self {
        Self { every_us, kept: Vec::new() }
    }

    /// A message that was due so long after the start took so long, both in microseconds.
    pub(crate) fn record(&mut self, due_us: u64, late_us: u64) {
        let Some(index) = due_us.checked_div(self.every_us).and_then(|index| usize::try_from(index).ok())
        else {
            return;
        };
        if self.kept.len() <= index {
            self.kept.resize_with(index + 1, outcome::rough_latencies);
        }
        if let Some(latencies) = self.kept.get_mut(index) {
            outcome::record(latencies, late_us);
        }
    }

    /// For the way to another process.
    pub(crate) fn to_pairs(&self) -> Vec<Vec<(u64, u64)>> {
        self.kept.iter().map(outcome::to_pairs).collect()
    }
}

/// Adds another worker's.
pub(crate) fn add(to: &mut Vec<Vec<(u64, u64)>>, other: Vec<Vec<(u64, u64)>>) {
    if to.len() < other.len() {
        to.resize_with(other.len(), Vec::new);
    }
    to.iter_mut().zip(other).for_each(|(to, other)| to.extend(other));
}

/// For programs: one object for each.
pub(crate) fn json(intervals: &[Vec<(u64, u64)>]) -> Vec<Value> {
    intervals.iter().map(|pairs| outcome::quantiles(pairs)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_when_it_was_due() {
        let (mut one, mut other) = (Intervals::new(1_000_000), Intervals::new(1_000_000));
        one.record(999_999, 5_000_000);
        one.record(2_000_000, 10_000);
        other.record(2_500_000, 20_000);
        other.record(3_000_000, 30_000);
        let mut all = one.to_pairs();
        add(&mut all, other.to_pairs());
        let figures = json(&all);
        let counts: Vec<_> = figures.iter().map(|figures| figures["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, [1, 0, 2, 1]);
        let max = figures[0]["max"].as_u64().unwrap();
        assert!((4_900_000..5_100_000).contains(&max), "{max}");
    }

    #[test]
    fn none_are_kept_unless_asked_for() {
        let mut none = Intervals::new(0);
        none.record(1_000_000, 1);
        assert!(none.to_pairs().is_empty());
    }
}
