//! Figures of the process itself, read from /proc and from its allocator at every scrape. Where there is no /proc
//! they are left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tikv_jemalloc_ctl::{self as jemalloc, stats};

use crate::{clock, version};

/// Clock ticks a second in /proc/self/stat: a constant of Linux's interface.
const TICKS: f64 = 100.0;

/// Adds the process's figures and the build's facts.
pub(crate) fn register(registry: &mut Registry) {
    let facts = vec![
        ("version", version::SHORT),
        ("commit", version::COMMIT),
        ("rustc", version::RUSTC),
        ("target", version::TARGET),
        ("profile", version::PROFILE),
    ];
    registry.register("godwit_build", "What this binary is made of", Info::new(facts));
    registry.register_collector(Box::new(Process { started: clock::unix_seconds() }));
}

/// Reads the figures when asked.
#[derive(Debug)]
struct Process {
    /// When it was registered, in seconds since 1970.
    started: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name: &str, help: &str, figure: &dyn EncodeMetric| {
            figure.encode(encoder.encode_descriptor(name, help, None, figure.metric_type())?)
        };
        put(
            "process_start_time_seconds",
            "When the process started, since 1970",
            &ConstGauge::new(self.started),
        )?;
        put(
            "godwit_time_seconds",
            "The time of day as the process has it, since 1970",
            &ConstGauge::new(clock::unix_seconds()),
        )?;
        if let Some(seconds) = cpu_seconds() {
            put("process_cpu_seconds", "User and system time spent", &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = status_bytes("VmRSS:") {
            put("process_resident_memory_bytes", "Memory held, files included", &ConstGauge::new(bytes))?;
        }
        if let Some(bytes) = status_bytes("RssAnon:") {
            put("godwit_process_rss_anon_bytes", "Memory held, files left out", &ConstGauge::new(bytes))?;
        }
        if let Some(Allocator { allocated, active, resident }) = Allocator::now() {
            put(
                "godwit_allocator_allocated_bytes",
                "Memory that the program holds",
                &ConstGauge::new(allocated),
            )?;
            put("godwit_allocator_active_bytes", "Pages that it lies in", &ConstGauge::new(active))?;
            put(
                "godwit_allocator_resident_bytes",
                "These pages, the allocator's own, and those that go back to the system soon",
                &ConstGauge::new(resident),
            )?;
        }
        if let Some(count) = open_fds() {
            put("process_open_fds", "Open descriptors", &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

/// What the allocator holds, in bytes.
#[derive(Debug)]
struct Allocator {
    allocated: u64,
    active: u64,
    resident: u64,
}

impl Allocator {
    /// None where it was built without statistics.
    fn now() -> Option<Self> {
        jemalloc::epoch::advance().ok()?;
        let bytes = |read: jemalloc::Result<usize>| u64::try_from(read.ok()?).ok();
        Some(Self {
            allocated: bytes(stats::allocated::read())?,
            active: bytes(stats::active::read())?,
            resident: bytes(stats::resident::read())?,
        })
    }
}

/// Fields 14 and 15 of stat, counted after the name in brackets, which may hold blanks.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn status_bytes(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The size of the directory is the count since Linux 6.2; before that it is 0 and entries are counted.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => u64::try_from(fs::read_dir(directory).ok()?.count()).ok(),
        count => Some(count),
    }
}
