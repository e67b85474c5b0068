//! What came of the trials.

use std::fmt::{self, Display};
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::trial::Trial;
use super::{INTERVAL, PEACE, Recovery};

/// The 99th percentile is back this long after a fault.
const BACK: Duration = Duration::from_secs(30);
/// The users of a killed logic process are served again within.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// A store that stood for two minutes leaves as much to catch up with.
const BACK_FROM_STANDING: Duration = Duration::from_secs(120);
/// Back is what is at most so many times the worst stretch of peace in the whole run, or as quick as nobody minds.
const BACK_RATIO: f64 = 2.0;
const WELL_MS: f64 = 250.0;
/// During a flood, the 99th percentile of the middle stretch is at most so many times that of the peace between its
/// bursts.
const FLOOD_RATIO: f64 = 1.5;

/// A trial that was. Times are those of day.
#[derive(Clone, Debug)]
pub(super) struct Felt {
    pub(super) trial: Trial,
    pub(super) what: String,
    /// Whether it was all of what it should be: a flood may be smaller where the machine has no room for it.
    pub(super) is_whole: bool,
    /// Each after peace: one, or the bursts of a flood.
    pub(super) times: Vec<Range<Duration>>,
    /// Until when it was left in peace.
    pub(super) left: Duration,
    /// The memory of each server at the most, and what the formula of its settings allows, in bytes.
    pub(super) memory: Vec<(u64, u64)>,
}

/// Figures of a trial, and the verdict.
#[derive(Clone, Debug)]
struct Row {
    felt: Felt,
    /// 99th percentiles in milliseconds: the worst stretch of the peace before, and the worst of what touches the
    /// trial. Of a flood the middle ones: what is worst in a minute is what the disk did in it, flood or not.
    before_ms: f64,
    during_ms: f64,
    /// The longest of all messages from the trial's beginning on.
    longest: Duration,
    /// The 99th percentile was back, and stayed so, this long after; none where it did not.
    back: Option<Duration>,
}

/// What came of all of them.
#[derive(Debug)]
pub struct Report {
    recovery: Recovery,
    /// The 99th percentile of the worst stretch of peace, before whatever trial.
    peace_ms: f64,
    rows: Vec<Row>,
    harness: Value,
    verdict: Value,
}

/// A stretch of the load.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Duration,
    p99_ms: f64,
    max: Duration,
}

impl Stretch {
    fn until(&self) -> Duration {
        self.from + INTERVAL
    }
}

impl Report {
    pub(super) fn new(recovery: &Recovery, felt: Vec<Felt>, harness: Value, verdict: Value) -> Self {
        let stretches = stretches(&harness);
        let last = stretches.last().expect("stretches").from;
        assert!(felt.iter().all(|felt| felt.left < last), "the load ended before the trials did");
        let peace_ms = felt.iter().map(|felt| worst(&p99s(felt.peace(&stretches)))).fold(0.0, f64::max);
        let rows = felt.into_iter().map(|felt| Row::new(felt, &stretches, peace_ms)).collect();
        Self { recovery: recovery.clone(), peace_ms, rows, harness, verdict }
    }

    /// Whether every promise was kept, and every bound: times are of what arrived, so all of it has to have arrived.
    #[must_use]
    pub fn holds(&self) -> bool {
        let (sent, acked) = (&self.verdict["sent"], &self.verdict["acked"]);
        let has_arrived = sent == acked && self.harness["drained"] == true && self.harness["overflowed"] == 0;
        self.verdict["exit"] == 0 && has_arrived && self.rows.iter().all(Row::holds)
    }
}

fn stretches(harness: &Value) -> Vec<Stretch> {
    let began = Duration::from_millis(harness["began_ms"].as_u64().expect("a time"));
    let all = harness["intervals_us"].as_array().expect("stretches").iter().zip(0_u32..);
    let read = |(figures, number): (&Value, u32)| {
        let of = |name: &str| figures[name].as_u64().expect("a figure");
        assert!(of("count") > 0, "no message was due in a stretch");
        Stretch {
            from: began + INTERVAL * number,
            p99_ms: Duration::from_micros(of("p99")).as_secs_f64() * 1e3,
            max: Duration::from_micros(of("max")),
        }
    };
    all.map(read).collect()
}

