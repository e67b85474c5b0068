//! At most one piece of work under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// Room for one future that is polled in a `select!` without ever being cancelled by it.
pub(crate) struct Slot<T>(Option<BoxFuture<'static, T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Slot<T> {
    pub(crate) fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Starts a piece of work; the slot must be idle.
    pub(crate) fn start(&mut self, work: impl Future<Output = T> + Send + 'static) {
        assert!(self.is_idle(), "one at a time");
        self.0 = Some(Box::pin(work));
    }

    /// Waits for the work to be done; for ever where there is none. Cancel-safe.
    pub(crate) fn done(&mut self) -> Done<'_, T> {
        Done(self)
    }
}

/// See [`Slot::done`].
pub(crate) struct Done<'a, T>(&'a mut Slot<T>);

impl<T> Future for Done<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = self.0.0.as_mut() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.0.0 = None;
        }
        polled
    }
}
