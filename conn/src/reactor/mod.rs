//! A reactor: one thread, one listener, its own links. Edge-triggered; waits in one place, and everything
//! else is bounded, so that a turn is.
//!
//! It decides nothing about what devices may do (that is `session`), holds no lock while it works, and
//! shares nothing but what comes through its mailbox.

mod accept;
mod act;
mod drain;
mod flush;
mod mail;
mod read;
mod shed;
mod timers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use proto::partition::Partition;
use storage::log::Partitions;
use tokio::sync::mpsc;

use crate::call::CallRequest;
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::cursors::Cursors;
use crate::downlink::Downlink;
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::Metrics;
use crate::outbox::{Caps, Spare};
use crate::session::{Action, Rules};
use crate::table::Table;
use crate::uplink::Uplink;
use crate::verify::Pool;
use crate::wheel::Wheel;
use act::Appends;
use drain::{Drain, Sweep};

const LISTENER: Token = Token(usize::MAX);
pub(crate) const MAILBOX: Token = Token(usize::MAX - 1);
/// Edges of one turn.
const EVENTS_MAX: usize = 1024;
/// Bytes that one link is read in one turn.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The longest wait: figures are published at least this often.
const WAIT_MS_MAX: u64 = 1_000;

/// What the reactors of a process share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) partitions: Partitions,
    pub(crate) uplink: Uplink,
    pub(crate) downlink: Downlink,
    pub(crate) pool: Pool,
    pub(crate) calls: mpsc::Sender<CallRequest>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// Links, by reactor.
    pub(crate) links: Box<[AtomicU64]>,
}

pub(crate) struct Reactor {
    number: u8,
    parts: Arc<Parts>,
    poll: Poll,
    events: Events,
    /// None once the node drains.
    listener: Option<TcpListener>,
    /// The listener has links to accept, as far as is known.
    acceptable: bool,
    /// No accept before this, because there were no descriptors, in ms.
    accept_ms: u64,
    /// Nothing is logged about that before this, in ms.
    accept_said_ms: u64,
    now: Now,

    table: Table,
    wheel: Wheel,
    rules: Rules,
    caps: Caps,
    /// Links to be read.
    ready: VecDeque<u32>,
    /// Links to be flushed.
    dirty: VecDeque<u32>,
    /// Links that are not read until the log takes records again.
    held: Vec<u64>,
    /// Links that are not signed in, by address.
    guests: HashMap<IpAddr, u32>,
    /// Outboxes to be used again.
    spare: Spare,
    /// Bytes of partial frames and outboxes.
    buffered: usize,
    scratch: Box<[u8]>,
    actions: Vec<Action>,
    due: Vec<u32>,

    mailbox: Arc<Mailbox>,
    inbox: VecDeque<Mail>,
    missed: HashMap<u64, u64>,
    /// Links that are gone and were signed off lately, and since when they are kept.
    signed_off: HashSet<u64>,
    signed_off_ms: u64,
    /// The highest term of each partition that was seen here.
    terms: Box<[u64]>,
    /// Partitions whose stream ended in this turn.
    lost: Vec<Partition>,
    cursors: Cursors,
    appends: Appends,
    sweep: Option<Sweep>,
    drain: Option<Drain>,
    stopped: bool,
    tally: Tally,
}

/// Counts of one turn.
#[derive(Debug, Default)]
struct Tally {
    frames_in: u64,
    frames_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    written: u64,
    marked: u64,
    queued: u64,
    refused: u64,
    landed: u64,
    failed: u64,
    published_ms: u64,
}

