//! Calls that fail, as strace injects the errors into a running process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tokio::sync::Mutex;

use crate::left_out::can;

/// Attached to this very process, strace follows whatever it starts, and nobody else can attach to that; and a process
/// that is just being started holds files of a disk that is to be unmounted. Tests with one of the three take turns.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// Starts strace with these arguments, and returns when it is attached. None where it cannot be; what is then left
/// out is said.
pub(crate) fn attached(what: &str, arguments: &[&str]) -> Option<Child> {
    let strace = attach(arguments);
    can(what, strace.is_some(), "there is no strace, or it may not trace");
    strace
}

fn attach(arguments: &[&str]) -> Option<Child> {
    let mut command = Command::new("strace");
    let mut strace = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
    let mut lines = BufReader::new(strace.stderr.take()?).lines();
    if lines.any(|line| line.is_ok_and(|line| line.contains("attached"))) {
        std::thread::spawn(move || lines.for_each(drop));
        return Some(strace);
    }
    let _ = strace.wait();
    None
}
