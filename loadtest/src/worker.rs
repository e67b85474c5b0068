//! One worker process: signs its links in, sends at the plan's pace, waits until everything has arrived,
//! reads every timeline again, and reports.

use std::io::{BufRead, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::{Context, Result, bail, ensure};
use client::core::SendError;
use client::development::Key;

use crate::churn::Churn;
use crate::clock::{self, Micros};
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::link::Link;
use crate::plan::Plan;
use crate::spec::{Live, Load, Order, Report, Spec};
use crate::tally::Tally;
use crate::usage;

/// Nothing is waited for longer at a time, so that orders are heard.
const TURN_US: u64 = 20_000;
/// What a shell says of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
/// A second reading that makes no progress for so long has come to an end.
const STANDSTILL_US: u64 = 10_000_000;
/// Sends between two looks at the sockets.
const BURST: usize = 64;

/// Does what the spec says; the parent hears how it went.
pub(crate) fn run(spec: &Spec) -> Result<()> {
    match Worker::new(spec).and_then(|mut worker| worker.work()) {
        Err(error) => report(&Report::Failed(format!("{error:#}"))),
        Ok(()) => Ok(()),
    }
}

struct Worker<'a> {
    spec: &'a Spec,
    journal: Option<Rc<Journal>>,
    fleet: Fleet,
    tally: Tally,
    orders: Receiver<Order>,
}

impl<'a> Worker<'a> {
    fn new(spec: &'a Spec) -> Result<Self> {
        let key = Key::read(&spec.key)?;
        let journal = spec.journal.as_ref().map(|dir| Journal::create(dir, spec.first)).transpose()?;
        let journal = journal.map(Rc::new);
        Ok(Self {
            spec,
            fleet: Fleet::new(spec.servers.clone(), key, spec.first, journal.clone())?,
            journal,
            tally: Tally::new(spec.first, spec.load.map_or(0, |load| load.interval_us)),
            orders: listen(),
        })
    }

    fn work(&mut self) -> Result<()> {
        loop {
            match self.order()? {
                Order::Links(links) => self.sign_in(links)?,
                Order::Found => {
                    self.make_groups()?;
                    report(&Report::Founded)?;
                }
                Order::Go => {
                    let load = self.spec.load.context("nothing to send")?;
                    self.load(&load)?;
                }
                // The load was over already.
                Order::Enough => {}
                Order::End => {
                    self.fleet.close();
                    return Ok(());
                }
            }
        }
    }

