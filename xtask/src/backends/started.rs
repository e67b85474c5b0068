//! The nodes that this process has started, and their end where SIGINT or SIGTERM ends it: they run in sessions of
//! their own, where no Ctrl-C reaches them.

use std::io::{PipeReader, Read};
use std::os::fd::IntoRawFd;
use std::process::exit;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::node::Node;

static STARTED: Mutex<Vec<Node>> = Mutex::new(Vec::new());
/// Into which the handler writes the signal's number.
static SIGNALS: AtomicI32 = AtomicI32::new(-1);

/// Those started so far. While the guard lives none is started, and none ended by another thread.
pub(crate) fn lock() -> MutexGuard<'static, Vec<Node>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends those of the nodes that run.
pub(crate) fn end(nodes: &[Node]) -> Result<()> {
    let running: Vec<&Node> = nodes.iter().filter(|node| node.is_running()).collect();
    running.iter().for_each(|node| node.terminate());
    running.iter().try_for_each(|node| node.wait_gone())
}

/// From now on the first SIGINT or SIGTERM ends the nodes, and then this process.
pub(crate) fn end_on_signals() -> Result<()> {
    let (signals, written) = std::io::pipe()?;
    SIGNALS.store(written.into_raw_fd(), Ordering::Release);
    std::thread::Builder::new().name("signals".into()).spawn(move || end_after(signals))?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(i32) = on_signal;
        // SAFETY: the handler does nothing but what is async-signal-safe. Programs started later do not inherit it.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32) {
    let number = signal.to_le_bytes();
    // SAFETY: write is async-signal-safe, and the buffer has one byte. The pipe stays open for ever.
    unsafe { libc::write(SIGNALS.load(Ordering::Acquire), number.as_ptr().cast(), 1) };
}

fn end_after(mut signals: PipeReader) {
    let mut number = [0];
    if signals.read_exact(&mut number).is_err() {
        return;
    }
    // Kept to the end of the process: nothing starts any more, and nobody else ends it before the nodes are down.
    let nodes = lock();
    if let Err(error) = end(&nodes) {
        eprintln!("error: {error:#}");
    }
    // As shells have it.
    exit(128 + i32::from(number[0]));
}
