//! Reads and writes of the store that are repeated until they work: nothing later may overtake them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use storage::tables::StoreError;
use tracing::warn;

use super::Backoff;
use crate::clock;

const FIRST: Duration = Duration::from_millis(20);
const MAX: Duration = Duration::from_secs(2);
/// A store that has not answered for so long is no hiccup.
const OUT_AFTER: Duration = Duration::from_secs(5);

/// What of the process is repeated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retries {
    /// How often something was.
    pub(crate) count: Counter,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Reads and writes that have failed and are not answered yet, and since when, in the order in which they began to.
    since: BTreeMap<u64, Instant>,
    begun: u64,
    /// What the last one came to.
    cause: String,
}

impl Retries {
    /// What keeps the process from being ready.
    pub(crate) fn reason(&self) -> Option<String> {
        let waiting = self.lock();
        let out = clock::now() - *waiting.since.first_key_value()?.1;
        (out >= OUT_AFTER).then(|| format!("the store does not answer: {}", waiting.cause))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits, for as long as this is there.
struct Repeated<'a> {
    retries: &'a Retries,
    number: u64,
}

impl<'a> Repeated<'a> {
    fn begin(retries: &'a Retries) -> Self {
        let mut waiting = retries.lock();
        waiting.begun += 1;
        let number = waiting.begun;
        waiting.since.insert(number, clock::now());
        Self { retries, number }
    }
}

impl Drop for Repeated<'_> {
    fn drop(&mut self) {
        self.retries.lock().since.remove(&self.number);
    }
}

/// The answer of the first attempt that has one.
pub(crate) async fn until_answered<T, F>(
    what: &'static str,
    retries: &Retries,
    mut attempt: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::new(FIRST, MAX);
    let mut repeated = None;
    loop {
        match attempt().await {
            Ok(answer) => return answer,
            Err(error) => {
                retries.count.inc();
                warn!(%error, what, "the store did not answer; once more");
                repeated.get_or_insert_with(|| Repeated::begin(retries));
                retries.lock().cause = error.to_string();
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_goes_on_to_fail_is_a_reason_until_it_answers() {
        let retries = Retries::default();
        let works = Cell::new(false);
        let attempt = || async {
            if works.get() { Ok(()) } else { Err(StoreError::Unavailable("nobody there".into())) }
        };
        let given_up =
            tokio::time::timeout(Duration::from_secs(4), until_answered("a row", &retries, attempt));
        assert!(given_up.await.is_err());
        assert_eq!(retries.reason(), None, "it may be a hiccup");
        assert!(retries.lock().since.is_empty(), "who asked has given up");
        let answered = until_answered("a row", &retries, attempt);
        tokio::pin!(answered);
        assert!(tokio::time::timeout(Duration::from_secs(6), answered.as_mut()).await.is_err());
        assert!(retries.reason().unwrap().contains("nobody there"));
        works.set(true);
        answered.await;
        assert_eq!(retries.reason(), None);
    }
}
