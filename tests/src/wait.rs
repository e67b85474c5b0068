//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

/// Long enough for anything on a loaded machine, short enough for a person who waits.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Asks until there is an answer.
///
/// # Panics
/// There is none within the time; `what` says what was waited for.
pub fn within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}
