//! What came of a campaign.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use serde_json::Value;

use super::Campaign;
use super::fault::Fault;

/// Counts, times and the verdict.
#[derive(Debug)]
pub struct Report {
    campaign: Campaign,
    /// By kind: how many, and the longest time until all was well again.
    faults: BTreeMap<Fault, (u32, Duration)>,
    verdict: Value,
    /// From the end of the last fault until every device was there; none where the load ended before.
    resumed: Option<Duration>,
    harness: Value,
}

impl Report {
    pub(super) fn new(campaign: &Campaign) -> Self {
        Self {
            campaign: campaign.clone(),
            faults: BTreeMap::new(),
            verdict: Value::Null,
            resumed: None,
            harness: Value::Null,
        }
    }

    pub(super) fn happened(&mut self, fault: Fault, healed: Duration) {
        let (count, longest) = self.faults.entry(fault).or_default();
        *count += 1;
        *longest = healed.max(*longest);
    }

    /// So long after the last fault every device was there again, if it was seen.
    pub(super) fn resumed(&mut self, after: Option<Duration>) {
        self.resumed = after;
    }

    /// What the harness says of times, and the checker of promises.
    pub(super) fn judged(&mut self, (harness, verdict): (Value, Value)) {
        (self.harness, self.verdict) = (harness, verdict);
    }

    /// Whether every promise was kept, and enough was acknowledged to say so.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let acked = self.verdict["acked"].as_u64().unwrap_or(0);
        self.verdict["exit"] == 0 && acked >= u64::from(self.campaign.messages) * 99 / 100
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Campaign { storage, messages, faults, seed, links, rate, .. } = &self.campaign;
        writeln!(f, "# Campaign on {}, seed {seed}\n", storage.name())?;
        writeln!(f, "{messages} messages of {links} devices at {rate}/s, {faults} faults.\n")?;
        let count = |name: &str| self.verdict[name].as_u64().unwrap_or(0);
        writeln!(f, "{} sent, {} acknowledged.", count("sent"), count("acked"))?;
        writeln!(f, "Violations: {}\n", self.verdict["violations"])?;
        let seconds = |us: &Value| us.as_f64().unwrap_or(f64::NAN) / 1e6;
        let time = |name: &str| seconds(&self.harness["end_to_end_us"][name]);
        writeln!(f, "{} links were lost and made again.", self.harness["reconnects"])?;
        if let Some(resumed) = self.resumed {
            writeln!(
                f,
                "After the last fault every device was there within {:.1} s.",
                resumed.as_secs_f64()
            )?;
        }
        writeln!(
            f,
            "Everything had arrived {:.1} s after the last send.",
            seconds(&self.harness["drain_us"])
        )?;
        writeln!(f, "From intended send to arrival, all faults included:")?;
        writeln!(f, "p50 {:.2} s, p99 {:.2} s, at most {:.2} s.\n", time("p50"), time("p99"), time("max"))?;
        writeln!(f, "| fault | count | longest until ready again |\n|---|---|---|")?;
        for (fault, (count, longest)) in &self.faults {
            writeln!(f, "| {fault:?} | {count} | {:.1} s |", longest.as_secs_f64())?;
        }
        writeln!(f, "\n{}", if self.is_clean() { "Clean." } else { "NOT CLEAN." })
    }
}
