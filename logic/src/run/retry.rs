//! Reads and writes of the store that are repeated until they work: nothing later may overtake them.

use std::future::Future;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use storage::tables::StoreError;
use tracing::warn;

use super::Backoff;

const FIRST: Duration = Duration::from_millis(20);
const MAX: Duration = Duration::from_secs(2);

/// The answer of the first attempt that has one.
pub(crate) async fn until_answered<T, F>(
    what: &'static str,
    retries: &Counter,
    mut attempt: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::new(FIRST, MAX);
    loop {
        match attempt().await {
            Ok(answer) => return answer,
            Err(error) => {
                retries.inc();
                warn!(%error, what, "the store did not answer; once more");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}
