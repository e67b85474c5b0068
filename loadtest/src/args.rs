//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args as Arguments, Parser, Subcommand};

use crate::circle::Circle;
use crate::payload;

const EXIT_CODES: &str = "Exit codes: 0 pass; 2 usage; 5 the server cannot be reached, or turns links away; \
    20 a promise was broken; 30 saturated: the load could not be kept up, or did not arrive in time, so the \
    figures mean nothing; 99 an objective was missed; 130 interrupted (Ctrl-C), 143 terminated.";

/// Loads a Godwit server, and verifies what it delivers.
#[derive(Parser)]
#[command(name = "loadtest", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pairs of devices write to each other at an even pace, whatever becomes of it (open loop). Every
    /// timeline is judged: nothing lost, doubled or out of order, every seq there, and the same when read
    /// again. Links that break are made again, and nothing acknowledged may be lost with them. SIGTERM ends the load
    /// before its time: what was sent by then is waited for and judged.
    #[command(after_help = EXIT_CODES)]
    Send(Send),
    /// Signs links in and holds them with nothing but heartbeats; says what a link costs.
    #[command(after_help = EXIT_CODES)]
    Idle(Idle),
    /// Sends nothing but heartbeats; says what one costs. With --raw over the links of an echo server, for
    /// comparison.
    #[command(after_help = EXIT_CODES)]
    Beat(Beat),
    /// Judges a run again, from what `send --journal` kept of it and nothing else.
    #[command(after_help = EXIT_CODES)]
    Check(Check),
    /// One share of the load, started by the other commands.
    #[command(hide = true)]
    Worker { spec: String },
}

impl Command {
    /// The file with the key, where one is needed.
    pub(crate) fn key(&self) -> Option<&Path> {
        match self {
            Self::Send(send) => Some(&send.target.key),
            Self::Idle(idle) => Some(&idle.target.key),
            Self::Beat(beat) => (!beat.raw).then_some(&*beat.target.key),
            Self::Check(_) | Self::Worker { .. } => None,
        }
    }
}

/// Whom to load.
#[derive(Arguments, Clone)]
pub(crate) struct Target {
    /// Where links go, in turns.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7100")]
    pub(crate) server: Vec<String>,
    /// Operations addresses of the servers' processes; their figures are added up.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7190")]
    pub(crate) ops: Vec<String>,
    /// The key that signs tokens, as a server in development mode writes it.
    #[arg(long, default_value = "godwit-data/dev-key.pem")]
    pub(crate) key: PathBuf,
    /// Signing in may take this long.
    #[arg(long, value_parser = seconds, default_value = "60s")]
    pub(crate) connect_timeout: Duration,
    /// Also write the figures here, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Arguments, Clone)]
pub(crate) struct Send {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many links; two make a pair.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub(crate) links: u64,
    /// Messages a second, of all links together.
    #[arg(long, default_value_t = 1_000.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// For how long, in seconds.
    #[arg(long, value_parser = seconds, default_value = "10s")]
    pub(crate) duration: Duration,
    /// Links that end on purpose, a second: closed in order, reset, or left standing, in turns. The device comes
    /// back within a second with its cursor and what is not acknowledged.
    #[arg(long, default_value_t = 0.0, value_parser = churn)]
    pub(crate) churn: f64,
    /// Devices of a group, an even number: so many links each are a group, which is made first, and every fifth
    /// message of a device goes to it. The number of links is a multiple of this.
    #[arg(long, value_parser = group)]
    pub(crate) groups: Option<u64>,
    /// The last two devices of a group are second devices of the users of the two before.
    #[arg(long, requires = "groups")]
    pub(crate) twins: bool,
    /// Bytes of a message.
    #[arg(long, default_value_t = 100, value_parser = body)]
    pub(crate) bytes: usize,
    /// After the last message everything has to arrive within this time, or the run is saturated.
    #[arg(long, value_parser = seconds, default_value = "30s")]
    pub(crate) drain: Duration,
    /// A harness that is later than this with a send is not the open loop it says it is: the run is saturated.
    #[arg(long, value_parser = seconds, default_value = "1s")]
    pub(crate) late: Duration,
    /// An empty directory for everything that the devices did and were told, for `loadtest check`.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,
    /// Also write latencies to --json by intervals of this length, in the order in which the messages were to be sent.
    #[arg(long, value_parser = interval, requires = "json")]
    pub(crate) interval: Option<Duration>,
    /// The objective for the 99th percentile from intended send to arrival, in milliseconds.
    #[arg(long)]
    pub(crate) p99_ms: Option<f64>,
}

#[derive(Arguments, Clone)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many links. A third of them is held first: bytes per link are the slope between the two.
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(3..=1_000_000))]
    pub(crate) links: u64,
    /// How long each of the two is held before it is measured.
    #[arg(long, value_parser = seconds, default_value = "60s")]
    pub(crate) hold: Duration,
    /// Measure this process instead of asking the operations port.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The objective for bytes of memory (RssAnon) per link.
    #[arg(long)]
    pub(crate) bytes_max: Option<f64>,
}

