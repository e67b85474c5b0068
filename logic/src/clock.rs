//! The one place that reads the clock. Stages never do; shells use it for deadlines and latencies only.

use std::time::Instant;

/// Now, on Tokio's clock, which tests can stop.
#[must_use]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
