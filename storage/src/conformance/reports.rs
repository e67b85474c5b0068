//! A `Report` that keeps what it is told, and waits for it. Never forgets an outcome.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::log::{AppendError, Report, Tag};

/// How long a suite waits for anything before it calls the promise broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An outcome as it was told.
pub type Outcome = (Tag, Result<(), AppendError>);

/// Every outcome so far.
#[derive(Default)]
pub struct Reports {
    outcomes: Mutex<Vec<Outcome>>,
    told: Notify,
}

impl Reports {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What was told so far.
    pub fn so_far(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap().clone()
    }

    /// Waits until `count` outcomes were told, and returns all of them.
    pub async fn wait(&self, count: usize) -> Vec<Outcome> {
        let enough = async {
            loop {
                let told = self.told.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if self.outcomes.lock().unwrap().len() >= count {
                    return;
                }
                told.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        let outcomes = self.so_far();
        assert!(waited.is_ok(), "{} outcomes were reported, {count} expected", outcomes.len());
        outcomes
    }

    /// Waits for `count` outcomes, which must all be good.
    pub async fn wait_ok(&self, count: usize) {
        let outcomes = self.wait(count).await;
        let failed: Vec<_> = outcomes.iter().filter(|(_, result)| result.is_err()).collect();
        assert!(failed.is_empty(), "appends failed: {failed:?}");
        assert_eq!(outcomes.len(), count, "an outcome was told twice");
    }
}

impl Report for Reports {
    fn reported(&self, outcomes: &[Outcome]) {
        self.outcomes.lock().unwrap().extend_from_slice(outcomes);
        self.told.notify_waiters();
    }
}
