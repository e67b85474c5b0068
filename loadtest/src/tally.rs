//! What the links of a worker have told so far.

use crate::clock::Micros;
use crate::intervals::Intervals;
use crate::link::{Link, Seen};
use crate::outcome::{self, Latencies, Outcome};
use crate::plan::Plan;

/// What the links have told so far.
pub(crate) struct Tally {
    /// What is sent, and since when.
    pub(crate) plan: Option<(Plan, Micros)>,
    /// The number of the first link.
    first: u64,
    /// Sign-ins.
    pub(crate) live: u64,
    /// Why a link is over for good, if one is.
    pub(crate) over: Option<String>,
    /// Pings that went out.
    pub(crate) pings: u64,
    pub(crate) outcome: Outcome,
    end_to_end: Latencies,
    to_ack: Latencies,
    intervals: Intervals,
}

impl Tally {
    /// Nothing yet, of links from this number on; intervals are of so many microseconds.
    pub(crate) fn new(first: u64, interval_us: u64) -> Self {
        Self {
            plan: None,
            first,
            live: 0,
            over: None,
            pings: 0,
            outcome: Outcome::default(),
            end_to_end: outcome::latencies(),
            to_ack: outcome::latencies(),
            intervals: Intervals::new(interval_us),
        }
    }

    /// What happened on a link.
    pub(crate) fn add(&mut self, link: &Link, seen: Seen, now: Micros) {
        let number = link.number() - self.first;
        match seen {
            Seen::Live => self.live += 1,
            Seen::Ended => {}
            Seen::Over => self.over = link.over.clone(),
            Seen::Pinged => self.pings += 1,
            Seen::Acked { index } => {
                self.outcome.acked += 1;
                if let Some((_, late)) = self.since_due(now, number, index) {
                    outcome::record(&mut self.to_ack, late);
                }
            }
            Seen::Message(fresh) if fresh.device == link.number() => self.outcome.own += 1,
            Seen::Message(fresh) => {
                self.outcome.received += 1;
                if let Some((due, late)) = self.since_due(now, fresh.device - self.first, fresh.index) {
                    outcome::record(&mut self.end_to_end, late);
                    self.intervals.record(due, late);
                }
            }
        }
    }

    /// When a message was due, since the start, and how long ago that is, in microseconds.
    fn since_due(&self, now: Micros, number: u64, index: u64) -> Option<(u64, u64)> {
        let (plan, start) = self.plan.as_ref()?;
        let due = plan.due(*start, number, index);
        Some((due.since(*start), now.since(due)))
    }

    /// Whether everything that was sent is acknowledged, and wherever it belongs.
    pub(crate) fn is_all_there(&self) -> bool {
        let Outcome { sent, copies, acked, received, own, .. } = self.outcome;
        acked == sent && received == copies && own == sent
    }

    /// What there is to report.
    pub(crate) fn finish(&mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.end_to_end = outcome::to_pairs(&self.end_to_end);
        outcome.to_ack = outcome::to_pairs(&self.to_ack);
        outcome.intervals = self.intervals.to_pairs();
        outcome
    }
}
