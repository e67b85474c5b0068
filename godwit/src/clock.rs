//! The one file of this crate that reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, 0 before that.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock file")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
