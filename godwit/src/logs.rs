//! Sets the log lines up: to stderr, for people on a terminal and as JSON otherwise. No token, password
//! or message body is ever given to it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Logs};

/// The level that goes by who reads.
pub(crate) const LEVEL_AUTO: &str = "auto";

/// Begins logging. RUST_LOG goes before the settings.
pub(crate) fn start(logs: &Logs) {
    let human = match logs.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let level = match (logs.level.as_str(), human) {
        (LEVEL_AUTO, true) => "warn,godwit=info",
        (LEVEL_AUTO, false) => "info,fjall=warn,lsm_tree=warn",
        (given, _) => given,
    };
    let given = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let (filter, mistake) = match given.as_deref().map(str::parse).transpose() {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, because the disk behind stderr is full, is lost. Saying so there would panic.
    let lines = lines.log_internal_errors(false);
    if human {
        lines.with_target(false).init();
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    if let Some(error) = mistake {
        tracing::warn!("RUST_LOG={:?} is not used: {error}", given.unwrap_or_default());
    }
}
