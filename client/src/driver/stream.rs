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
}

impl EventStream {
    pub(super) fn new() -> (mpsc::Sender<Event>, Arc<Taken>, Self) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let taken = Arc::new(Taken::default());
        (sender, Arc::clone(&taken), Self { events, taken, given: 0 })
    }

    /// The next event; none once the client is closed. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.given > self.taken.seq.fetch_max(self.given, Ordering::AcqRel) {
            self.taken.changed.notify_one();
        }
        let event = std::task::ready!(self.events.poll_recv(context));
        match &event {
            Some(Event::Entry(entry)) => self.given = entry.seq,
            Some(Event::Truncated { first }) => self.given = first.saturating_sub(1),
            _ => {}
        }
        Poll::Ready(event)
    }
}

impl futures::Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(context)
    }
}
