//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

/// Long enough for anything on a loaded machine, short enough for a person who waits.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Asks until there is an answer.
///
/// # Panics
/// There is none within the time; `what` says what was waited for.
pub fn within<T>(deadline: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    asked_for(deadline, ask).unwrap_or_else(|| panic!("not within {deadline:?}: {what}"))
}

/// Asks until there is an answer, or the time is over.
pub(crate) fn asked_for<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        std::thread::sleep(POLL);
    }
}
