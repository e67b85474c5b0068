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
        tell(panic);
        if !logic::is_guarded() {
            std::process::exit(EXIT_PANIC);
        }
    }));
}

fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        code = (!logic::is_guarded()).then_some(EXIT_PANIC),
        thread = thread.name(),
        place,
        error = panic.payload_as_str(),
        backtrace = %Backtrace::force_capture(),
        "a panic, which is a bug",
    );
}
