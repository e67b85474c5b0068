//! The signals that end the process: the first asks for a drain, the second ends it at once.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// SIGTERM and SIGINT, listened to from the moment it is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    /// Waits for either, and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for another one, and ends the process at once. What is not on disk is caused again from the
    /// log at the next start.
    pub(super) async fn abort_on_next(mut self) {
        let name = self.next().await;
        tracing::warn!(
            signal = name,
            code = Exit::Interrupted as u8,
            "a second signal: the process ends at once"
        );
        std::process::exit(i32::from(Exit::Interrupted as u8));
    }
}
