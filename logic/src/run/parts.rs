//! What every run of the process shares, and how a run ends.

use std::sync::Arc;

use proto::Tick;
use storage::log::{Log, LogError};
use storage::tables::{Store, StoreError};
use tokio::sync::{Semaphore, watch};

use super::supervise::Health;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nodes::NodeTable;
use crate::push::Dial;
use crate::settings::StateError;

/// Handles that all runs share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) nodes: watch::Receiver<Arc<NodeTable>>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// Pages of sync at work in the whole process.
    pub(crate) pages: Arc<Semaphore>,
    /// The record that breaks a stage, unless it is skipped.
    #[cfg(test)]
    pub(crate) breaks_at: Option<Tick>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to, and everything it had judged is flushed.
    Stopped,
    /// Another run owns the partition.
    Superseded,
    /// To be begun again from the checkpoint.
    Failed(String),
    /// The record of this tick breaks the stage.
    Poisoned(Tick),
}

impl From<LogError> for End {
    fn from(error: LogError) -> Self {
        End::Failed(error.to_string())
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        End::Failed(error.to_string())
    }
}

impl From<StateError> for End {
    fn from(error: StateError) -> Self {
        End::Failed(error.to_string())
    }
}
