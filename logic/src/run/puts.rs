//! Effects of judged records on their way into the store: one put at a time, of everything that was judged
//! since the last. What leaves waits for the put of its own record and of all before it.

use std::mem;

use super::slot::Slot;

/// Effects of consecutive records.
pub(super) struct Staged<R, L> {
    pub(super) rows: Vec<R>,
    pub(super) leaving: Vec<L>,
    bytes: usize,
    /// The position after the last of the records.
    pub(super) upto: u64,
}

impl<R, L> Default for Staged<R, L> {
    fn default() -> Self {
        Self { rows: Vec::new(), leaving: Vec::new(), bytes: 0, upto: 0 }
    }
}

impl<R, L> Staged<R, L> {
    /// Everything below `upto` is judged.
    pub(super) fn judged(&mut self, upto: u64) {
        self.upto = upto;
    }

    pub(super) fn store(&mut self, row: R, bytes: usize) {
        self.bytes += bytes;
        self.rows.push(row);
    }

    pub(super) fn leave(&mut self, leaving: L, bytes: usize) {
        self.bytes += bytes;
        self.leaving.push(leaving);
    }

    fn is_empty(&self) -> bool {
        self.upto == 0 && self.leaving.is_empty()
    }
}

/// What waits for a put, and the put under way.
pub(super) struct Puts<R, L> {
    pub(super) staged: Staged<R, L>,
    putting: Slot<Staged<R, L>>,
    putting_bytes: usize,
}

impl<R, L> Default for Puts<R, L> {
    fn default() -> Self {
        Self { staged: Staged::default(), putting: Slot::default(), putting_bytes: 0 }
    }
}

impl<R: Send + 'static, L: Send + 'static> Puts<R, L> {
    /// Bytes that are not stored yet.
    pub(super) fn bytes(&self) -> usize {
        self.staged.bytes + self.putting_bytes
    }

    /// No put is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.putting.is_idle()
    }

    /// What is to be put next.
    pub(super) fn next(&mut self) -> Option<Staged<R, L>> {
        (self.is_idle() && !self.staged.is_empty()).then(|| mem::take(&mut self.staged))
    }

    /// Starts the put of the staged rows; the rest comes back with [`Puts::done`].
    pub(super) fn start<F>(&mut self, mut staged: Staged<R, L>, put: impl FnOnce(Vec<R>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.putting_bytes = staged.bytes;
        let work = put(mem::take(&mut staged.rows));
        self.putting.start(async move {
            work.await;
            staged
        });
    }

    /// What is stored now. Cancel-safe.
    pub(super) async fn done(&mut self) -> Staged<R, L> {
        let staged = self.putting.done().await;
        self.putting_bytes = 0;
        staged
    }
}
