//! Figures about servers over a run, and where they are written.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::usage::Usage;

/// What the servers used for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Server {
    /// None where a server was started again meanwhile.
    cpu_us_per_message: Option<f64>,
    resident_bytes: f64,
    anonymous_bytes: f64,
}

impl Server {
    /// From readings before the load, at its end, and after the last arrival; none where one is missing,
    /// which is then said.
    pub(crate) fn between(
        before: Result<Usage>,
        loaded: Result<Usage>,
        after: Result<Usage>,
        messages: u64,
    ) -> Option<Server> {
        let say = |error: &anyhow::Error| eprintln!("warning: {error:#}");
        let before = before.inspect_err(say).ok()?;
        let loaded = loaded.inspect_err(say).ok()?;
        let cpu_s = after.inspect_err(say).ok()?.cpu_s - before.cpu_s;
        Some(Server {
            cpu_us_per_message: (cpu_s >= 0.0 && messages > 0).then(|| cpu_s * 1e6 / float(messages)),
            resident_bytes: loaded.resident_bytes,
            anonymous_bytes: loaded.anonymous_bytes,
        })
    }

    /// One line.
    pub(crate) fn text(&self) -> String {
        let cpu = self.cpu_us_per_message.map_or("unknown".into(), |us| format!("{us:.1} µs"));
        let (rss, anonymous) = (self.resident_bytes / MIB, self.anonymous_bytes / MIB);
        format!("server: {cpu} of processor per message, RSS {rss:.0} MiB (anonymous {anonymous:.0} MiB)")
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu_us_per_message": self.cpu_us_per_message,
            "resident_bytes": self.resident_bytes,
            "anonymous_bytes": self.anonymous_bytes,
        })
    }
}

const MIB: f64 = 1_048_576.0;

/// Writes figures to a file, if one is wanted.
pub(crate) fn write(file: Option<&Path>, figures: &Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, format!("{figures:#}\n")).with_context(|| file.display().to_string())
}

/// A count, for arithmetic.
#[allow(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// One count by another; 0 where there is nothing to divide by.
pub(crate) fn ratio(count: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { float(count) / float(by) }
}
