//! The worker processes of a run: as many as the descriptors of one process ask for, each this program
//! again, told and heard over its standard input and output.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::spec::{Live, Order, Report, Spec};

/// Links of one worker: some machines allow 20,000 descriptors, and no more.
const LINKS_MAX: u64 = 18_000;
/// What a shell says of a process that SIGTERM ended.
const TERMINATED: i32 = 143;

/// The workers. Ends them when dropped.
pub(crate) struct Crew {
    workers: Vec<Worker>,
    /// What each sends, by its place.
    reports: Receiver<(usize, Result<Report>)>,
    links: u64,
}

struct Worker {
    child: Child,
    orders: ChildStdin,
    links: u64,
    /// What it has sent while others were waited for: they go on by themselves, and not at one pace.
    reports: VecDeque<Report>,
}

impl Crew {
    /// Starts workers for so many links, which come in multiples of `unit`; each is given its share of the spec.
    pub(crate) fn start(links: u64, unit: u64, share: impl Fn(u64, u64) -> Spec) -> Result<Crew> {
        let (sender, reports) = channel();
        let mut workers = Vec::new();
        let mut first = 0;
        for links in shares(links, unit) {
            let spec = serde_json::to_string(&share(first, links))?;
            first += links;
            let mut child = Command::new(std::env::current_exe()?)
                .args(["worker", &spec])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let orders = child.stdin.take().context("piped")?;
            let output = child.stdout.take().context("piped")?;
            let (sender, place) = (sender.clone(), workers.len());
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let report = serde_json::from_str(&line).context("a worker's report");
                    if sender.send((place, report)).is_err() {
                        return;
                    }
                }
                // Where the parent still waits, the worker has died.
                drop(sender.send((place, Err(anyhow::anyhow!("a worker ended too early")))));
            });
            workers.push(Worker { child, orders, links, reports: VecDeque::new() });
        }
        Ok(Crew { workers, reports, links })
    }

    /// Has so many links in all signed in.
    pub(crate) fn links(&mut self, links: u64) -> Result<Live> {
        let all = self.links;
        for worker in &mut self.workers {
            tell(&mut worker.orders, Order::Links(worker.links * links / all))?;
        }
        let mut sum = Live::default();
        self.gather(|report| match report {
            Report::Live(live) => {
                sum.sign_ins += live.sign_ins;
                sum.pings += live.pings;
                true
            }
            _ => false,
        })?;
        Ok(sum)
    }

    /// Tells every worker.
    pub(crate) fn order(&mut self, order: Order) -> Result<()> {
        self.workers.iter_mut().try_for_each(|worker| tell(&mut worker.orders, order))
    }

    /// From now on SIGTERM ends the load before its time, and a second one this program.
    pub(crate) fn heed_sigterm(&self) -> Result<()> {
        let orders = |worker: &Worker| worker.orders.as_fd().try_clone_to_owned().map(ChildStdin::from);
        let mut all = self.workers.iter().map(orders).collect::<std::io::Result<Vec<_>>>()?;
        let mut signals = Signals::new([SIGTERM])?;
        std::thread::spawn(move || {
            let mut signals = signals.forever();
            signals.next();
            // A worker that does not listen is missed where its reports are waited for.
            all.iter_mut().for_each(|orders| drop(tell(orders, Order::Enough)));
            signals.next();
            std::process::exit(TERMINATED);
        });
        Ok(())
    }

    /// Waits until every worker has sent its next report, which is wanted; others are a mistake.
    pub(crate) fn gather(&mut self, mut wanted: impl FnMut(Report) -> bool) -> Result<()> {
        while self.workers.iter().any(|worker| worker.reports.is_empty()) {
            let (place, report) = self.reports.recv()?;
            let report = report?;
            if let Report::Failed(why) = report {
                bail!("{why}");
            }
            if let Some(worker) = self.workers.get_mut(place) {
                worker.reports.push_back(report);
            }
        }
        for report in self.workers.iter_mut().filter_map(|worker| worker.reports.pop_front()) {
            ensure!(wanted(report), "a worker reports out of turn");
        }
        Ok(())
    }
}

fn tell(orders: &mut ChildStdin, order: Order) -> Result<()> {
    writeln!(orders, "{}", serde_json::to_string(&order)?).context("a worker does not listen")
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // It may be gone already, which is what is wanted.
            drop(worker.child.kill());
            drop(worker.child.wait());
        }
    }
}

/// Even shares: whoever writes to each other is one worker's.
fn shares(links: u64, unit: u64) -> Vec<u64> {
    let workers = links.div_ceil(LINKS_MAX / unit * unit);
    let units = links.div_ceil(unit);
    let share = |i: u64| unit * (units * (i + 1) / workers - units * i / workers);
    (0..workers).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_multiples_of_a_unit_and_add_up() {
        assert_eq!((shares(2_000, 2), shares(2_000, 10)), (vec![2_000], vec![2_000]));
        for unit in [2, 10, 14] {
            let links = 100_000_u64.next_multiple_of(unit);
            let many = shares(links, unit);
            assert_eq!((many.len(), many.iter().sum::<u64>()), (6, links));
            assert!(many.iter().all(|links| links % unit == 0 && *links <= LINKS_MAX));
        }
    }
}
