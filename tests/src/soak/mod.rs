//! A soak: one process on embedded storage under a mixed load for a long time, with links that come and go; what
//! it holds is looked at again and again. Judged is whether anything grows that should not.

mod line;
mod report;
mod sample;
mod stored;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{Load, harness};
use crate::process::{Process, memory_kib};
use crate::server::Server;
use crate::wait::{asked_for, within};
pub use report::Report;
use sample::{Descriptors, Disk, Sample};

/// Signing all links in may take this long, and so may their going.
const PATIENCE: Duration = Duration::from_secs(120);
/// What comes after the load: everything arrives, and every timeline is read again.
const CLOSING: Duration = Duration::from_secs(3_600);
/// Samples before this part of the time are left out.
const WARM_UP: f64 = 0.1;
/// So are those before so many messages: memtables, queues, tails and the engine's cache are filled for the first time,
/// and the allocator's pages come to be shared by what lives long and what does not.
const WARM_UP_MESSAGES: u32 = 450_000;
/// With fewer messages only what holds at any moment is judged, and no growth.
const GROWTH_MESSAGES: u32 = 1_200_000;

/// What a soak consists of.
#[derive(Clone, Debug)]
pub struct Soak {
    /// For how long messages are sent.
    pub duration: Duration,
    /// Between two samples.
    pub every: Duration,
    /// Devices: groups of ten, in which two users have two.
    pub links: u32,
    /// Messages a second.
    pub rate: u32,
    /// Links that end on purpose, a second.
    pub churn: f64,
    /// Settings of the server that are not the built-in ones, as `section.name=VALUE`.
    pub settings: Vec<String>,
    /// Where everything is kept: data, logs, figures.
    pub dir: PathBuf,
}

impl Soak {
    /// Runs it.
    ///
    /// # Panics
    /// The server or the harness fails as such. What was promised is judged in the report.
    #[must_use]
    pub fn run(&self) -> Report {
        let settings: Vec<&str> = self.settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let mut server = Server::start(&self.dir, "server", &settings);
        let pid = server.process().id();
        let before = Descriptors::of(pid);
        let mut load = self.load(&server);
        within(PATIENCE, "the links are there", || {
            (server.metric("godwit_conn_live_links")? >= f64::from(self.links)).then_some(())
        });
        let samples = self.samples(&server, pid);
        load.wait(CLOSING);
        let said = std::fs::read_to_string(self.dir.join("loadtest.log")).unwrap_or_default();
        println!("{said}");
        let figures = std::fs::read(self.dir.join("loadtest.json"));
        let figures = figures.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
        Report::new(self, &samples, before, self.closed(pid, before), figures)
    }

    /// Starts the harness.
    fn load(&self, server: &Server) -> Process {
        let load = Load { links: self.links, rate: self.rate, duration: self.duration };
        let mut command = harness(&self.dir, &server.data(), &[server], load);
        command.args(["--groups", "10", "--twins", "--drain", "600s", "--churn", &self.churn.to_string()]);
        command.args(["--bytes", &verdict::BODY_BYTES.to_string()]);
        Process::new(command.spawn().unwrap())
    }

    /// Looks at the server again and again while messages are sent.
    fn samples(&self, server: &Server, pid: u32) -> Vec<Sample> {
        let began = Instant::now();
        let mut samples = Vec::new();
        let mut due = Duration::ZERO;
        while due < self.duration {
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let figure =
                |name: &str| server.metric(name).unwrap_or_else(|| panic!("no {name}:\n{}", server.log()));
            let sample = Sample {
                at: began.elapsed(),
                rss_kib: memory_kib(pid, "RssAnon:").into(),
                allocated_kib: figure("godwit_allocator_allocated_bytes") / 1024.0,
                cache_kib: figure("godwit_storage_cache_bytes") / 1024.0,
                memtables_kib: figure("godwit_storage_memtable_bytes") / 1024.0,
                descriptors: Descriptors::of(pid),
                disk: Disk::of(&server.data()),
                messages: figure("godwit_logic_records_total{stage=\"conversation\"}"),
            };
            println!("{}", sample.line());
            samples.push(sample);
            due += self.every;
        }
        samples
    }

    /// The descriptors once all links are gone: those of the beginning, if that comes about in time.
    fn closed(&self, pid: u32, before: Descriptors) -> Descriptors {
        let back = || Some(Descriptors::of(pid)).filter(|now| now.are_back(&before));
        asked_for(PATIENCE, back).unwrap_or_else(|| Descriptors::of(pid))
    }

    /// When samples begin to count.
    fn warm_up(&self) -> Duration {
        let messages = Duration::from_secs(u64::from(WARM_UP_MESSAGES / self.rate.max(1)));
        self.duration.mul_f64(WARM_UP).max(messages)
    }

    /// Whether it is long enough to speak of growth.
    fn shows_growth(&self) -> bool {
        self.duration.as_secs() * u64::from(self.rate) >= u64::from(GROWTH_MESSAGES)
    }
}