/// In ascending order.
fn p99s<'a>(stretches: impl Iterator<Item = &'a Stretch>) -> Vec<f64> {
    let mut p99s: Vec<f64> = stretches.map(|at| at.p99_ms).collect();
    p99s.sort_by(f64::total_cmp);
    p99s
}

fn worst(p99s: &[f64]) -> f64 {
    p99s.last().copied().unwrap_or_default()
}

fn middle(p99s: &[f64]) -> f64 {
    p99s.get(p99s.len() / 2).copied().unwrap_or_default()
}

impl Felt {
    /// Of the peace before each time: what had arrived when it began.
    fn peace<'a>(&'a self, stretches: &'a [Stretch]) -> impl Iterator<Item = &'a Stretch> {
        let is_before =
            |at: &Stretch, began: Duration| at.from >= began - PEACE && at.until() + at.max <= began;
        stretches.iter().filter(move |at| self.times.iter().any(|time| is_before(at, time.start)))
    }

    /// That it touches; of a flood, those that are wholly in it.
    fn touched<'a>(&'a self, stretches: &'a [Stretch]) -> impl Iterator<Item = &'a Stretch> {
        let is_touched = |at: &Stretch, time: &Range<Duration>| {
            let is_inside = at.from >= time.start && at.until() <= time.end;
            is_inside || !self.trial.is_flood() && at.until() > time.start && at.from < time.end
        };
        stretches.iter().filter(move |at| self.times.iter().any(|time| is_touched(at, time)))
    }
}

impl Row {
    fn new(felt: Felt, stretches: &[Stretch], peace_ms: f64) -> Self {
        let judged = if felt.trial.is_flood() { middle } else { worst };
        let before_ms = judged(&p99s(felt.peace(stretches)));
        let during_ms = judged(&p99s(felt.touched(stretches)));
        let (began, over) = (felt.times[0].start, felt.times[felt.times.len() - 1].end);
        let later = || stretches.iter().filter(|at| at.until() > began && at.from < felt.left);
        let longest = later().map(|at| at.max).max().unwrap_or_default();
        let is_back = |at: &Stretch| at.p99_ms <= (peace_ms * BACK_RATIO).max(WELL_MS);
        let bad = later().rfind(|at| at.until() <= felt.left && !is_back(at));
        let back = bad.map_or(Duration::ZERO, |at| at.until().saturating_sub(over));
        let stayed = over + back + INTERVAL <= felt.left;
        Self { before_ms, during_ms, longest, back: stayed.then_some(back), felt }
    }

