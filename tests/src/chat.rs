//! A `godwit chat --json` under test: a device, driven by JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary::binary;
use crate::process::Process;
use crate::wait::DEADLINE;

/// A device of a user. Dropping it kills the process; what it keeps stays in its directory.
pub struct Chat {
    name: String,
    process: Process,
    input: Option<ChildStdin>,
    heard: Arc<Heard>,
}

/// The events so far.
#[derive(Default)]
struct Heard {
    events: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Chat {
    /// Starts a device of `user` that connects to `servers` with the development key in `data`, and keeps
    /// what it must in `state`.
    ///
    /// # Panics
    /// The process cannot be started.
    #[must_use]
    pub fn start(user: &str, device: &str, servers: &[SocketAddr], data: &Path, state: &Path) -> Self {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let mut command = Command::new(binary());
        command.args(["chat", "--json", "--as", user, "--device", device, "--server", &servers.join(",")]);
        command.arg("--data").arg(data).arg("--state").arg(state).env_remove("GODWIT_TOKEN");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let heard = Arc::new(Heard::default());
        let listener = heard.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(event) = line.map(|line| serde_json::from_str(&line).unwrap()) else { break };
                listener.events.lock().unwrap().push(event);
                listener.more.notify_all();
            }
        });
        Self { name: format!("{user}/{device}"), process: Process::new(child), input, heard }
    }

    /// Gives it a command.
    ///
    /// # Panics
    /// The process is gone.
    pub fn command(&mut self, command: &Value) {
        let input = self.input.as_mut().expect("not told to quit yet");
        writeln!(input, "{command}").unwrap_or_else(|error| panic!("{} is gone: {error}", self.name));
    }

    /// Sends a text to a user, under a reference.
    pub fn say(&mut self, to: &str, text: &str, reference: u64) {
        self.command(&json!({ "do": "send", "to": to, "text": text, "ref": reference }));
    }

    /// Sends a text to a group, under a reference.
    pub fn say_in(&mut self, group: &str, text: &str, reference: u64) {
        self.command(&json!({ "do": "send", "group": group, "text": text, "ref": reference }));
    }

    /// Every event so far, in their order.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.heard.events.lock().unwrap().clone()
    }

    /// Waits for the first event that fits, past ones included.
    ///
    /// # Panics
    /// None comes in time; the last ones are printed.
    pub fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.wait_until(what, DEADLINE, |events| events.iter().find(|event| fits(event)).cloned())
    }

    /// Waits until so many events fit.
    ///
    /// # Panics
    /// They do not come in time; the last ones are printed.
    pub fn wait_count(&self, what: &str, count: usize, fits: impl Fn(&Value) -> bool) {
        self.wait_until(what, DEADLINE, |events| {
            (events.iter().filter(|e| fits(e)).count() >= count).then_some(())
        });
    }

    /// Waits until all events so far give an answer; asked again after each new one.
    ///
    /// # Panics
    /// They do not in time; the last ones are printed.
    pub fn wait_until<T>(&self, what: &str, deadline: Duration, answer: impl Fn(&[Value]) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        let mut events = self.heard.events.lock().unwrap();
        loop {
            if let Some(answer) = answer(&events) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = &events[events.len().saturating_sub(10)..];
                panic!(
                    "{}: not within {deadline:?}: {what}; {} events, the last: {last:#?}",
                    self.name,
                    events.len()
                );
            }
            events = self.heard.more.wait_timeout(events, left).unwrap().0;
        }
    }

    /// Waits until it is signed in, the next time after `seen` times.
    pub fn wait_connected(&self, seen: usize) {
        self.wait_count("signed in", seen + 1, |event| event["event"] == "connected");
    }

    /// The entries so far, by seq as they came.
    #[must_use]
    pub fn entries(&self) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == "entry").collect()
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Panics
    /// It does not in time.
    pub fn quit(&mut self) -> ExitStatus {
        self.command(&json!({ "do": "quit" }));
        self.input = None;
        self.process.wait(DEADLINE)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The process, for other signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The texts of message entries, in their order.
#[must_use]
pub fn texts(entries: &[Value]) -> Vec<String> {
    entries.iter().filter_map(|entry| entry["text"].as_str()).map(str::to_owned).collect()
}
