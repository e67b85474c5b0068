//! The one file that reads the clock.

use std::time::Instant;

use crate::core::Millis;

/// Milliseconds since this clock was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub(crate) fn now(&self) -> Millis {
        let elapsed = Instant::now().saturating_duration_since(self.0);
        Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment of `at` on this clock.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.0.checked_add(std::time::Duration::from_millis(at.0)).unwrap_or(self.0)
    }
}

/// Seconds since 1970.
#[cfg(feature = "development")]
#[allow(clippy::disallowed_methods, reason = "this is the clock file")]
pub(crate) fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
