//! What is asked of the writer, and how it answers. Never does any of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use proto::partition::Partition;
use tokio::sync::oneshot;

use super::mailbox::Weigh;
use crate::log::{AppendError, Report, Tag, Topic};
use crate::tables::{Checkpoint, ConversationWrite, EntryRow, HistoryRow, SessionWrite, UserWrite};

/// What a piece of work costs besides the bytes in it.
const OVERHEAD_BYTES: usize = 128;

/// Where an answer goes: the slot for it is there before the work is queued, so that the writer never
/// waits for whoever asked. An error is text, in the caller's words.
pub(super) type Reply = oneshot::Sender<Result<(), String>>;

/// Rows of one aggregate.
#[derive(Debug)]
pub(super) enum Rows {
    Conversations(Vec<ConversationWrite>),
    Histories(Vec<HistoryRow>),
    Entries(Vec<EntryRow>),
    Users { partition: Partition, sessions: Vec<SessionWrite>, users: Vec<UserWrite> },
}

/// A record on its way.
#[derive(Debug)]
pub(super) struct Appending {
    /// The number of the partition; none where it does not exist.
    pub(super) place: Option<usize>,
    pub(super) bytes: Bytes,
    pub(super) tag: Tag,
    pub(super) outlet: Arc<Outlet>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Work {
    Append(Appending),
    Write { rows: Rows, reply: Reply },
    Checkpoint { topic: Topic, partition: Partition, checkpoint: Checkpoint, reply: Reply },
    Trim { place: usize, below: u64, reply: Reply },
}

impl Weigh for Work {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Work::Append(appending) => appending.bytes.len(),
                Work::Write { rows, .. } => rows.bytes(),
                Work::Checkpoint { checkpoint, .. } => checkpoint.state.len(),
                Work::Trim { .. } => 0,
            }
    }
}

impl Rows {
    fn bytes(&self) -> usize {
        match self {
            Rows::Conversations(writes) => writes.iter().map(conversation_bytes).sum(),
            Rows::Histories(rows) => rows.iter().map(|row| OVERHEAD_BYTES + row.entry.len()).sum(),
            Rows::Entries(rows) => rows.iter().map(|row| OVERHEAD_BYTES + row.row.len()).sum(),
            Rows::Users { sessions, users, .. } => {
                let users: usize = users.iter().map(|user| OVERHEAD_BYTES + user.row.len()).sum();
                users + sessions.len() * 2 * OVERHEAD_BYTES
            }
        }
    }
}

fn conversation_bytes(write: &ConversationWrite) -> usize {
    let members: usize = write.members.iter().map(|(_, row)| OVERHEAD_BYTES + row.len()).sum();
    let senders: usize = write.senders.iter().map(|(_, row)| 2 * OVERHEAD_BYTES + row.len()).sum();
    OVERHEAD_BYTES + write.head.len() + members + senders
}

/// An outcome, as a producer is told it.
type Outcome = (Tag, Result<(), AppendError>);

/// The writer's end of a producer.
pub(super) struct Outlet {
    items: AtomicUsize,
    bytes: AtomicUsize,
    items_max: usize,
    bytes_max: usize,
    telling: Mutex<Telling>,
}

struct Telling {
    /// None once the producer is dropped.
    report: Option<Arc<dyn Report>>,
    /// What this turn of the writer came to, not yet told.
    outcomes: Vec<Outcome>,
    outcomes_bytes: usize,
}

impl Outlet {
    pub(super) fn new(items_max: usize, bytes_max: usize, report: Arc<dyn Report>) -> Self {
        let telling = Telling { report: Some(report), outcomes: Vec::new(), outcomes_bytes: 0 };
        let (items, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { items, bytes, items_max, bytes_max, telling: Mutex::new(telling) }
    }

    /// Takes room for a record; false where there is none.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let below = |max: usize, add: usize| move |n: usize| (n == 0 || n + add <= max).then_some(n + add);
        let relaxed = Ordering::Relaxed;
        if self.items_max == 0 || self.items.fetch_update(relaxed, relaxed, below(self.items_max, 1)).is_err()
        {
            return false;
        }
        if self.bytes.fetch_update(relaxed, relaxed, below(self.bytes_max, bytes)).is_err() {
            self.items.fetch_sub(1, relaxed);
            return false;
        }
        true
    }

    /// Gives room back.
    pub(super) fn release(&self, items: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.items.fetch_sub(items, Ordering::Relaxed);
    }

    /// Records queued and not told, and the cap on them.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.items.load(Ordering::Relaxed), self.items_max)
    }

    /// Notes an outcome. True for the first since the last [`Outlet::tell`].
    pub(super) fn note(&self, tag: Tag, bytes: usize, result: Result<(), AppendError>) -> bool {
        let mut telling = self.lock();
        telling.outcomes.push((tag, result));
        telling.outcomes_bytes += bytes;
        telling.outcomes.len() == 1
    }

    /// Tells what was noted, in one slice.
    pub(super) fn tell(&self) {
        let mut telling = self.lock();
        self.release(telling.outcomes.len(), telling.outcomes_bytes);
        if let Some(report) = &telling.report {
            report.reported(&telling.outcomes);
        }
        telling.outcomes.clear();
        telling.outcomes_bytes = 0;
    }

    /// Tells nothing more once this has returned.
    pub(super) fn silence(&self) {
        self.lock().report = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("depth", &self.depth()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(Mutex<Vec<Outcome>>);

    impl Report for Told {
        fn reported(&self, outcomes: &[Outcome]) {
            self.0.lock().unwrap().extend_from_slice(outcomes);
        }
    }

    #[test]
    fn an_outlet_holds_both_caps_and_is_silent_once_dropped() {
        let told = Arc::new(Told(Mutex::default()));
        let outlet = Outlet::new(3, 100, told.clone());
        assert!(outlet.reserve(60) && outlet.reserve(40));
        assert!(!outlet.reserve(1), "101 bytes");
        assert!(outlet.reserve(0));
        assert!(!outlet.reserve(0), "4 records");
        assert_eq!(outlet.depth(), (3, 3));
        assert!(outlet.note(Tag(0, 1), 60, Ok(())));
        assert!(!outlet.note(Tag(0, 2), 40, Err(AppendError::Rejected)));
        outlet.tell();
        let expected = [(Tag(0, 1), Ok(())), (Tag(0, 2), Err(AppendError::Rejected))];
        assert_eq!(*told.0.lock().unwrap(), expected);
        assert_eq!(outlet.depth(), (1, 3));
        outlet.silence();
        assert!(outlet.note(Tag(0, 3), 0, Ok(())));
        outlet.tell();
        assert_eq!((told.0.lock().unwrap().len(), outlet.depth()), (2, (0, 3)));
    }
}
