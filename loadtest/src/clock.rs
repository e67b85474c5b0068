//! Reads the clock: microseconds since this process began to look, never going back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::core::Millis;

/// Microseconds on one process's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(pub(crate) u64);

impl Micros {
    /// So much later.
    pub(crate) fn after(self, us: u64) -> Micros {
        Micros(self.0.saturating_add(us))
    }

    /// Microseconds since an earlier moment; 0 when it is a later one.
    pub(crate) fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As the client core counts.
    pub(crate) fn millis(self) -> Millis {
        Millis(self.0 / 1_000)
    }
}

/// The clock of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[allow(clippy::disallowed_methods, reason = "the crate's clock file")]
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    /// This moment.
    pub(crate) fn now(&self) -> Micros {
        Micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// For how long to wait until then.
    pub(crate) fn until(&self, then: Micros) -> Duration {
        Duration::from_micros(then.since(self.now()))
    }
}

/// The time of day in milliseconds since 1970, for others to compare with.
#[allow(clippy::disallowed_methods, reason = "the crate's clock file")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
