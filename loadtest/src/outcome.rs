//! What a worker reports, and what all of them together come to.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::intervals;
use crate::violations::Violations;

/// Latencies in microseconds, to three digits.
pub(crate) type Latencies = Histogram<u64>;

/// Latencies up to here are told apart; longer ones count as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// No latencies yet.
pub(crate) fn latencies() -> Latencies {
    with_digits(3)
}

/// The same to two digits, in less memory: for many of them.
pub(crate) fn rough_latencies() -> Latencies {
    with_digits(2)
}

fn with_digits(digits: u8) -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, digits)
        .expect("the bounds are in order and so many digits are allowed")
}

/// Adds one latency.
pub(crate) fn record(latencies: &mut Latencies, us: u64) {
    latencies.saturating_record(us.max(1));
}

/// What a worker has done and seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Messages handed to the devices.
    pub(crate) sent: u64,
    /// Whether the load was ended before its time.
    pub(crate) ended_early: bool,
    /// Devices other than their senders' that are to see them, over all messages.
    pub(crate) copies: u64,
    /// Of the messages, acknowledged.
    pub(crate) acked: u64,
    /// Received by other devices, each counted once for each of them.
    pub(crate) received: u64,
    /// Of the sender's own copies, each counted once.
    pub(crate) own: u64,
    /// Links that were ended on purpose.
    pub(crate) parted: u64,
    /// Entries of all timelines.
    pub(crate) entries: u64,
    /// Links that ended and were made again.
    pub(crate) reconnects: u64,
    /// Messages that a full outbox did not take.
    pub(crate) overflowed: u64,
    /// The longest time by which this harness was late with a send, in microseconds.
    pub(crate) late_us_max: u64,
    /// From the last send until everything had arrived, in microseconds.
    pub(crate) drain_us: u64,
    /// Whether everything had arrived in time.
    pub(crate) drained: bool,
    /// Processor time of this worker during load and drain, in microseconds.
    pub(crate) cpu_us: u64,
    pub(crate) violations: Violations,
    /// (latency in µs, count), from intended send to arrival at the peer, and to the acknowledgement.
    pub(crate) end_to_end: Vec<(u64, u64)>,
    pub(crate) to_ack: Vec<(u64, u64)>,
    /// End to end, by when the messages were to be sent.
    pub(crate) intervals: Vec<Vec<(u64, u64)>>,
    /// When the load began, in milliseconds since 1970.
    pub(crate) began_ms: u64,
}

impl Outcome {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: Outcome) {
        self.sent += other.sent;
        self.ended_early |= other.ended_early;
        self.copies += other.copies;
        self.acked += other.acked;
        self.received += other.received;
        self.own += other.own;
        self.parted += other.parted;
        self.entries += other.entries;
        self.reconnects += other.reconnects;
        self.overflowed += other.overflowed;
        self.late_us_max = self.late_us_max.max(other.late_us_max);
        self.drain_us = self.drain_us.max(other.drain_us);
        self.drained &= other.drained;
        self.cpu_us += other.cpu_us;
        self.violations.add(&other.violations);
        self.end_to_end.extend(other.end_to_end);
        self.to_ack.extend(other.to_ack);
        intervals::add(&mut self.intervals, other.intervals);
        self.began_ms = self.began_ms.max(other.began_ms);
    }
}

/// As pairs, for the way to another process.
pub(crate) fn to_pairs(latencies: &Latencies) -> Vec<(u64, u64)> {
    latencies.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
}

/// And back.
pub(crate) fn from_pairs(pairs: &[(u64, u64)]) -> Latencies {
    let mut latencies = latencies();
    for (value, count) in pairs {
        latencies.saturating_record_n(*value, *count);
    }
    latencies
}

/// What programs are told of them, in microseconds.
pub(crate) fn quantiles(pairs: &[(u64, u64)]) -> Value {
    let latencies = from_pairs(pairs);
    json!({
        "count": latencies.len(),
        "p50": latencies.value_at_quantile(0.5),
        "p99": latencies.value_at_quantile(0.99),
        "p999": latencies.value_at_quantile(0.999),
        "max": latencies.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_way_between_processes() {
        let mut all = latencies();
        (1..=1_000).for_each(|ms| record(&mut all, ms * 1_000));
        let back = from_pairs(&to_pairs(&all));
        assert_eq!(back.len(), 1_000);
        for quantile in [0.5, 0.99, 0.999] {
            assert_eq!(back.value_at_quantile(quantile), all.value_at_quantile(quantile));
        }
    }
}
