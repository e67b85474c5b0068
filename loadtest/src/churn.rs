//! Links that end on purpose while the load goes on: which, how, and when. Never touches a link.

use crate::figures::float;

/// How a link ends. The device comes back after its usual pause, with its cursor and what is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The connection is closed in order.
    Close,
    /// The connection is reset; what was on its way is gone.
    Reset,
    /// Nothing is closed: the device comes back while its old connection still stands, unread.
    Silence,
}

/// The endings of a run, at an even pace.
#[derive(Debug)]
pub(crate) struct Churn {
    /// Endings a second; 0 for none.
    rate: f64,
    count: u32,
}

impl Churn {
    pub(crate) fn new(rate: f64) -> Self {
        Self { rate, count: 0 }
    }

    /// The next ending, if one is due so many microseconds after the start.
    pub(crate) fn next(&mut self, since_us: u64) -> Option<Parting> {
        let due_us = f64::from(self.count) * 1e6 / self.rate;
        if self.rate <= 0.0 || float(since_us) < due_us {
            return None;
        }
        self.count += 1;
        Some(match self.count % 3 {
            0 => Parting::Silence,
            1 => Parting::Close,
            _ => Parting::Reset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_come_at_their_pace_and_of_every_kind() {
        let mut churn = Churn::new(2.0);
        let mut count = 0;
        for ms in 0..3_000 {
            while churn.next(ms * 1_000).is_some() {
                count += 1;
            }
        }
        assert_eq!(count, 6);
        let three: Vec<_> = std::iter::from_fn(|| churn.next(100_000_000)).take(3).collect();
        assert_eq!(three, [Parting::Close, Parting::Reset, Parting::Silence]);
        assert_eq!(Churn::new(0.0).next(u64::MAX), None);
    }
}
