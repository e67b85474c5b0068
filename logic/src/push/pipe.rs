//! Where a run leaves frames for a stream, and the stream's task takes them: a [`Queue`] while the stream
//! is open, nothing while it is not.
//!
//! While it is not, frames are dropped without a mark: the roster of the next stream is taken after that,
//! and tells whoever is behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::{UserId, v1};
use storage::tables::Fence;
use tokio::sync::Notify;

use super::queue::{Link, Queue, QueueCaps, Verdict, link_ref};

/// The queue of a stream that may come and go.
#[derive(Debug)]
pub(crate) struct Pipe {
    node: String,
    incarnation: u64,
    caps: QueueCaps,
    queue: Mutex<Option<Queue>>,
    wake: Notify,
}

/// What the stream's task finds.
#[derive(Debug)]
pub(super) enum Popped {
    Down(v1::Down),
    Empty,
    Broken,
}

impl Pipe {
    pub(super) fn new(node: String, incarnation: u64, caps: QueueCaps) -> Self {
        Self { node, incarnation, caps, queue: Mutex::new(None), wake: Notify::new() }
    }

    /// An entry for those of the links that are on this node.
    pub(crate) fn push(&self, user: &UserId, seq: u64, entry: &Bytes, to: &[Fence]) {
        let links: Vec<Link> =
            to.iter().filter(|fence| self.leads_to(fence)).map(|f| (f.reactor, f.link)).collect();
        if !links.is_empty() {
            self.queue(|queue| queue.push(user, seq, entry, links));
        }
    }

    /// A frame for one link, made of its reference, that must not be left out while the stream is open.
    pub(crate) fn control(&self, fence: &Fence, down: impl FnOnce(v1::LinkRef) -> v1::down::Down) {
        if self.leads_to(fence) {
            self.queue(|queue| queue.control(down(link_ref((fence.reactor, fence.link)))));
        }
    }

    /// Breaks the stream, if it is open; the next one begins with a new roster.
    pub(crate) fn break_off(&self) {
        *self.lock() = None;
        self.wake.notify_one();
    }

    /// Frames that wait, and links that are marked.
    pub(crate) fn depth(&self) -> (usize, usize) {
        self.lock().as_ref().map_or((0, 0), |queue| (queue.len(), queue.marks()))
    }

    pub(super) fn open(&self) {
        *self.lock() = Some(Queue::new(self.caps));
    }

    pub(super) fn pop(&self) -> Popped {
        match self.lock().as_mut() {
            None => Popped::Broken,
            Some(queue) => queue.pop().map_or(Popped::Empty, Popped::Down),
        }
    }

    /// Waits until there may be something to take. Cancel-safe.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    fn leads_to(&self, fence: &Fence) -> bool {
        fence.incarnation == self.incarnation && fence.node == self.node
    }

    fn queue(&self, into: impl FnOnce(&mut Queue) -> Verdict) {
        let mut guard = self.lock();
        let Some(queue) = guard.as_mut() else { return };
        if into(queue) == Verdict::Overflow {
            *guard = None;
        }
        drop(guard);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
