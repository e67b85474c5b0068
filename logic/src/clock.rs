//! The one place that reads the clock. Stages never do; shells use it for deadlines and latencies only.

use std::time::Instant;

/// Now.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock file")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