    /// Lives on until an order comes.
    fn order(&mut self) -> Result<Order> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => return Ok(order),
                Err(TryRecvError::Disconnected) => bail!("nobody to report to"),
                Err(TryRecvError::Empty) => self.turn_until(None)?,
            }
        }
    }

    fn sign_in(&mut self, links: u64) -> Result<()> {
        let until = self.fleet.now().after(self.spec.connect_s * 1_000_000);
        let tally = &mut self.tally;
        let Spec { run, circle, .. } = self.spec;
        self.fleet.grow(run, *circle, links, &mut |link, seen, now| tally.add(link, seen, now))?;
        while !self.fleet.links().iter().all(Link::is_live) {
            self.turn_until(None)?;
            if let Some(why) = &self.tally.over {
                bail!("a link was turned away: {why}");
            }
            if self.fleet.now() > until {
                let live = self.fleet.links().iter().filter(|link| link.is_live()).count();
                bail!("{live} of {links} links signed in within {} s", self.spec.connect_s);
            }
        }
        report(&Report::Live(Live { sign_ins: self.tally.live, pings: self.tally.pings }))
    }

    fn load(&mut self, load: &Load) -> Result<()> {
        let plan = Plan { pairs: self.spec.links / 2, rate: load.rate, duration_us: load.duration_us };
        let start = self.fleet.now();
        let (cpu, live) = (usage::cpu_us(), self.tally.live);
        self.tally.plan = Some((plan, start));
        self.tally.outcome.began_ms = clock::unix_ms();
        self.send_all(&plan, start, load)?;
        report(&Report::Sent)?;
        let sent = self.fleet.now();
        self.run_until(sent.after(load.drain_us), |worker| worker.is_all_there())?;
        self.tally.outcome.drained = self.is_all_there();
        self.tally.outcome.drain_us = self.fleet.now().since(sent);
        self.tally.outcome.reconnects = self.tally.live - live;
        self.tally.outcome.cpu_us = usage::cpu_us().saturating_sub(cpu);
        report(&Report::Drained)?;
        self.read_again(load.drain_us.max(STANDSTILL_US))?;
        self.judge();
        self.journal.as_ref().map_or(Ok(()), |journal| journal.finish(self.spec.links))?;
        report(&Report::Done(Box::new(self.tally.finish())))
    }

    /// Whether everything that was sent has come to whom it is for, and been shown.
    fn is_all_there(&self) -> bool {
        self.tally.is_all_there() && self.fleet.links().iter().all(|link| link.judge().is_shown())
    }

    /// Has the groups made, and waits until every device has heard of its own.
    fn make_groups(&mut self) -> Result<()> {
        if self.spec.circle.group == 0 {
            return Ok(());
        }
        let tally = &mut self.tally;
        self.fleet.found(&mut |link, seen, now| tally.add(link, seen, now))?;
        let are_made = |worker: &Worker<'_>| worker.fleet.links().iter().all(|link| link.judge().has_group());
        self.run_until(self.fleet.now().after(self.spec.connect_s * 1_000_000), are_made)?;
        ensure!(are_made(self), "not every group was made within {} s", self.spec.connect_s);
        Ok(())
    }

    /// Hands every message over when it is due, whatever became of those before it, and ends links meanwhile. Until it
    /// was enough.
    fn send_all(&mut self, plan: &Plan, start: Micros, load: &Load) -> Result<()> {
        let mut number = 0;
        let mut churn = Churn::new(load.churn);
        while number < plan.messages() && !self.tally.outcome.ended_early {
            self.tally.outcome.ended_early = self.orders.try_recv() == Ok(Order::Enough);
            self.turn_until(Some(start.after(plan.turn(number).at_us)))?;
            self.part(&mut churn, start);
            for _ in 0..BURST {
                let turn = plan.turn(number);
                let due = start.after(turn.at_us);
                if number == plan.messages() || due > self.fleet.now() {
                    break;
                }
                self.send(usize::try_from(turn.device)?, due, load.body_bytes)?;
                number += 1;
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, due: Micros, bytes: usize) -> Result<()> {
        let tally = &mut self.tally;
        tally.outcome.late_us_max = tally.outcome.late_us_max.max(self.fleet.now().since(due));
        match self.fleet.send(index, bytes, &mut |link, seen, now| tally.add(link, seen, now)) {
            Ok(copies) => {
                self.tally.outcome.sent += 1;
                self.tally.outcome.copies += copies;
            }
            // The message is left out, so the device's later ones have other indexes than the plan's: the
            // run is invalid as a measurement, and still judged for losses.
            Err(SendError::Full) => self.tally.outcome.overflowed += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Ends the links whose time it is, whichever are signed in.
    fn part(&mut self, churn: &mut Churn, start: Micros) {
        while let Some(how) = churn.next(self.fleet.now().since(start)) {
            let tally = &mut self.tally;
            let index = rand::random_range(0..self.fleet.links().len().max(1));
            let parted = self.fleet.part(index, how, &mut |link, seen, now| tally.add(link, seen, now));
            self.tally.outcome.parted += u64::from(parted);
        }
    }

    /// What is stored must be what was seen. A slow server may take its time: only a standstill ends this early.
    fn read_again(&mut self, patience_us: u64) -> Result<()> {
        // A sign-in under way would end the link of the device that takes this one's place.
        let until = self.fleet.now().after(patience_us);
        self.run_until(until, |worker| worker.fleet.links().iter().all(Link::is_live))?;
        let tally = &mut self.tally;
        self.fleet.read_again(&mut |link, seen, now| tally.add(link, seen, now));
        let is_read = |worker: &Worker<'_>| worker.fleet.links().iter().all(|link| link.judge().is_reread());
        let at = |worker: &Self| worker.fleet.links().iter().map(|link| link.judge().reread()).sum::<u64>();
        loop {
            let (before, until) = (at(self), self.fleet.now().after(patience_us));
            self.run_until(until, is_read)?;
            if is_read(self) || at(self) == before {
                return Ok(());
            }
        }
    }

    fn judge(&mut self) {
        let (links, first) = (self.fleet.links(), self.spec.first);
        let of = |device: u64| {
            let index = usize::try_from(device.checked_sub(first)?).ok()?;
            links.get(index).map(Link::judge)
        };
        for link in links {
            let outcome = &mut self.tally.outcome;
            outcome.violations.add(&link.judge().finish(of));
            let is_first = !self.spec.circle.is_twin(link.number());
            outcome.entries += if is_first { link.judge().known() } else { 0 };
        }
    }

    /// Goes on until a condition holds, at most until then.
    fn run_until(&mut self, until: Micros, holds: impl Fn(&Worker<'_>) -> bool) -> Result<()> {
        while !holds(self) && self.fleet.now() < until {
            self.turn_until(None)?;
        }
        Ok(())
    }

    /// One turn, which ends at `until` or soon.
    fn turn_until(&mut self, until: Option<Micros>) -> Result<()> {
        let soon = self.fleet.now().after(TURN_US);
        let tally = &mut self.tally;
        self.fleet.turn(until.map_or(soon, |until| until.min(soon)), &mut |link, seen, now| {
            tally.add(link, seen, now);
        })
    }
}

/// Orders as they come; the channel ends with the parent.
fn listen() -> Receiver<Order> {
    let (orders, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if orders.send(order).is_err() {
                return;
            }
        }
        // The parent is gone, perhaps in the middle of the load: nobody wants the rest.
        std::process::exit(INTERRUPTED);
    });
    receiver
}

fn report(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report)?)?;
    Ok(out.flush()?)
}
