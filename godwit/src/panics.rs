//! What a panic does to a server: it ends the process.
//!
//! Whatever panicked leaves its links, queues or locks to nobody, while the process looks alive from outside. What was
//! acknowledged is in the log, and devices come back to whoever is started next. A step of a stage is the exception: its
//! panic stops one partition, as the record would stop it after every start.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};

/// The process's exit code.
const EXIT_PANIC: i32 = 7;

/// From now on, in every thread.
pub(crate) fn end_the_process() {
    panic::set_hook(Box::new(|panic| {
        let ends = !logic::is_guarded();
        tell(panic, ends);
        if ends {
            std::process::exit(EXIT_PANIC);
        }
    }));
}

fn tell(panic: &PanicHookInfo<'_>, ends: bool) {
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        code = ends.then_some(EXIT_PANIC),
        thread = thread.name(),
        place,
        error = panic.payload_as_str(),
        backtrace = %Backtrace::force_capture(),
        "a panic, which is a bug",
    );
}
