//! Writing changed rows, and then the checkpoint that covers them: one flush at a time.
//!
//! The rows are cloned at a position, and written once everything up to it is durable; so a row that
//! changes all the time cannot hold the checkpoint back.

use std::time::Instant;

use futures::future::BoxFuture;
use storage::tables::Checkpoint;

use super::slot::Slot;
use crate::clock;

/// What a flush was about, once it has landed.
pub(crate) struct Landed<R> {
    /// Which rows were written, for the stage.
    pub(crate) receipt: R,
    /// The checkpoint that was saved.
    pub(crate) checkpoint: Checkpoint,
    /// When its writing began.
    pub(crate) since: Instant,
}

/// Changed rows on their way, `W`, and what to tell the stage when they are there, `R`.
pub(crate) struct Flush<W, R> {
    due: bool,
    /// The position that the last flush covers.
    covered: u64,
    waiting: Option<Clones<W, R>>,
    writing: Slot<Landed<R>>,
}

/// Rows cloned at a position.
pub(crate) struct Clones<W, R> {
    pub(crate) upto: u64,
    pub(crate) writes: W,
    pub(crate) receipt: R,
    pub(crate) checkpoint: Checkpoint,
}

impl<W, R> Default for Flush<W, R> {
    fn default() -> Self {
        Self { due: false, covered: 0, waiting: None, writing: Slot::default() }
    }
}

impl<W: Send + 'static, R: Send + 'static> Flush<W, R> {
    /// It is time for one.
    pub(crate) fn ask(&mut self) {
        self.due = true;
    }

    /// Whether rows are to be cloned now, at a position.
    pub(crate) fn wants(&self, upto: u64) -> bool {
        self.due && self.is_idle() && upto > self.covered
    }

    /// Takes the clones.
    pub(crate) fn take(&mut self, clones: Clones<W, R>) {
        self.due = false;
        self.covered = clones.upto;
        self.waiting = Some(clones);
    }

    /// Starts writing where everything up to the clones is durable.
    pub(crate) fn advance(&mut self, done: u64, write: impl FnOnce(W, Checkpoint) -> BoxFuture<'static, ()>) {
        if let Some(Clones { writes, receipt, checkpoint, .. }) = self.waiting.take_if(|c| c.upto <= done) {
            let since = clock::now();
            let work = write(writes, checkpoint.clone());
            self.writing.start(async move {
                work.await;
                Landed { receipt, checkpoint, since }
            });
        }
    }

    /// Waits until one has landed. Cancel-safe.
    pub(crate) async fn landed(&mut self) -> Landed<R> {
        self.writing.done().await
    }

    /// Nothing waits or is being written.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.writing.is_idle()
    }

    /// Everything up to a position is flushed.
    pub(crate) fn covers(&self, upto: u64) -> bool {
        self.is_idle() && self.covered >= upto
    }
}
