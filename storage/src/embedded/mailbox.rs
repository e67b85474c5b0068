//! The writer's mailbox: bounded in items and in bytes. Producers are refused where it is full; writers
//! of tables wait, and have a share that producers cannot fill.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a push came to; what was not taken comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<W> {
    Queued,
    Full(W),
    Closed,
}

/// Work that says how much it weighs.
pub(super) trait Weigh {
    fn bytes(&self) -> usize;
}

struct State<W> {
    queue: Vec<W>,
    bytes: usize,
    open: bool,
    /// Writers of tables that found it full.
    senders: usize,
    /// While such wait, producers have room between every second two takes only: work that needs all of it would wait for
    /// as long as records come, and records for as long as such work does.
    is_producers_turn: bool,
    /// Whether the writer waits: a wake-up is a system call, and mostly not needed.
    waiting: bool,
}

pub(super) struct Mailbox<W> {
    state: Mutex<State<W>>,
    work: Condvar,
    space: Notify,
    items_max: usize,
    bytes_max: usize,
}

impl<W: Weigh> Mailbox<W> {
    pub(super) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state = State {
            queue: Vec::new(),
            bytes: 0,
            open: true,
            senders: 0,
            is_producers_turn: false,
            waiting: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), space: Notify::new(), items_max, bytes_max }
    }

    /// Pushes without waiting, into the producers' share of three quarters.
    pub(super) fn push(&self, work: W) -> Pushed<W> {
        let state = self.lock();
        if state.open && state.senders > 0 && !state.is_producers_turn {
            return Pushed::Full(work);
        }
        self.put(state, work, self.items_max / 4 * 3, self.bytes_max / 4 * 3)
    }

    /// Pushes, and waits for room as long as it takes. Gives back whether it is still open.
    pub(super) async fn send(&self, mut work: W) -> bool {
        let mut sender = None;
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            match self.put(self.lock(), work, self.items_max, self.bytes_max) {
                Pushed::Queued => return true,
                Pushed::Closed => return false,
                Pushed::Full(back) => work = back,
            }
            sender.get_or_insert_with(|| Sender::wait(self));
            space.await;
        }
    }

    /// Swaps everything that waits for `into`, which is empty; waits for something if told to. False
    /// once it is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<W>, wait: bool) -> bool {
        let mut state = self.lock();
        if wait {
            let idle = |state: &mut State<W>| {
                state.waiting = state.queue.is_empty() && state.open;
                state.waiting
            };
            state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.queue, into);
        state.bytes = 0;
        state.is_producers_turn = state.senders > 0 && !state.is_producers_turn;
        let more = state.open || !into.is_empty();
        drop(state);
        self.space.notify_waiters();
        more
    }

    /// Takes no more work; what is queued can still be taken.
    pub(super) fn close(&self) {
        self.lock().open = false;
        self.work.notify_all();
        self.space.notify_waiters();
    }

    /// Items and bytes that wait.
    pub(super) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.queue.len(), state.bytes)
    }

    /// Work that alone is over a cap is taken when nothing else waits.
    fn put(
        &self,
        mut state: MutexGuard<'_, State<W>>,
        work: W,
        items_max: usize,
        bytes_max: usize,
    ) -> Pushed<W> {
        let bytes = work.bytes();
        if !state.open {
            return Pushed::Closed;
        }
        let over = state.queue.len() >= items_max || state.bytes + bytes > bytes_max;
        if over && !state.queue.is_empty() {
            return Pushed::Full(work);
        }
        state.queue.push(work);
        state.bytes += bytes;
        let wake = std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Pushed::Queued
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits for room, for as long as this is there: it may give up.
struct Sender<'a, W: Weigh>(&'a Mailbox<W>);

impl<'a, W: Weigh> Sender<'a, W> {
    fn wait(mailbox: &'a Mailbox<W>) -> Self {
        mailbox.lock().senders += 1;
        Self(mailbox)
    }
}

impl<W: Weigh> Drop for Sender<'_, W> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    impl Weigh for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn both_caps_hold_and_tables_keep_a_share() {
        let mailbox = Mailbox::new(8, 100);
        (0..6).for_each(|_| assert_eq!(mailbox.push(1), Pushed::Queued));
        assert_eq!(mailbox.push(1), Pushed::Full(1), "three quarters of the items");
        assert_eq!(mailbox.send(1).now_or_never(), Some(true));
        assert_eq!(mailbox.send(94).now_or_never(), None, "101 bytes");
        assert_eq!(mailbox.send(93).now_or_never(), Some(true));
        assert_eq!(mailbox.depth(), (8, 100));
        let mut work = Vec::new();
        assert!(mailbox.take(&mut work, false));
        assert_eq!(work, [1, 1, 1, 1, 1, 1, 1, 93]);
        assert_eq!(mailbox.push(75), Pushed::Queued);
        assert_eq!(mailbox.push(1), Pushed::Full(1), "three quarters of the bytes");
    }

    #[test]
    fn work_over_the_cap_goes_alone() {
        let mailbox = Mailbox::new(8, 100);
        assert_eq!(mailbox.push(500), Pushed::Queued);
        assert_eq!(mailbox.push(1), Pushed::Full(1));
    }

    #[tokio::test]
    async fn room_wakes_who_waits_for_it() {
        let mailbox = Arc::new(Mailbox::new(2, 100));
        assert!(mailbox.send(60).await && mailbox.send(40).await);
        let waiting = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.send(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(mailbox.take(&mut Vec::new(), false));
        assert!(waiting.await.unwrap());
        assert_eq!(mailbox.depth(), (1, 1));
    }

    #[test]
    fn work_that_needs_all_the_room_gets_it_while_records_come() {
        let mailbox = Mailbox::new(8, 100);
        assert_eq!(mailbox.push(1), Pushed::Queued);
        let mut waiting = Box::pin(mailbox.send(100));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        assert_eq!(mailbox.push(1), Pushed::Full(1), "it would take what the other waits for");
        mailbox.take(&mut Vec::new(), false);
        assert_eq!(mailbox.push(1), Pushed::Queued, "it is their turn, however much waits");
        assert_eq!(waiting.as_mut().now_or_never(), None);
        mailbox.take(&mut Vec::new(), false);
        assert_eq!(mailbox.push(1), Pushed::Full(1), "it would take what the other waits for");
        assert_eq!(waiting.as_mut().now_or_never(), Some(true));
        drop(waiting);
        mailbox.take(&mut Vec::new(), false);
        assert_eq!(mailbox.push(1), Pushed::Queued);
        let mut gives_up = Box::pin(mailbox.send(100));
        assert_eq!(gives_up.as_mut().now_or_never(), None);
        drop(gives_up);
        assert_eq!(mailbox.push(1), Pushed::Queued, "nobody waits any more");
    }

    #[test]
    fn the_writer_wakes_on_work_and_on_close() {
        let mailbox = Arc::new(Mailbox::new(8, 100));
        let writer = std::thread::spawn({
            let mailbox = mailbox.clone();
            move || {
                let (mut work, mut all) = (Vec::new(), Vec::new());
                while mailbox.take(&mut work, true) {
                    all.append(&mut work);
                }
                all
            }
        });
        for n in 0..50 {
            while mailbox.push(n) != Pushed::Queued {
                std::thread::yield_now();
            }
        }
        mailbox.close();
        assert_eq!(writer.join().unwrap(), (0..50).collect::<Vec<_>>());
        assert_eq!(mailbox.push(1), Pushed::Closed);
        assert_eq!(mailbox.send(1).now_or_never(), Some(false));
        assert!(!mailbox.take(&mut Vec::new(), true));
    }
}
