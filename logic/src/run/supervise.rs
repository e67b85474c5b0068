//! Keeps a partition running for as long as it is assigned here: begins runs anew after a failure, waits
//! after another owner took over, and stops for good at a record that breaks the stage.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::Tick;
use storage::log::{Partition, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::conversation::Conversations;
use super::parts::{End, Parts};
use super::poison::may_skip;
use super::timeline::Timelines;
use super::{Backoff, turns};
use crate::clock;

/// Pauses between runs that fail.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// A run that lived this long did not fail because of how it began.
const HEALTHY: Duration = Duration::from_secs(30);

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not read its own Owner record yet.
    Starting,
    /// It is the owner.
    Running,
    /// It is begun anew after a pause.
    Failed(String),
    /// Another owner took over; it is claimed again after a pause.
    Superseded,
    /// Stopped by the record of this tick.
    Poisoned(Tick),
}

/// Where every partition of the process stands.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<(Topic, Partition), Standing>>);

impl Health {
    pub(crate) fn set(&self, topic: Topic, partition: Partition, standing: Standing) {
        self.lock().insert((topic, partition), standing);
    }

    fn forget(&self, topic: Topic, partition: Partition) {
        self.lock().remove(&(topic, partition));
    }

    /// What keeps the process from being ready.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let standings = self.lock();
        let reasons = standings.iter().filter_map(|((topic, partition), standing)| {
            let what = match standing {
                Standing::Running => return None,
                Standing::Starting => "is starting".into(),
                Standing::Failed(cause) => format!("failed: {cause}"),
                Standing::Superseded => "was taken over by another owner".into(),
                Standing::Poisoned(Tick(tick)) => format!("is stopped by the record at tick {tick}"),
            };
            Some(format!("{topic}/{partition} {what}"))
        });
        reasons.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Topic, Partition), Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A partition that is kept running. Dropping it ends it at once.
pub(crate) struct Supervised {
    stop: watch::Sender<bool>,
    within: Duration,
    task: JoinHandle<()>,
}

impl Supervised {
    pub(crate) fn start(parts: Arc<Parts>, topic: Topic, partition: Partition) -> Self {
        let (stop, stopping) = watch::channel(false);
        let within = parts.config.stop_within();
        let task = tokio::spawn(supervise(parts, topic, partition, stopping));
        Self { stop, within, task }
    }

    /// Flushes, and returns once the partition's tasks are gone.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        if timeout(self.within, &mut self.task).await.is_err() {
            warn!("a run did not stop in time; what it had judged is judged again from the log");
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn supervise(parts: Arc<Parts>, topic: Topic, partition: Partition, mut stop: watch::Receiver<bool>) {
    let _forget = Forget(&parts.health, topic, partition);
    let mut metrics = parts.metrics.of(topic);
    metrics.owned.set(1);
    let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
    loop {
        parts.health.set(topic, partition, Standing::Starting);
        let began = clock::now();
        let end = match topic {
            Topic::Messages => turns::run::<Conversations>(parts.clone(), partition, &mut stop).await,
            Topic::Timelines | Topic::Nodes => {
                turns::run::<Timelines>(parts.clone(), partition, &mut stop).await
            }
        };
        if clock::now() - began > HEALTHY {
            backoff.reset();
        }
        let pause = match end {
            End::Stopped => return,
            End::Superseded => {
                info!(%topic, partition, "another owner took over");
                metrics.superseded.inc();
                parts.health.set(topic, partition, Standing::Superseded);
                parts.config.reclaim_after()
            }
            End::Failed(cause) => {
                warn!(%topic, partition, %cause, "a run failed; it begins anew from its checkpoint");
                metrics.failed.inc();
                parts.health.set(topic, partition, Standing::Failed(cause));
                backoff.pause()
            }
            End::Poisoned(tick) => {
                error!(%topic, partition, tick = tick.0, "a record breaks the stage: the partition is stopped until it is skipped");
                metrics.poison.inc();
                metrics.poisoned.set(1);
                parts.health.set(topic, partition, Standing::Poisoned(tick));
                tokio::select! {
                    () = skipped(&parts, topic, partition, tick) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                metrics.poisoned.set(0);
                Duration::ZERO
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Waits for a Skip of this record that may be obeyed.
async fn skipped(parts: &Parts, topic: Topic, partition: Partition, tick: Tick) {
    let mut nodes = parts.nodes.clone();
    let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
    loop {
        let there =
            nodes.wait_for(|table| table.skips(topic, partition).any(|skip| skip == tick)).await.is_ok();
        if !there {
            return std::future::pending().await;
        }
        match may_skip(&*parts.log, &*parts.store, topic, partition, tick).await {
            Ok(()) => return,
            Err(cause) => error!(%topic, partition, tick = tick.0, %cause, "the record is not skipped"),
        }
        sleep(backoff.pause()).await;
    }
}

struct Forget<'a>(&'a Health, Topic, Partition);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1, self.2);
    }
}