impl Reactor {
    pub(crate) fn new(
        number: u8,
        poll: Poll,
        mut listener: TcpListener,
        mailbox: Arc<Mailbox>,
        parts: Arc<Parts>,
    ) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let now = parts.clock.now();
        let config = &parts.config;
        let timelines = usize::try_from(parts.partitions.timelines).unwrap_or(0);
        let reactors = usize::try_from(config.reactors).unwrap_or(1);
        Ok(Self {
            number,
            events: Events::with_capacity(EVENTS_MAX),
            listener: Some(listener),
            acceptable: false,
            accept_ms: 0,
            accept_said_ms: 0,
            now,
            table: Table::new(config.links_max.div_ceil(reactors)),
            wheel: Wheel::new(now.ms),
            rules: rules(config, parts.partitions, number),
            caps: Caps { high: config.outbox_high_bytes, max: config.outbox_bytes_max },
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            held: Vec::new(),
            guests: HashMap::new(),
            spare: Spare::default(),
            buffered: 0,
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            actions: Vec::new(),
            due: Vec::new(),
            mailbox,
            inbox: VecDeque::new(),
            missed: HashMap::new(),
            signed_off: HashSet::new(),
            signed_off_ms: 0,
            terms: vec![0; timelines].into_boxed_slice(),
            lost: Vec::new(),
            cursors: Cursors::new(config.cursors_every_ms, now.ms),
            appends: Appends::new(config.appends_max / reactors),
            sweep: None,
            drain: None,
            stopped: false,
            tally: Tally::default(),
            poll,
            parts,
        })
    }

    /// Turns until it is told to stop.
    pub(crate) fn run(mut self) {
        while !self.stopped {
            self.wait();
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.collect_edges();
        self.accept();
        self.take_mail();
        self.read_ready();
        self.fire_deadlines();
        self.save_cursors();
        self.go_on_sweeping();
        self.go_on_draining();
        self.flush_dirty();
        self.shed();
        self.publish();
    }

    fn wait(&mut self) {
        let timeout = Duration::from_millis(self.quiet_ms());
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            tracing::error!(%error, "polling failed");
        }
        self.now = self.parts.clock.now();
    }

    fn collect_edges(&mut self) {
        for event in &self.events {
            match event.token() {
                LISTENER => self.acceptable = true,
                MAILBOX => {}
                Token(slot) => {
                    let Ok(slot) = u32::try_from(slot) else { continue };
                    let Some(link) = self.table.get_mut(slot) else { continue };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        link.readable = true;
                        enqueue(&mut self.ready, slot, &mut link.queued);
                    }
                    if event.is_writable() {
                        link.blocked = false;
                        if link.outbox.is_some() {
                            enqueue(&mut self.dirty, slot, &mut link.dirty);
                        }
                    }
                }
            }
        }
    }

    /// How long there is nothing to do, in ms.
    fn quiet_ms(&self) -> u64 {
        let busy = !self.ready.is_empty() || !self.inbox.is_empty() || self.sweep.is_some();
        if busy || (self.acceptable && self.accept_ms <= self.now.ms) {
            return 0;
        }
        let mut quiet = self.wheel.quiet_ms(self.now.ms, WAIT_MS_MAX);
        if self.acceptable {
            quiet = quiet.min(self.accept_ms - self.now.ms);
        }
        if self.appends.full || self.drain.is_some() {
            quiet = quiet.min(10);
        }
        quiet.min(self.cursors.next_ms().saturating_sub(self.now.ms))
    }

    fn publish(&mut self) {
        let (metrics, tally) = (&self.parts.metrics, &mut self.tally);
        let links = u64::try_from(self.table.len()).unwrap_or(u64::MAX);
        if let Some(shown) = self.parts.links.get(usize::from(self.number)) {
            let before = shown.swap(links, Ordering::Relaxed);
            metrics.links.inc_by(links.cast_signed() - before.cast_signed());
        }
        metrics.frames_in.inc_by(std::mem::take(&mut tally.frames_in));
        metrics.frames_out.inc_by(std::mem::take(&mut tally.frames_out));
        metrics.bytes_in.inc_by(std::mem::take(&mut tally.bytes_in));
        metrics.bytes_out.inc_by(std::mem::take(&mut tally.bytes_out));
        metrics.push("written", std::mem::take(&mut tally.written));
        metrics.push("marked", std::mem::take(&mut tally.marked));
        metrics.append("queued", std::mem::take(&mut tally.queued));
        metrics.append("refused", std::mem::take(&mut tally.refused));
        metrics.append("landed", std::mem::take(&mut tally.landed));
        metrics.append("failed", std::mem::take(&mut tally.failed));
        let end = self.parts.clock.now();
        metrics
            .turn
            .observe(Duration::from_micros(end.wall_us.saturating_sub(self.now.wall_us)).as_secs_f64());
        if end.ms >= tally.published_ms + WAIT_MS_MAX {
            tally.published_ms = end.ms;
            let reactor = u32::from(self.number);
            metrics.queue(reactor, "mailbox", self.mailbox.depth());
            metrics.queue(reactor, "appends", self.appends.depth());
            metrics.queue(reactor, "buffered_bytes", (self.buffered, self.parts.config.buffered_bytes_max));
            metrics.queue(reactor, "links", self.table.depth());
        }
    }
}

/// Puts a link on a list that it is not on.
fn enqueue(list: &mut VecDeque<u32>, slot: u32, on_it: &mut bool) {
    if !*on_it {
        *on_it = true;
        list.push_back(slot);
    }
}

/// From a Sync to the owner's answer, in ms: less than the 15 s after which devices ask again.
const SYNC_TIMEOUT_MS: u64 = 10_000;

fn rules(config: &Config, partitions: Partitions, number: u8) -> Rules {
    let frame_cost_us = 1_000_000 / u64::from(config.frames_per_s.max(1));
    Rules {
        node: config.node.clone(),
        incarnation: 0,
        reactor: u32::from(number),
        partitions,
        unauthenticated_ms: config.unauthenticated_timeout_ms,
        sign_in_ms: config.sign_in_timeout_ms,
        idle_ms: config.idle_timeout_ms,
        sync_ms: SYNC_TIMEOUT_MS,
        heartbeat_ms: (config.heartbeat_min_ms, config.heartbeat_max_ms),
        frame_cost_us,
        burst_us: frame_cost_us.saturating_mul(u64::from(config.frames_burst)),
        calls_max: config.calls_max,
        group_members_max: config.group_members_max,
    }
}
