//! A node's own lease: how long it may believe that others count on it. Pure: `now` is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a node knows about its own place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Its Join has not been read back yet.
    Joining,
    /// It lives, under this incarnation.
    Held {
        /// The tick of its Join.
        incarnation: u64,
    },
    /// Its renewals were not seen for too long: it must close its links. It joins again.
    Lost,
    /// Another process joined under its name: it must close its links, and does not come back.
    Replaced,
}

/// Deadlines from the times at which renewals were sent: a renewal read back extends the lease from when
/// it was sent, so that a process that was stopped and wakes up does not take old renewals for news.
#[derive(Debug)]
pub(super) struct Renewals {
    sent: VecDeque<Instant>,
    until: Instant,
    life: Duration,
}

/// Renewals on their way at most; more are not sent.
const SENT_MAX: usize = 16;

impl Renewals {
    pub(super) fn new(now: Instant, life: Duration) -> Self {
        Self { sent: VecDeque::new(), until: now + life, life }
    }

    /// Notes that a renewal goes out; false where too many are on their way already.
    pub(super) fn sent(&mut self, now: Instant) -> bool {
        let room = self.sent.len() < SENT_MAX;
        if room {
            self.sent.push_back(now);
        }
        room
    }

    /// The last one did not go out.
    pub(super) fn not_sent(&mut self) {
        self.sent.pop_back();
    }

    /// A renewal of this incarnation was read back.
    pub(super) fn seen(&mut self) {
        if let Some(sent) = self.sent.pop_front() {
            self.until = self.until.max(sent + self.life);
        }
    }

    /// Those on their way may never arrive.
    pub(super) fn lost(&mut self) {
        self.sent.clear();
    }

    /// When the lease ends, as far as is known.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_from_when_its_renewal_was_sent() {
        let start = crate::clock::now();
        let life = Duration::from_secs(30);
        let mut renewals = Renewals::new(start, life);
        assert!(renewals.sent(start + Duration::from_secs(10)));
        assert_eq!(renewals.until(), start + life);
        renewals.seen();
        assert_eq!(renewals.until(), start + Duration::from_secs(40));
        renewals.seen();
        assert_eq!(renewals.until(), start + Duration::from_secs(40));
    }

    #[test]
    fn what_was_lost_extends_nothing() {
        let start = crate::clock::now();
        let mut renewals = Renewals::new(start, Duration::from_secs(30));
        assert!(renewals.sent(start + Duration::from_secs(10)));
        renewals.lost();
        renewals.seen();
        assert_eq!(renewals.until(), start + Duration::from_secs(30));
    }
}
