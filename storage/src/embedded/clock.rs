//! The one place here that reads clocks: the time at which the log appends, and when the disk was full. Never used to
//! wait.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the clock of the embedded log")]
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Never goes back.
#[allow(clippy::disallowed_methods, reason = "the clock of the embedded log")]
pub(super) fn now() -> Instant {
    Instant::now()
}
