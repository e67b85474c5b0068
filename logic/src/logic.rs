//! The logic role of a process: the partitions that the log assigns to it, each kept running.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use storage::log::{Assignment, Log, LogError, Membership, Partition, Topic};
use storage::tables::Store;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nodes::NodeTable;
use crate::push::Dial;
use crate::run::{Backoff, Health, Parts, Supervised};

/// A process without any partition after this long is ready all the same: others have them all.
const FIRST_ASSIGNMENT_WITHIN: Duration = Duration::from_secs(10);
/// An assignment that has not changed for this long has settled.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The running stages of a process. Dropping it ends them at once, as a crash would.
pub struct Logic {
    parts: Arc<Parts>,
    began: Instant,
    assigned: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<String>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts the stages of every partition that the log assigns to this process, now and later.
///
/// `nodes` is the node table, which says where devices are reached and which records are skipped; `dial`
/// opens the streams there. Metrics are added to `registry`.
///
/// # Errors
/// Everything that is wrong with `config`.
pub fn start(
    config: Config,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    dial: Arc<dyn Dial>,
    nodes: watch::Receiver<Arc<NodeTable>>,
    registry: &mut Registry,
) -> Result<Logic, Vec<String>> {
    let mistakes = config.mistakes();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let pages = Arc::new(Semaphore::new(config.sync_pages_max));
    let metrics = Metrics::register(registry);
    let parts = Arc::new(Parts {
        config,
        log,
        store,
        dial,
        nodes,
        metrics,
        health: Health::default(),
        pages,
        #[cfg(test)]
        breaks_at: None,
    });
    let (stop, stopping) = watch::channel(false);
    let (assigned, trouble) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let owner = Owner {
        parts: parts.clone(),
        running: BTreeMap::new(),
        ending: JoinSet::new(),
        assigned: assigned.clone(),
        trouble: trouble.clone(),
    };
    let task = tokio::spawn(owner.run(stopping));
    Ok(Logic { parts, began: clock::now(), assigned, trouble, stop, task })
}

impl Logic {
    /// Whether every assigned partition is owned and moving.
    ///
    /// # Errors
    /// What keeps it from being so.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = self.parts.health.reasons();
        reasons.extend(self.parts.metrics.store_trouble());
        reasons.extend(self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let waited = clock::now() - self.began > FIRST_ASSIGNMENT_WITHIN;
        if !self.assigned.load(Ordering::Acquire) && !waited {
            reasons.push("no partition was assigned yet".into());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Stops judging, flushes what was judged, saves the checkpoints, and returns when all of that is done,
    /// or the time for it is over.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            error!(%error, "the stages did not stop in order");
        }
    }
}

impl Drop for Logic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Owner {
    parts: Arc<Parts>,
    running: BTreeMap<(Topic, Partition), Supervised>,
    ending: JoinSet<()>,
    assigned: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Owner {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let failed = tokio::select! {
                failed = self.follow() => failed,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            warn!(cause = %failed, "the assignment of partitions failed");
            self.note(Some(failed.to_string()));
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        for supervised in std::mem::take(&mut self.running).into_values() {
            self.ending.spawn(supervised.stop());
        }
        while self.ending.join_next().await.is_some() {}
    }

    /// Follows one membership until it fails. What runs goes on running meanwhile: the stages' own fencing
    /// decides who is the owner.
    async fn follow(&mut self) -> LogError {
        let mut membership: Box<dyn Membership> = match self.parts.log.join() {
            Ok(membership) => membership,
            Err(failed) => return failed,
        };
        let mut is_told = true;
        loop {
            let settled = tokio::time::sleep(SETTLED_AFTER);
            tokio::select! {
                next = membership.next() => match next {
                    Ok(assignment) => {
                        self.note(None);
                        self.assign(assignment);
                        is_told = false;
                    }
                    Err(failed) => return failed,
                },
                () = settled, if !is_told => {
                    self.tell();
                    is_told = true;
                }
            }
        }
    }

    /// Says once what many assignments came to.
    fn tell(&self) {
        let of = |topic| self.running.keys().filter(|(of, _)| *of == topic).count();
        let (messages, timelines) = (of(Topic::Messages), of(Topic::Timelines));
        info!(messages, timelines, "partitions owned");
    }

    fn assign(&mut self, assignment: Assignment) {
        while self.ending.try_join_next().is_some() {}
        match assignment {
            Assignment::Assigned(topic, partition) => {
                self.assigned.store(true, Ordering::Release);
                debug!(%topic, partition, "assigned");
                let parts = self.parts.clone();
                self.running
                    .entry((topic, partition))
                    .or_insert_with(|| Supervised::start(parts, topic, partition));
            }
            Assignment::Revoked(topic, partition) => {
                debug!(%topic, partition, "revoked");
                if let Some(supervised) = self.running.remove(&(topic, partition)) {
                    self.ending.spawn(supervised.stop());
                }
            }
        }
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
