//! How far the process is, and what keeps it from being ready. Checks answer from memory.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Not everything runs yet.
    Starting,
    /// Everything runs.
    Up,
    /// On its way out.
    Draining,
}

/// What keeps the process from being ready.
#[derive(Debug, Serialize)]
pub(crate) struct Reason {
    part: &'static str,
    reason: String,
}

type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The health of this process.
pub(crate) struct Health {
    stage: AtomicU8,
    checks: Mutex<Vec<(&'static str, Check)>>,
}

impl Health {
    /// Starting, without checks.
    pub(crate) fn new() -> Self {
        Self { stage: AtomicU8::new(Stage::Starting as u8), checks: Mutex::new(Vec::new()) }
    }

    /// Adds a part that says why it is not ready, if it is not.
    pub(crate) fn check(
        &self,
        part: &'static str,
        check: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push((part, Box::new(check)));
    }

    /// Everything runs.
    pub(crate) fn up(&self) {
        self.stage.store(Stage::Up as u8, Ordering::Release);
    }

    /// The process is on its way out.
    pub(crate) fn draining(&self) {
        self.stage.store(Stage::Draining as u8, Ordering::Release);
    }

    /// How far it is.
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Up,
            _ => Stage::Draining,
        }
    }

    /// Everything that keeps it from being ready; nothing when it is.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let stage = match self.stage() {
            Stage::Starting => Some(Reason { part: "process", reason: "starting".into() }),
            Stage::Up => None,
            Stage::Draining => Some(Reason { part: "process", reason: "draining".into() }),
        };
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = checks.iter().filter_map(|(part, check)| check().map(|reason| Reason { part, reason }));
        stage.into_iter().chain(failing).collect()
    }
}
