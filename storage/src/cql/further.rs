//! When a request that goes unanswered is sent to another replica as well: so that one node that hangs holds up
//! nobody, and so that nodes that are merely busy are not sent everything twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scylla::policies::speculative_execution::{Context, SpeculativeExecutionPolicy};

/// No request is sent again before this.
const AFTER_MIN: Duration = Duration::from_millis(500);
/// Nor later than this: servers themselves give up on a write after 2 s, and their answer says why.
pub(super) const AFTER_MAX: Duration = Duration::from_secs(2);
/// A request that takes so many times the median is held up by its node. Where all nodes are slow alike the
/// median is high, and nothing is sent twice.
const TIMES_MEDIAN: u32 = 8;

/// How much of the estimate one answer moves it, as a divisor: a thousand answers move it a thousandfold.
const STEP: u64 = 64;
/// Where the estimate begins, and how low it goes, in microseconds: it moves by parts of itself.
const MEDIAN_MIN_US: u64 = STEP;

/// Estimates the median of the answers' latencies: each moves it a little, up or down. With one node of three
/// out of order most answers are still as fast as ever, and so is the median.
#[derive(Debug)]
pub(super) struct Further {
    median_us: AtomicU64,
}

impl Default for Further {
    fn default() -> Self {
        Self { median_us: AtomicU64::new(MEDIAN_MIN_US) }
    }
}

impl Further {
    /// A request was answered after so long.
    pub(super) fn answered(&self, after: Duration) {
        let median_us = self.median_us.load(Ordering::Relaxed);
        let is_above = after.as_micros() > u128::from(median_us);
        let step = median_us / STEP;
        let moved = if is_above { median_us + step } else { (median_us - step).max(MEDIAN_MIN_US) };
        // Of two at once one may be forgotten: it is an estimate.
        self.median_us.store(moved, Ordering::Relaxed);
    }

    /// A request failed after so long. Its answer would have taken longer still: what fails at once (a node that
    /// says it is overloaded, a connection that is gone) does not make the nodes quick.
    pub(super) fn failed(&self, after: Duration) {
        if after.as_micros() > u128::from(self.median_us.load(Ordering::Relaxed)) {
            self.answered(after);
        }
    }

    fn after(&self) -> Duration {
        let median = Duration::from_micros(self.median_us.load(Ordering::Relaxed));
        median.saturating_mul(TIMES_MEDIAN).clamp(AFTER_MIN, AFTER_MAX)
    }
}

impl SpeculativeExecutionPolicy for Further {
    /// Where a third replica is needed there is no quorum.
    fn max_retry_count(&self, _: &Context) -> usize {
        1
    }

    fn retry_interval(&self, _: &Context) -> Duration {
        self.after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(2);

    #[test]
    fn it_is_the_first_bound_while_answers_are_fast() {
        let further = Further::default();
        assert_eq!(further.after(), AFTER_MIN);
        (0..10_000).for_each(|_| further.answered(FAST));
        assert_eq!(further.after(), AFTER_MIN);
    }

    #[test]
    fn one_node_of_three_that_hangs_moves_nothing() {
        let further = Further::default();
        for i in 0..10_000 {
            further.answered(if i % 3 == 0 { AFTER_MIN } else { FAST });
        }
        assert_eq!(further.after(), AFTER_MIN);
    }

    #[test]
    fn overloaded_nodes_that_refuse_at_once_do_not_look_quick() {
        let further = Further::default();
        (0..2_000).for_each(|_| further.answered(Duration::from_millis(400)));
        (0..10_000).for_each(|_| further.failed(Duration::ZERO));
        assert_eq!(further.after(), AFTER_MAX);
        let given_up = Further::default();
        (0..2_000).for_each(|_| given_up.failed(Duration::from_secs(7)));
        assert_eq!(given_up.after(), AFTER_MAX);
    }

    #[test]
    fn it_waits_longer_where_all_are_slow_and_comes_back() {
        let further = Further::default();
        (0..2_000).for_each(|_| further.answered(Duration::from_millis(400)));
        assert_eq!(further.after(), AFTER_MAX);
        (0..2_000).for_each(|_| further.answered(FAST));
        assert_eq!(further.after(), AFTER_MIN);
    }
}
