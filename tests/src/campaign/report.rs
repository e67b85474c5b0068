//! What came of a campaign.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use serde_json::Value;

use super::Campaign;
use super::fault::Fault;
use super::inject::Happened;

/// Counts, times and the verdict.
#[derive(Debug)]
pub struct Report {
    campaign: Campaign,
    faults: BTreeMap<Fault, Faults>,
    leaders_moved: usize,
    /// Devices that were signed in when a fault began, over all faults.
    there: f64,
    verdict: Value,
    /// From the end of the last fault until every device was there; none where not all of them were seen.
    resumed: Option<Duration>,
    harness: Value,
}

/// Those of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    count: u32,
    felt: u32,
    /// The longest time until everything said that it was ready again.
    longest: Duration,
}

impl Report {
    pub(super) fn new(campaign: &Campaign) -> Self {
        Self {
            campaign: campaign.clone(),
            faults: BTreeMap::new(),
            leaders_moved: 0,
            there: 0.0,
            verdict: Value::Null,
            resumed: None,
            harness: Value::Null,
        }
    }

    pub(super) fn happened(&mut self, fault: Fault, how: &Happened, there: f64, healed: Duration) {
        self.there += there;
        let faults = self.faults.entry(fault).or_default();
        faults.count += 1;
        faults.felt += u32::from(how.is_felt);
        faults.longest = healed.max(faults.longest);
        self.leaders_moved += how.leaders_moved;
    }

    /// So long after the last fault every device was there again, if it was seen.
    pub(super) fn resumed(&mut self, after: Option<Duration>) {
        self.resumed = after;
    }

    /// What the harness says of times, and the checker of promises.
    pub(super) fn judged(&mut self, (harness, verdict): (Value, Value)) {
        (self.harness, self.verdict) = (harness, verdict);
    }

    /// Whether every promise was kept, everything sent was acknowledged and arrived, every device came back, and nearly
    /// every fault was felt.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let (sent, acked) = (self.count("sent"), self.count("acked"));
        let felt: u32 = self.faults.values().map(|faults| faults.felt).sum();
        let is_whole =
            acked == sent && sent >= u64::from(self.campaign.messages) && self.harness["drained"] == true;
        let are_felt = felt * 10 >= self.campaign.faults * 9;
        self.verdict["exit"] == 0 && is_whole && self.resumed.is_some() && are_felt
    }

    fn count(&self, name: &str) -> u64 {
        self.verdict[name].as_u64().unwrap_or(0)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Campaign { storage, messages, faults, seed, links, rate, .. } = &self.campaign;
        writeln!(f, "# Campaign on {}, seed {seed}\n", storage.name())?;
        writeln!(f, "{messages} messages of {links} devices at {rate}/s, {faults} faults.\n")?;
        writeln!(f, "{} sent, {} acknowledged.", self.count("sent"), self.count("acked"))?;
        writeln!(f, "Violations: {}\n", self.verdict["violations"])?;
        let seconds = |us: &Value| us.as_f64().unwrap_or(f64::NAN) / 1e6;
        let time = |name: &str| seconds(&self.harness["end_to_end_us"][name]);
        writeln!(f, "{} links were lost and made again.", self.harness["reconnects"])?;
        let there = self.there / f64::from((*faults).max(1));
        writeln!(f, "When a fault began, {there:.0} devices were signed in, on the average.")?;
        match self.resumed {
            Some(after) => {
                writeln!(
                    f,
                    "After the last fault every device was there within {:.1} s.",
                    after.as_secs_f64()
                )?;
            }
            None => writeln!(f, "After the last fault not every device was seen again.")?,
        }
        if self.leaders_moved > 0 {
            writeln!(
                f,
                "{} times a partition of the log had another leader by a fault.",
                self.leaders_moved
            )?;
        }
        writeln!(
            f,
            "Everything had arrived {:.1} s after the last send.",
            seconds(&self.harness["drain_us"])
        )?;
        writeln!(f, "From intended send to arrival, all faults included:")?;
        writeln!(f, "p50 {:.2} s, p99 {:.2} s, at most {:.2} s.\n", time("p50"), time("p99"), time("max"))?;
        writeln!(f, "| fault | count | felt | longest until ready again |\n|---|---|---|---|")?;
        for (fault, Faults { count, felt, longest }) in &self.faults {
            writeln!(f, "| {fault:?} | {count} | {felt} | {:.1} s |", longest.as_secs_f64())?;
        }
        writeln!(f, "\n{}", if self.is_clean() { "Clean." } else { "NOT CLEAN." })
    }
}
