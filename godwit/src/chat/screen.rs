//! Where a person reads and types: a terminal with a prompt that stays below what arrives, or plain lines
//! where standard input or output is none. What others wrote passes [`clean`] before it comes here.

use std::io::{IsTerminal as _, Write as _};

use rustyline_async::{Readline, ReadlineEvent, SharedWriter};
use tokio::sync::mpsc;

use super::input::{self, Came, Signals};

/// A person's side.
pub(super) enum Screen {
    Terminal { readline: Box<Readline>, writer: SharedWriter },
    Plain { lines: mpsc::Receiver<input::Line>, signals: Signals },
}

/// What a person did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    End,
    Interrupt,
}

impl Screen {
    /// A terminal if there is one.
    pub(super) fn open(prompt: &str) -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Plain { lines: input::lines(), signals: Signals::new()? });
        }
        let (mut readline, writer) = Readline::new(prompt.to_owned())?;
        readline.should_print_line_on(false, false);
        Ok(Self::Terminal { readline: Box::new(readline), writer })
    }

    /// The next line. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> anyhow::Result<Typed> {
        match self {
            Self::Terminal { readline, .. } => Ok(match readline.readline().await? {
                ReadlineEvent::Line(line) => {
                    if !line.trim().is_empty() {
                        readline.add_history_entry(line.clone());
                    }
                    Typed::Line(line)
                }
                ReadlineEvent::Eof => Typed::End,
                ReadlineEvent::Interrupted => Typed::Interrupt,
            }),
            Self::Plain { lines, signals } => tokio::select! {
                line = lines.recv() => Ok(match line {
                    Some(Some(line)) => Typed::Line(String::from_utf8_lossy(&line).into_owned()),
                    Some(None) => Typed::Line(String::new()),
                    None => Typed::End,
                }),
                came = signals.next() => Ok(match came {
                    Came::Interrupt => Typed::Interrupt,
                    Came::Terminate => Typed::End,
                }),
            },
        }
    }

    /// Shows lines above the prompt.
    pub(super) fn print(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Terminal { readline, writer } => {
                if writer.write_all(format!("{text}\n").as_bytes()).is_err() {
                    // Its queue is full, and what was written waits in front of it.
                    readline.flush()?;
                    writer.write_all(b"\n")?;
                }
            }
            Self::Plain { .. } => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{text}")?;
                out.flush()?;
            }
        }
        Ok(())
    }

    pub(super) fn prompt(&mut self, prompt: &str) -> anyhow::Result<()> {
        if let Self::Terminal { readline, .. } = self {
            readline.update_prompt(prompt)?;
        }
        Ok(())
    }

    /// Everything is shown, and the prompt is gone.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        if let Self::Terminal { readline, .. } = self {
            readline.flush()?;
        }
        Ok(())
    }
}

/// Text that does to a terminal nothing but appear: no control characters, nothing that turns the direction
/// of writing or cannot be seen. The end of a line is shown as ⏎.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end_matches(['\r', '\n']).chars() {
        match c {
            '\n' => out.push_str("⏎ "),
            '\r' => {}
            '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The time of day here.
pub(super) fn time_of_day(time_us: u64) -> String {
    let seconds = libc::time_t::try_from(time_us / 1_000_000).unwrap_or(0);
    // SAFETY: `tm` is plain old data for which all zeros is a value, and localtime_r writes only into it.
    let local = unsafe {
        let mut local: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut local);
        local
    };
    format!("{:02}:{:02}", local.tm_hour, local.tm_min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_only_appears() {
        assert_eq!(clean("grüße, 你好 👋"), "grüße, 你好 👋");
        assert_eq!(clean("a\x1b[31mb\x07\u{9b}c\r\nd\te\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c⏎ d e");
        assert_eq!(clean("\u{202e}txt\u{2066}"), "\u{fffd}txt\u{fffd}");
    }

    #[test]
    fn a_time_has_hours_and_minutes() {
        let time = time_of_day(1_700_000_000_000_000);
        assert!(time.len() == 5 && time.as_bytes()[2] == b':', "{time}");
    }
}
