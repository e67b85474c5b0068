//! What devices feel of a fault, and when it is over: one steady load, one trial after the other with peace between
//! them, and the harness's latencies before, during and after each.

mod flood;
mod report;
mod trial;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::load::{Load, Run};
use crate::process::forget_peak;
use crate::stage::{Stage, Storage};
use crate::wait::within;
use report::Felt;
pub use report::Report;
use trial::Trial;

/// Latencies are judged in stretches of this length.
const INTERVAL: Duration = Duration::from_secs(5);
/// Before a trial, and before every burst of a flood: what they are compared with.
const PEACE: Duration = Duration::from_secs(20);
/// Before the first trial: caches fill, virtual machines compile.
const WARM_UP: Duration = Duration::from_secs(30);
/// And until what was to stay away is there again.
const BACK_AGAIN: Duration = Duration::from_secs(10);
/// All devices are there again within.
const THERE: Duration = Duration::from_secs(120);

/// What is loaded, and how much.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What the servers stand on.
    pub storage: Storage,
    /// Devices; two make a pair.
    pub links: u32,
    /// Messages a second.
    pub rate: u32,
    /// Connections, and sign-ins, a second of a flood.
    pub flood: u32,
    /// The trials by name; all of them where there is none.
    pub only: Vec<String>,
    /// Where everything is kept: data, logs, journals.
    pub dir: PathBuf,
}

impl Recovery {
    /// Runs every trial.
    ///
    /// # Panics
    /// The servers do not come back, or the harness itself fails.
    #[must_use]
    pub fn run(&self) -> Report {
        let trials = self.trials();
        let mut stage = Stage::start(&self.storage, &self.dir, &[]);
        let takes = |trial: &Trial| {
            (trial.is_after_peace() + trial.takes()) * trial.times() + trial.is_watched() + BACK_AGAIN
        };
        let duration = WARM_UP + trials.iter().map(takes).sum::<Duration>();
        let load = Load { links: self.links, rate: self.rate, duration };
        let every = format!("{}s", INTERVAL.as_secs());
        let more = ["--drain", "600s", "--interval", &every];
        let run = Run::start_with(&self.dir, &stage.data(), &stage.servers(), load, &more);
        within(THERE, "the links are there", || stage.has_links(self.links).then_some(()));
        std::thread::sleep(WARM_UP);
        let felt = trials.into_iter().map(|trial| self.felt(&mut stage, trial)).collect();
        stage.all_run();
        let (harness, verdict) = run.judged();
        Report::new(self, felt, harness, verdict)
    }

    fn trials(&self) -> Vec<Trial> {
        let mut trials = Trial::all(&self.storage);
        if !self.only.is_empty() {
            let name = |trial: &Trial| format!("{trial:?}");
            let unknown = self.only.iter().find(|only| !trials.iter().any(|trial| name(trial) == **only));
            assert!(unknown.is_none(), "no trial {unknown:?}; there are {trials:?}");
            trials.retain(|trial| self.only.contains(&name(trial)));
        }
        trials
    }

    fn felt(&self, stage: &mut Stage, trial: Trial) -> Felt {
        pids(stage).into_iter().for_each(forget_peak);
        let (mut what, mut is_whole, mut times) = (String::new(), true, Vec::new());
        for _ in 0..trial.times() {
            std::thread::sleep(trial.is_after_peace());
            let (began, was_whole);
            (began, (what, was_whole)) = (now(), trial.happens(stage, self.flood));
            let over = now();
            println!("{trial:?}: {what}; {:.1} s", (over - began).as_secs_f64());
            times.push(began..over);
            is_whole &= was_whole;
        }
        std::thread::sleep(trial.is_watched());
        let left = now();
        trial.is_undone(stage);
        let memory =
            stage.servers.iter().map(|server| (server.peak_bytes(), server.memory_bytes_max())).collect();
        within(THERE, "the links are there", || stage.has_links(self.links).then_some(()));
        Felt { trial, what, is_whole, times, left, memory }
    }
}

/// Of every server.
fn pids(stage: &mut Stage) -> Vec<u32> {
    stage.servers.iter_mut().map(|server| server.process().id()).collect()
}

/// The time of day: the harness, another process, is asked by it.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
