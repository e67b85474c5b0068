//! Queries that wait for their answers. They change nothing, so one that a link took with it is asked again
//! on the next, until its time is up. Never touches a link: it says what to write.

use proto::v1;

use crate::backoff::{Backoff, Dice};
use crate::core::Millis;

/// Calls under way at a time.
pub(crate) const CALLS_MAX: usize = 32;
const BACKOFF: Backoff = Backoff::new(100, 2_000);

/// Names a call of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer in time, whatever the reason; ask again.
    #[error("no answer in time")]
    TimedOut,
    /// Too many calls are under way; ask again when one is done.
    #[error("too many calls are under way")]
    TooMany,
    /// The server's answer.
    #[error("{name} ({code}): {detail}")]
    Refused {
        /// The number of the error, see [`proto::Code`].
        code: u32,
        /// Its name.
        name: String,
        /// For the developer.
        detail: String,
    },
    /// The answer is not what the method promises.
    #[error("the answer does not decode")]
    Malformed,
}

#[derive(Debug)]
struct Waiting {
    id: CallId,
    request: u64,
    call: v1::Call,
    until: Millis,
    pause_until: Option<Millis>,
    failures: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Vec<Waiting>,
    next: u64,
}

impl Calls {
    pub(crate) fn add(&mut self, call: v1::Call, until: Millis) -> Result<CallId, CallError> {
        if self.waiting.len() >= CALLS_MAX {
            return Err(CallError::TooMany);
        }
        self.next += 1;
        let id = CallId(self.next);
        self.waiting.push(Waiting { id, request: 0, call, until, pause_until: None, failures: 0 });
        Ok(id)
    }

    /// The next call to write to the link under `request`.
    pub(crate) fn transmit(&mut self, request: u64) -> Option<v1::Call> {
        let due = self.waiting.iter_mut().find(|w| w.request == 0 && w.pause_until.is_none())?;
        due.request = request;
        Some(due.call.clone())
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, request: u64) -> Option<CallId> {
        let index = self.index(request)?;
        Some(self.waiting.swap_remove(index).id)
    }

    /// An error has come; none where the call is asked again.
    pub(crate) fn failed(
        &mut self,
        request: u64,
        error: &v1::Error,
        now: Millis,
        dice: &mut Dice,
    ) -> Option<(CallId, CallError)> {
        let index = self.index(request)?;
        if matches!(error.retry(), v1::Retry::Backoff | v1::Retry::After) {
            let waiting = self.waiting.get_mut(index)?;
            waiting.request = 0;
            let pause = BACKOFF.pause_ms(waiting.failures, u64::from(error.after_ms), dice);
            waiting.pause_until = Some(now.after(pause));
            waiting.failures = waiting.failures.saturating_add(1);
            return None;
        }
        let (code, name, detail) = (error.code, error.name.clone(), error.detail.clone());
        Some((self.waiting.swap_remove(index).id, CallError::Refused { code, name, detail }))
    }

    pub(crate) fn owes(&self, request: u64) -> bool {
        self.index(request).is_some()
    }

    /// The link is gone: all of them go again on the next.
    pub(crate) fn link_ended(&mut self) {
        self.waiting.iter_mut().for_each(|w| w.request = 0);
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.waiting.iter().map(|w| w.pause_until.map_or(w.until, |pause| pause.min(w.until))).min()
    }

    /// Calls whose time is up.
    pub(crate) fn handle_deadline(&mut self, now: Millis) -> Vec<CallId> {
        let late = self.waiting.extract_if(.., |w| w.until <= now).map(|w| w.id).collect();
        self.waiting.iter_mut().for_each(|w| w.pause_until = w.pause_until.filter(|pause| *pause > now));
        late
    }

    fn index(&self, request: u64) -> Option<usize> {
        self.waiting.iter().position(|w| w.request == request && request != 0)
    }
}
