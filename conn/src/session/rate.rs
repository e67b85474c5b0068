//! How fast a link may send frames: a token bucket in one number (the "virtual scheduling" form of the
//! generic cell rate algorithm, ITU-T I.371). Never waits, never reads a clock.

use super::Rules;
use crate::clock::Now;

/// Bytes that cost as much as a frame does.
const UNIT_BYTES: usize = 4096;

/// What a frame may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the rate.
    Within,
    /// Above it; within it again after this time.
    Over { after_ms: u32 },
    /// More than twice above what a burst may be.
    Flood,
}

/// The time, in µs, up to which the link has used up its rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate(u64);

impl Rate {
    pub(super) fn charge(&mut self, rules: &Rules, now: Now, bytes: usize) -> Verdict {
        let now_us = now.ms.saturating_mul(1000);
        let units = 1 + u64::try_from(bytes / UNIT_BYTES).unwrap_or(u64::MAX);
        self.0 = self.0.max(now_us).saturating_add(units.saturating_mul(rules.frame_cost_us));
        let ahead_us = self.0 - now_us;
        if ahead_us <= rules.burst_us {
            Verdict::Within
        } else if ahead_us <= rules.burst_us.saturating_mul(2) {
            let after_ms = (ahead_us - rules.burst_us).div_ceil(1000);
            Verdict::Over { after_ms: u32::try_from(after_ms).unwrap_or(u32::MAX) }
        } else {
            Verdict::Flood
        }
    }
}
