//! What came of a soak.

use std::fmt::{self, Display};

use serde_json::Value;

use super::Soak;
use super::sample::{Descriptors, Sample};
use super::verdict::{self, Finding};

/// Samples in the table, about.
const ROWS: usize = 24;
const MIB: f64 = 1_048_576.0;

/// Findings and samples.
#[derive(Debug)]
pub struct Report {
    soak: Soak,
    samples: Vec<Sample>,
    load: Value,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(
        soak: &Soak,
        samples: &[Sample],
        before: Descriptors,
        after: Descriptors,
        load: Value,
    ) -> Self {
        let warm: Vec<Sample> =
            samples.iter().filter(|sample| sample.at >= soak.warm_up()).cloned().collect();
        let mut findings = vec![verdict::promises(&load), verdict::descriptors(before, after)];
        if soak.shows_growth() {
            findings.extend([
                verdict::held(&warm),
                verdict::memory(&warm),
                verdict::disk(&warm, &load),
                verdict::log(&warm),
            ]);
        }
        Self { soak: soak.clone(), samples: samples.to_vec(), load, findings }
    }

    /// Whether everything holds that was judged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.holds)
    }

    /// A line for each thing that does not hold.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let failed = self.findings.iter().filter(|finding| !finding.holds);
        failed.map(|finding| format!("not so: {}: {}", finding.what, finding.text)).collect()
    }

    /// What the harness counted.
    #[must_use]
    pub fn load(&self) -> &Value {
        &self.load
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Soak { duration, links, rate, churn, .. } = &self.soak;
        let minutes = duration.as_secs_f64() / 60.0;
        writeln!(f, "# Soak on embedded, {minutes:.1} minutes\n")?;
        writeln!(
            f,
            "{links} devices in groups of ten, in each two users with two devices; {rate} messages/s, every fifth to a \
             group; {churn} links a second end (closed, reset, or left standing) and come back.\n"
        )?;
        match self.soak.settings.is_empty() {
            true => writeln!(f, "Built-in settings.\n")?,
            false => writeln!(f, "Built-in settings, but for {}.\n", self.soak.settings.join(", "))?,
        }
        let count = |name: &str| self.load[name].as_u64().unwrap_or(0);
        writeln!(
            f,
            "{} messages sent, {} acknowledged, received {} times by other devices, {} entries in timelines; {} links \
             ended on purpose, {} sign-ins after the first.\n",
            count("sent"),
            count("acked"),
            count("received"),
            count("entries"),
            count("parted"),
            count("reconnects"),
        )?;
        writeln!(f, "| judged | holds | figures |\n|---|---|---|")?;
        for Finding { what, holds, text } in &self.findings {
            writeln!(f, "| {what} | {} | {text} |", if *holds { "yes" } else { "NO" })?;
        }
        match self.soak.shows_growth() {
            true => {
                let minutes = self.soak.warm_up().as_secs_f64() / 60.0;
                writeln!(f, "\nGrowth is judged from minute {minutes:.0} on.")?;
            }
            false => writeln!(f, "\nToo short to judge growth.")?,
        }
        self.table(f)?;
        writeln!(f, "\n{}", if self.is_clean() { "Clean." } else { "NOT CLEAN." })
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| minute | messages | RssAnon, MiB | allocated | of it cache | memtables | sockets | data files | disk, MiB | log | journals |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        let step = self.samples.len().div_ceil(ROWS).max(1);
        for sample in self.samples.iter().step_by(step) {
            writeln!(f, "{}", sample.line())?;
        }
        Ok(())
    }
}

impl Sample {
    /// As a row of the table.
    pub(super) fn line(&self) -> String {
        #[allow(clippy::cast_precision_loss, reason = "bytes on a disk are far below 2^52")]
        let mib = |bytes: u64| bytes as f64 / MIB;
        format!(
            "| {:.1} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {:.0} | {:.0} | {:.0} |",
            self.at.as_secs_f64() / 60.0,
            self.messages,
            self.rss_kib / 1024.0,
            self.allocated_kib / 1024.0,
            self.cache_kib / 1024.0,
            self.memtables_kib / 1024.0,
            self.descriptors.sockets,
            self.descriptors.files,
            mib(self.disk.total),
            mib(self.disk.log),
            mib(self.disk.journals),
        )
    }
}
