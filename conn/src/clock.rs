//! The one place of this crate that reads a clock. Everything else is given a [`Now`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks; taken once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process began, on the clock that never steps. For deadlines.
    pub ms: u64,
    /// Microseconds since 1970. For tokens and for display only.
    pub wall_us: u64,
}

/// Reads the clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose milliseconds count from now.
    #[allow(clippy::disallowed_methods, reason = "the clock file")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks at this moment.
    #[allow(clippy::disallowed_methods, reason = "the clock file")]
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
