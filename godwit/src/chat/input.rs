//! Lines of standard input, where it is not a terminal, and signals. Lines are read by a thread of their own,
//! because nothing else waits for a pipe everywhere.

use std::io::{BufRead as _, Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Bytes of a line that are taken.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Lines that wait.
const LINES_MAX: usize = 64;

/// A line without its end; none if it was too long.
pub(super) type Line = Option<Vec<u8>>;

/// What ends the process from outside.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Interrupt,
    Terminate,
}

impl Signals {
    /// From now on signals come here.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Interrupt,
            _ = self.terminate.recv() => Came::Terminate,
        }
    }
}

/// Starts reading. The end of the channel is the end of the input.
pub(super) fn lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = next(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn next(input: &mut impl std::io::BufRead) -> Option<Line> {
    let mut line = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    if read == 0 {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
    } else if line.len() as u64 == LINE_BYTES_MAX {
        skip_line(input);
        return Some(None);
    }
    Some(Some(line))
}

fn skip_line(input: &mut impl std::io::BufRead) {
    loop {
        let Ok(bytes) = input.fill_buf() else { return };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let skip = end.map_or(bytes.len(), |end| end + 1);
        input.consume(skip);
        if end.is_some() || skip == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_long_ones_are_skipped_whole() {
        let mut input = b"a\r\n\n".to_vec();
        input.extend(vec![b'x'; 3 * usize::try_from(LINE_BYTES_MAX).unwrap()]);
        input.extend(b"\nb");
        let mut input = std::io::Cursor::new(input);
        let lines: Vec<_> = std::iter::from_fn(|| next(&mut input)).collect();
        assert_eq!(lines, [Some(b"a".to_vec()), Some(vec![]), None, Some(b"b".to_vec())]);
    }
}
