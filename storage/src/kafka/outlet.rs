//! The reporting end of one producer: its cap, what it is to be told, and its silence once dropped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::{AppendError, Report, Tag};

/// How an append ended.
pub(super) type Ending = Result<(), AppendError>;

pub(super) struct Outlet {
    items: AtomicUsize,
    items_max: usize,
    /// Whether it has something fatal to tell, or has told it.
    fatal: AtomicBool,
    telling: Mutex<Telling>,
}

struct Telling {
    /// None once the producer is dropped.
    report: Option<Arc<dyn Report>>,
    /// Known and not yet told.
    outcomes: Vec<(Tag, Ending)>,
}

impl Outlet {
    pub(super) fn new(items_max: usize, report: Arc<dyn Report>) -> Self {
        let telling = Mutex::new(Telling { report: Some(report), outcomes: Vec::new() });
        Self { items: AtomicUsize::new(0), items_max, fatal: AtomicBool::new(false), telling }
    }

    /// Takes room for a record; false where there is none.
    pub(super) fn reserve(&self) -> bool {
        let below = |items| (items < self.items_max).then_some(items + 1);
        self.items.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    /// Gives the room of a record back that was not taken.
    pub(super) fn release(&self) {
        self.items.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records queued and not told, and the cap on them.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.items.load(Ordering::Relaxed), self.items_max)
    }

    /// Whether a fatal outcome was noted. Whoever had nothing outstanding would not learn of the end otherwise.
    pub(super) fn knows_the_end(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// Notes an outcome. True for the first since the last [`Outlet::tell`].
    pub(super) fn note(&self, tag: Tag, ending: Ending) -> bool {
        if ending == Err(AppendError::Fatal) {
            self.fatal.store(true, Ordering::Release);
        }
        let mut telling = self.lock();
        telling.outcomes.push((tag, ending));
        telling.outcomes.len() == 1
    }

    /// Tells what was noted, in one slice.
    pub(super) fn tell(&self) {
        let mut telling = self.lock();
        self.items.fetch_sub(telling.outcomes.len(), Ordering::Relaxed);
        if let Some(report) = &telling.report {
            report.reported(&telling.outcomes);
        }
        telling.outcomes.clear();
    }

    /// Tells nothing more once this has returned.
    pub(super) fn silence(&self) {
        self.lock().report = None;
    }

    fn lock(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(Mutex<Vec<(Tag, Ending)>>);

    impl Report for Told {
        fn reported(&self, outcomes: &[(Tag, Ending)]) {
            self.0.lock().unwrap().extend_from_slice(outcomes);
        }
    }

    #[test]
    fn it_holds_its_cap_and_is_silent_once_dropped() {
        let told = Arc::new(Told(Mutex::default()));
        let outlet = Outlet::new(2, told.clone());
        assert!(outlet.reserve() && outlet.reserve() && !outlet.reserve());
        assert!(outlet.note(Tag(0, 1), Ok(())));
        assert!(!outlet.note(Tag(0, 2), Err(AppendError::Timeout)));
        assert_eq!(outlet.depth(), (2, 2), "what is not told still counts");
        outlet.tell();
        assert_eq!(*told.0.lock().unwrap(), [(Tag(0, 1), Ok(())), (Tag(0, 2), Err(AppendError::Timeout))]);
        assert_eq!(outlet.depth(), (0, 2));
        assert!(outlet.reserve());
        outlet.silence();
        assert!(outlet.note(Tag(0, 3), Ok(())));
        outlet.tell();
        assert_eq!((told.0.lock().unwrap().len(), outlet.depth()), (2, (0, 2)));
    }
}
