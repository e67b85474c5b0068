//! The way of one partition's records into the client library: one batch is under way at a time, and what
//! comes meanwhile is the next one.
//!
//! The library would take everything at once. But while more than five records of a partition are under
//! way an idempotent producer of its holds the others back, and asks again without a pause whether it
//! may send them: on a busy machine that takes the very processor from the brokers that their answer needs.
//! Here batches grow with the time that an answer takes, and nobody waits actively. A failure ends what
//! waits behind it too, so that nothing of this producer passes a gap unseen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::outlet::{Ending, Outlet};
use crate::log::{AppendError, Tag};

/// What a batch holds at most. The library sends more than its own limit in two requests.
const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 512 * 1024;
/// What a record takes beside its own bytes, at most.
const RECORD_OVERHEAD: usize = 100;

pub(super) struct Lane {
    /// The topic's name, and the partition as the library counts.
    pub(super) topic: String,
    pub(super) partition: i32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// How a record of the batch under way failed.
    failed: Option<AppendError>,
    waiting: VecDeque<Waiting>,
}

/// A record that waits for the batch before it.
pub(super) struct Waiting {
    pub(super) record: Bytes,
    pub(super) tag: Tag,
    pub(super) outlet: Arc<Outlet>,
}

/// What becomes of a record that is offered to the library.
pub(super) enum Offer {
    /// Its ending will be reported.
    Taken,
    /// It ends here.
    Ended(Ending),
}

impl Lane {
    pub(super) fn new(topic: &str, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic: topic.to_owned(), partition, state: Mutex::default() })
    }

    /// A further record: offered at once where none is under way or waits. An ending is for the caller to tell.
    pub(super) fn add(&self, waiting: Waiting, offer: impl FnOnce(&Waiting) -> Offer) -> Option<Ending> {
        let mut state = self.lock();
        if state.under_way > 0 || !state.waiting.is_empty() {
            state.waiting.push_back(waiting);
            return None;
        }
        match offer(&waiting) {
            Offer::Taken => {
                state.under_way = 1;
                None
            }
            Offer::Ended(ending) => Some(ending),
        }
    }

    /// A record that was under way has ended. True for the last one of its batch, if any wait behind it.
    pub(super) fn ended(&self, ending: Ending) -> bool {
        let mut state = self.lock();
        state.under_way -= 1;
        if let Err(error @ (AppendError::Timeout | AppendError::Fatal)) = ending {
            state.failed = Some(error);
        }
        if state.under_way > 0 {
            return false;
        }
        if state.waiting.is_empty() {
            state.failed = None;
        }
        !state.waiting.is_empty()
    }

    /// The next batch, once the one before has ended: offered record by record. What ends here is told.
    pub(super) fn next(
        &self,
        mut offer: impl FnMut(&Waiting) -> Offer,
        mut tell: impl FnMut(&Waiting, Ending),
    ) {
        let mut state = self.lock();
        if state.under_way > 0 {
            return;
        }
        if let Some(error) = state.failed.take() {
            state.waiting.drain(..).for_each(|waiting| tell(&waiting, Err(error)));
            return;
        }
        let mut bytes = 0;
        while let Some(waiting) = state.waiting.front() {
            bytes += waiting.record.len() + RECORD_OVERHEAD;
            if state.under_way > 0 && (bytes > BATCH_BYTES || state.under_way == BATCH_RECORDS) {
                break;
            }
            match offer(waiting) {
                Offer::Taken => state.under_way += 1,
                Offer::Ended(ending) => tell(waiting, ending),
            }
            state.waiting.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Report;

    struct Nobody;

    impl Report for Nobody {
        fn reported(&self, _: &[(Tag, Ending)]) {}
    }

    fn waiting(n: u64, bytes: usize) -> Waiting {
        let outlet = Arc::new(Outlet::new(1, Arc::new(Nobody)));
        Waiting { record: Bytes::from(vec![0; bytes]), tag: Tag(0, n), outlet }
    }

    /// Fills a lane with records of these sizes; the first is under way.
    fn filled(sizes: &[usize]) -> Arc<Lane> {
        let lane = Lane::new("t", 0);
        for (n, bytes) in sizes.iter().enumerate() {
            assert_eq!(lane.add(waiting(n as u64, *bytes), |_| Offer::Taken), None);
        }
        lane
    }

    fn next(lane: &Lane) -> (Vec<u64>, Vec<(u64, Ending)>) {
        let (mut offered, mut told) = (Vec::new(), Vec::new());
        let offer = |waiting: &Waiting| {
            offered.push(waiting.tag.1);
            Offer::Taken
        };
        lane.next(offer, |waiting, ending| told.push((waiting.tag.1, ending)));
        (offered, told)
    }

    #[test]
    fn what_comes_while_a_batch_is_under_way_is_the_next_one() {
        let lane = filled(&[1, 1, 1]);
        assert_eq!(next(&lane), (vec![], vec![]), "not yet");
        assert!(lane.ended(Ok(())));
        assert_eq!(lane.add(waiting(3, 1), |_| Offer::Taken), None, "it does not overtake those that wait");
        assert_eq!(next(&lane), (vec![1, 2, 3], vec![]));
        assert!(!lane.ended(Ok(())));
        assert!(!lane.ended(Ok(())));
        assert!(!lane.ended(Ok(())), "nothing waits");
        assert_eq!(lane.add(waiting(4, 1), |_| Offer::Taken), None);
        assert!(!lane.ended(Ok(())), "it went at once");
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let lane = filled(&[1, BATCH_BYTES * 2, 1, 1]);
        assert!(lane.ended(Ok(())));
        assert_eq!(next(&lane).0, [1], "one that is larger than a batch goes alone");
        assert!(lane.ended(Ok(())));
        assert_eq!(next(&lane).0, [2, 3]);
        let lane = filled(&vec![0; BATCH_RECORDS + 2]);
        assert!(lane.ended(Ok(())));
        assert_eq!(next(&lane).0.len(), BATCH_RECORDS);
    }

    #[test]
    fn a_failure_ends_what_waits_behind_it_and_nothing_later() {
        let lane = filled(&[1, 1, 1]);
        assert!(lane.ended(Err(AppendError::Timeout)));
        let failed = Err(AppendError::Timeout);
        assert_eq!(next(&lane), (vec![], vec![(1, failed), (2, failed)]));
        assert_eq!(lane.add(waiting(3, 1), |_| Offer::Taken), None);
        assert_eq!(lane.add(waiting(4, 1), |_| Offer::Taken), None);
        assert!(lane.ended(Err(AppendError::Rejected)), "a record that cannot be is no gap");
        assert_eq!(next(&lane), (vec![4], vec![]));
        assert!(!lane.ended(failed));
        assert_eq!(lane.add(waiting(5, 1), |_| Offer::Ended(failed)), Some(failed));
        assert_eq!(lane.add(waiting(6, 1), |_| Offer::Taken), None, "nothing is under way");
    }
}
