//! The outcomes of a producer's appends, on their way from the log's thread to the task that made them.
//! Holds at most one outcome per record that the producer's own queue has taken.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use storage::log::{AppendError, Report, Tag};
use tokio::sync::Notify;

/// An append and what became of it.
pub(crate) type Outcome = (Tag, Result<(), AppendError>);

/// Gathers outcomes for one task.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    outcomes: Mutex<Vec<Outcome>>,
    some: Notify,
}

impl Reports {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Waits until something was reported. Cancel-safe.
    pub(crate) async fn wait(&self) {
        loop {
            if !self.lock().is_empty() {
                return;
            }
            self.some.notified().await;
        }
    }

    /// Takes what was reported into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Outcome>) {
        debug_assert!(into.is_empty());
        mem::swap(&mut *self.lock(), into);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for Reports {
    fn reported(&self, outcomes: &[Outcome]) {
        self.lock().extend_from_slice(outcomes);
        self.some.notify_one();
    }
}
