//! A campaign: a load on real processes, faults of every kind one after the other, and a verdict from what the
//! devices kept of it and nothing else. The seed says which faults, on whom, and for how long.

mod fault;
mod inject;
mod report;
mod step;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::load::{Load, Run};
use crate::stage::{Stage, Storage};
use crate::wait::asked_for;
use fault::Fault;
pub use report::Report;

/// A slow machine takes so many times as long for its faults as it should, at most: the load goes on for them.
const SLOW: u32 = 4;
/// A message that is due is sent so long after, at the most.
const LATE: Duration = Duration::from_secs(2);
/// Everything has to arrive this long after the last send.
const DRAIN: &str = "600s";
/// Before most faults, half of the devices are waited for: one that meets few shows little. They pause for as long as
/// this, at most, before they come again.
const BACK: Duration = Duration::from_secs(20);
/// One fault in so many comes right after the one before.
const TWO_AT_ONCE: u32 = 4;
/// After the last fault, for all of them.
const RESUMED: Duration = Duration::from_secs(60);

/// A link that is silent for so long is given up: [`QUICK`].
const IDLE: Duration = Duration::from_secs(9);

/// Heartbeats of seconds, so that partitions of seconds are found.
const QUICK: [&str; 6] = [
    "--set",
    "conn.heartbeat_min_ms=3000",
    "--set",
    "conn.heartbeat_max_ms=4000",
    "--set",
    "conn.idle_timeout_ms=9000",
];

/// What a campaign consists of.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What the servers stand on.
    pub storage: Storage,
    /// Messages that are sent, over all devices, and more where the faults are not over by then.
    pub messages: u32,
    /// Faults.
    pub faults: u32,
    /// Decides about them.
    pub seed: u64,
    /// Devices; two make a pair.
    pub links: u32,
    /// Messages a second.
    pub rate: u32,
    /// Where everything is kept: data, logs, journals.
    pub dir: PathBuf,
}

impl Campaign {
    /// Messages a second with which the load lasts as long as the faults: one that comes later meets nobody.
    #[must_use]
    pub fn rate(storage: &Storage, messages: u32, faults: u32) -> u32 {
        let fault_s = match storage {
            Storage::Embedded => 4,
            // On two cores six back ends leave little room for more load: they come again more slowly.
            Storage::Cluster { .. } => 10,
        };
        (messages / (faults * fault_s).max(1)).max(1)
    }

    /// Runs it.
    ///
    /// # Panics
    /// The servers do not come back after a fault, or the harness itself fails. What was promised to devices is
    /// judged in the report.
    #[must_use]
    pub fn run(&self) -> Report {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut stage = Stage::start_with_disk(&self.storage, &self.dir, &QUICK);
        let lasts = Duration::from_secs(u64::from(self.messages.div_ceil(self.rate)));
        let load = Load { links: self.links, rate: self.rate, duration: lasts * SLOW };
        let more = ["--drain", DRAIN, "--groups", "10", "--twins"];
        let run = Run::start_with(&self.dir, &stage.data(), &stage.servers(), load, &more);
        run.begins();
        let began = Instant::now();
        let mut report = Report::new(self);
        let mut deck = Vec::new();
        for number in 0..self.faults {
            // Evenly over the load, the last one well before its end.
            let due = lasts.mul_f64(0.95 * f64::from(number) / f64::from(self.faults));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            // Every kind once before any comes again.
            if deck.is_empty() {
                deck = Fault::all(&self.storage);
                deck.shuffle(&mut rng);
            }
            let fault = deck.pop().expect("there are faults");
            if !rng.random_ratio(1, TWO_AT_ONCE) {
                let _ = asked_for(BACK, || stage.has_links(self.links / 2).then_some(()));
            }
            let takes = Duration::from_millis(rng.random_range(fault.lasts_ms()));
            let there = stage.links();
            let suffering = Instant::now();
            let happened = stage.suffer(fault, takes, self.links, &mut rng);
            let healing = Instant::now();
            stage.heal();
            println!(
                "{number}: {there} devices there; {fault:?}, {happened}; over after {:.1} s, and {:.1} s later all is well again",
                (healing - suffering).as_secs_f64(),
                healing.elapsed().as_secs_f64()
            );
            report.happened(fault, &happened, there, healing.elapsed());
        }
        let resuming = Instant::now();
        // Until then links count that no device holds any more.
        std::thread::sleep(IDLE);
        let all = asked_for(RESUMED, || stage.has_links(self.links).then(|| resuming.elapsed()));
        report.resumed(all);
        stage.all_run();
        std::thread::sleep((lasts + LATE).saturating_sub(began.elapsed()));
        report.judged(run.enough().judged());
        report
    }
}
