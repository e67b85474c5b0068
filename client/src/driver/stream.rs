//! What the app hears. Asking for the next event says that the last one is taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{Notify, mpsc};

use crate::core::Event;

/// Events that wait in the stream; what does not fit waits in the core, within its own limits.
const EVENTS_MAX: usize = 64;

/// How far the app has come, shared with the driver.
#[derive(Debug, Default)]
pub(super) struct Taken {
    seq: AtomicU64,
    changed: Notify,
}

impl Taken {
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }
}

/// The events of a client, in order.
///
/// An entry counts as taken, and is acknowledged and not given again after a restart, once the app asks for
/// the event behind it. So an entry is given again only if the process ends while the app is busy with it.
/// Dropping the stream closes the client.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::Receiver<Event>,
    taken: Arc<Taken>,
    given: u64,
    leaving: bool,
}

impl EventStream {
    pub(super) fn new() -> (mpsc::Sender<Event>, Arc<Taken>, Self) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let taken = Arc::new(Taken::default());
        (sender, Arc::clone(&taken), Self { events, taken, given: 0, leaving: false })
    }

    /// The next event; none once the client is closed. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// For an app that is about to close the client: the last entry is taken, and no further one is given. Those that
    /// come now are given the next time; the other events, such as acks, still come.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.take();
    }

    fn take(&self) {
        if self.given > self.taken.seq.fetch_max(self.given, Ordering::AcqRel) {
            self.taken.changed.notify_one();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.take();
        loop {
            let event = std::task::ready!(self.events.poll_recv(context));
            match &event {
                Some(Event::Entry(_) | Event::Truncated { .. }) if self.leaving => continue,
                Some(Event::Entry(entry)) => self.given = entry.seq,
                Some(Event::Truncated { first }) => self.given = first.saturating_sub(1),
                _ => {}
            }
            return Poll::Ready(event);
        }
    }
}

impl futures::Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    #[tokio::test]
    async fn whoever_leaves_has_taken_the_last_entry_and_gets_no_further_one() {
        let (sender, taken, mut stream) = EventStream::new();
        let entry = |seq| Event::Entry(Box::new(v1::Entry { seq, ..v1::Entry::default() }));
        let other = Event::Disconnected { cause: crate::Cause::Lost, retry_in_ms: None };
        for event in [entry(1), entry(2), other, entry(3)] {
            sender.try_send(event).unwrap();
        }
        assert!(matches!(stream.next().await, Some(Event::Entry(_))));
        assert_eq!(taken.seq(), 0, "the app is busy with it");
        stream.leave();
        assert_eq!(taken.seq(), 1);
        drop(sender);
        assert!(matches!(stream.next().await, Some(Event::Disconnected { .. })));
        assert!(stream.next().await.is_none());
        assert_eq!(taken.seq(), 1, "what was not given is not taken");
    }
}