#[derive(Arguments, Clone)]
pub(crate) struct Beat {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many links, of one process.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=18_000))]
    pub(crate) links: u64,
    /// Heartbeats a second, of all links together.
    #[arg(long, default_value_t = 10_000.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// For how long.
    #[arg(long, value_parser = seconds, default_value = "10s")]
    pub(crate) duration: Duration,
    /// Without signing in: the server echoes.
    #[arg(long, requires = "pid")]
    pub(crate) raw: bool,
    /// Measure this process instead of asking the operations port.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

#[derive(Arguments, Clone)]
pub(crate) struct Check {
    /// The directory that `send --journal` filled.
    #[arg(long)]
    pub(crate) journal: PathBuf,
    /// Also write the figures here, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Send {
    /// Who writes to whom.
    pub(crate) fn circle(&self) -> Circle {
        Circle { group: self.groups.unwrap_or(0), twins: self.twins }
    }
}

impl Target {
    /// Where the servers are.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let resolve = |server: &String| {
            let mut found = server.to_socket_addrs().with_context(|| server.clone())?;
            found.next().with_context(|| format!("{server} has no address"))
        };
        self.server.iter().map(resolve).collect()
    }
}

/// `90`, `90s`, `1500ms` or `2m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time such as 90s, 1500ms or 2m"))?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("{unit} is no unit of time; there are ms, s and m")),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if interval.is_zero() { Err("longer than nothing".into()) } else { Ok(interval) }
}

fn churn(text: &str) -> Result<f64, String> {
    let churn: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if (0.0..=100_000.0).contains(&churn) { Ok(churn) } else { Err("0 to 100000 a second".into()) }
}

fn group(text: &str) -> Result<u64, String> {
    let group: u64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    let is_one = group.is_multiple_of(2) && (4..=proto::limits::GROUP_MEMBERS_MAX as u64).contains(&group);
    if is_one { Ok(group) } else { Err("an even number from 4".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if (0.001..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("a rate above 0".into()) }
}

fn body(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("{text} is no number"))?;
    let max = proto::limits::BODY_BYTES_MAX;
    let min = payload::NAME_BYTES;
    if (min..=max).contains(&bytes) { Ok(bytes) } else { Err(format!("{min} to {max} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("90"), Ok(Duration::from_secs(90)));
        assert_eq!(seconds("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(seconds("2m"), Ok(Duration::from_secs(120)));
        assert!(seconds("2h").is_err() && seconds("").is_err() && seconds("s").is_err());
    }

    #[test]
    fn the_command_line_of_the_readme_is_understood() {
        let line =
            "loadtest send --server a:1,b:1 --ops c:2,d:2 --links 2000 --rate 2000 --duration 60s --json f";
        let args = Args::try_parse_from(line.split(' ')).ok();
        let Some(Args { command: Command::Send(send) }) = args else { panic!("not a send") };
        assert_eq!((send.target.server.len(), send.target.ops.len(), send.links), (2, 2, 2_000));
        for wrong in [
            "--bytes 3",
            "--groups 5",
            "--groups 2",
            "--twins",
            "--churn -1",
            "--interval 1s",
            "--json f --interval 0s",
        ] {
            assert!(Args::try_parse_from(format!("loadtest send {wrong}").split(' ')).is_err(), "{wrong}");
        }
    }
}