    fn holds(&self) -> bool {
        let Self { felt, before_ms, during_ms, longest, back } = self;
        if !felt.is_whole || felt.memory.iter().any(|(peak, most)| *peak > most + most / 10) {
            return false;
        }
        if felt.trial.is_flood() {
            return *during_ms <= before_ms * FLOOD_RATIO;
        }
        let in_time = if felt.trial == Trial::StoreStands { BACK_FROM_STANDING } else { BACK };
        let is_back = back.is_some_and(|back| back <= in_time);
        is_back && (felt.trial != Trial::LogicGone || *longest <= TAKEN_OVER)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovery { storage, links, rate, .. } = &self.recovery;
        let count = |name: &str| self.verdict[name].as_u64().unwrap_or(0);
        writeln!(f, "# Recovery on {}\n", storage.name())?;
        writeln!(
            f,
            "{links} devices, {rate} messages/s; {} sent, {} acknowledged.",
            count("sent"),
            count("acked")
        )?;
        writeln!(f, "Violations: {}\n", self.verdict["violations"])?;
        writeln!(
            f,
            "In peace, before whatever trial, the worst stretch's p99 was {:.0} ms.\n",
            self.peace_ms
        )?;
        writeln!(
            f,
            "| trial | what | p99 before | during | back after | longest | memory | holds |\n|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.rows {
            let (peak, most) = row
                .felt
                .memory
                .iter()
                .max_by_key(|(peak, most)| peak * 1_000 / most)
                .copied()
                .unwrap_or_default();
            let back = row.back.map_or("not".into(), |back| format!("{:.0} s", back.as_secs_f64()));
            writeln!(
                f,
                "| {:?} | {} | {:.0} ms | {:.0} ms | {back} | {:.1} s | {} of {} MiB | {} |",
                row.felt.trial,
                row.felt.what,
                row.before_ms,
                row.during_ms,
                row.longest.as_secs_f64(),
                peak >> 20,
                most >> 20,
                if row.holds() { "yes" } else { "NO" },
            )?;
        }
        writeln!(
            f,
            "\nLatencies are from intended send to arrival, in stretches of {} s: before, the worst 99th percentile of the \
             {} s of peace before the trial; during, the worst of a stretch that touches it; of a flood, which comes in bursts, the middle one of the peace before them and of all that are wholly in them; back after, the time from its end to the \
             end of the last stretch above {BACK_RATIO} times the worst in peace and {WELL_MS} ms; longest, of any message from its beginning on; memory, of the server that came nearest to what the formula of its settings allows (`godwit config memory`), and that.",
            INTERVAL.as_secs(),
            PEACE.as_secs(),
        )?;
        writeln!(
            f,
            "It holds where a fault's 99th percentile is back within {} s ({} s where the store stood), the users of a killed logic process are served \
             within {} s, a flood's is at most {FLOOD_RATIO} times that before, no memory is a tenth above the formula, and floods were at most a tenth smaller than asked for. Data is on the disk, where an fsync takes its time; who floods runs on the same machine, and gives way to the servers (nice 10).",
            BACK.as_secs(),
            BACK_FROM_STANDING.as_secs(),
            TAKEN_OVER.as_secs(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn row(p99_ms: &[f64]) -> Row {
        row_of(Trial::Storm, p99_ms)
    }

    fn row_of(trial: Trial, p99_ms: &[f64]) -> Row {
        let stretch = |(p99_ms, number): (&f64, u32)| Stretch {
            from: S * 100 + INTERVAL * number,
            p99_ms: *p99_ms,
            max: Duration::from_secs_f64(p99_ms / 1e3),
        };
        let stretches: Vec<_> = p99_ms.iter().zip(0..).map(stretch).collect();
        // Four stretches of peace, two of a fault, and the rest.
        let felt = Felt {
            trial,
            what: String::new(),
            is_whole: true,
            times: vec![S * 120..S * 130],
            left: S * 100 + INTERVAL * u32::try_from(p99_ms.len()).unwrap(),
            memory: vec![(1, 10), (11, 10)],
        };
        let peace_ms = worst(&p99s(felt.peace(&stretches)));
        Row::new(felt, &stretches, peace_ms)
    }

    #[test]
    fn back_is_the_end_of_the_last_bad_stretch() {
        let row = row(&[5.0, 9.0, 150.0, 8.0, 900.0, 500.0, 310.0, 12.0, 301.0, 290.0, 11.0]);
        assert_eq!((row.before_ms, row.during_ms, row.longest), (150.0, 900.0, S * 9 / 10));
        assert_eq!(row.back, Some(S * 15));
        assert!(row.holds());
    }

    #[test]
    fn what_is_bad_until_the_end_is_not_back() {
        let row = row(&[5.0, 9.0, 10.0, 8.0, 900.0, 500.0, 10.0, 12.0, 249.0, 11.0, 251.0]);
        assert!(row.back.is_none() && !row.holds());
    }

    #[test]
    fn a_flood_is_judged_while_it_lasts() {
        let flooded = |during: [f64; 2]| {
            let before = [90.0, 9.0, 10.0, 8.0];
            row_of(Trial::SignIns, &[&before[..], &during, &[30.0, 12.0, 10.0, 11.0, 9.0]].concat())
        };
        assert_eq!((flooded([15.0, 14.0]).before_ms, flooded([15.0, 14.0]).during_ms), (10.0, 15.0));
        assert!(flooded([15.0, 14.0]).holds());
        assert!(!flooded([16.0, 14.0]).holds());
    }

    #[test]
    fn what_waits_through_a_fault_is_no_peace() {
        let row = row(&[5.0, 9.0, 10.0, 20_000.0, 900.0, 500.0, 310.0, 12.0, 10.0, 11.0, 9.0]);
        assert_eq!((row.before_ms, row.back), (10.0, Some(S * 5)));
    }

    #[test]
    fn memory_is_judged_by_the_formula() {
        let mut row = row(&[5.0, 9.0, 10.0, 8.0, 900.0, 500.0, 10.0, 12.0, 10.0, 11.0, 9.0]);
        assert!(row.holds());
        row.felt.memory.push((12, 10));
        assert!(!row.holds());
    }
}
