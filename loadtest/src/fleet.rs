//! The links of one worker on one epoll: connects, reads, writes and keeps their deadlines. What happens
//! is told to a closure; what is sent is the scenario's business.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, Result};
use client::core::SendError;
use client::development::Key;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::churn::Parting;
use crate::circle::Circle;
use crate::clock::{Clock, Micros};
use crate::journal::Journal;
use crate::link::{Link, Seen};

/// Links that are being made at a time, so that no queue of the server's overflows by our doing.
const SIGNING_IN_MAX: usize = 256;
/// Links that share a source address, because the ports of one are few.
const LINKS_PER_ADDRESS: u64 = 500;
/// Tokens outlive every run.
const TOKEN_LIFE_S: u64 = 24 * 3_600;
const SCRATCH_BYTES: usize = 64 * 1024;
/// What an alarm is rounded to, so that a link has few of them.
const ALARM_US: u64 = 5_000;

/// The links.
pub(crate) struct Fleet {
    clock: Clock,
    poll: Poll,
    events: Events,
    addresses: Vec<SocketAddr>,
    key: Key,
    journal: Option<Rc<Journal>>,
    links: Vec<Link>,
    /// The number of the first link, among all workers' links.
    first: u64,
    scratch: Vec<u8>,
    alarms: BinaryHeap<Reverse<(Micros, usize)>>,
    /// Links that want a connection, and those that have begun one and are not signed in yet.
    waiting: VecDeque<usize>,
    signing_in: Vec<bool>,
    signing_in_count: usize,
}

impl Fleet {
    /// No links yet.
    pub(crate) fn new(
        addresses: Vec<SocketAddr>,
        key: Key,
        first: u64,
        journal: Option<Rc<Journal>>,
    ) -> Result<Self> {
        Ok(Self {
            clock: Clock::start(),
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            addresses,
            key,
            journal,
            links: Vec::new(),
            first,
            scratch: vec![0; SCRATCH_BYTES],
            alarms: BinaryHeap::new(),
            waiting: VecDeque::new(),
            signing_in: Vec::new(),
            signing_in_count: 0,
        })
    }

    /// This moment, on the clock that everything here goes by.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The links, in the order of their numbers.
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// Adds links of a run until there are so many.
    pub(crate) fn grow(
        &mut self,
        run: &str,
        circle: Circle,
        links: u64,
        seen: &mut impl FnMut(&Link, Seen, Micros),
    ) -> Result<()> {
        while (self.links.len() as u64) < links {
            let number = self.first + self.links.len() as u64;
            self.links.push(Link::new(run, circle, number, self.journal.clone())?);
            self.signing_in.push(false);
            self.tend(self.links.len() - 1, seen);
        }
        Ok(())
    }

    /// Has every group made by the device that is to make it.
    pub(crate) fn found(&mut self, seen: &mut impl FnMut(&Link, Seen, Micros)) -> Result<(), SendError> {
        for index in 0..self.links.len() {
            self.links.get_mut(index).map_or(Ok(()), Link::found)?;
            self.tend(index, seen);
        }
        Ok(())
    }

    /// Ends a link that is signed in, if the one of this index is; whether it was. It comes back.
    pub(crate) fn part(
        &mut self,
        index: usize,
        how: Parting,
        seen: &mut impl FnMut(&Link, Seen, Micros),
    ) -> bool {
        let now = self.now();
        let Some(link) = self.links.get_mut(index).filter(|link| link.is_live()) else { return false };
        link.part(now, how);
        self.tend(index, seen);
        true
    }

    /// Has the link of this index send its next message; how many other devices are to see it.
    pub(crate) fn send(
        &mut self,
        index: usize,
        bytes: usize,
        seen: &mut impl FnMut(&Link, Seen, Micros),
    ) -> Result<u64, SendError> {
        let outcome = self.links.get_mut(index).map_or(Err(SendError::Closed), |link| link.send(bytes));
        self.tend(index, seen);
        outcome
    }

    /// Has every link read its timeline again.
    pub(crate) fn read_again(&mut self, seen: &mut impl FnMut(&Link, Seen, Micros)) {
        for index in 0..self.links.len() {
            self.signed_in(index);
            if let Some(link) = self.links.get_mut(index) {
                link.read_again();
            }
            self.tend(index, seen);
        }
    }

    /// Ends every link.
    pub(crate) fn close(&mut self) {
        let now = self.now();
        self.links.iter_mut().for_each(|link| link.close(now));
    }

    /// Waits for something to happen, at most until then, and deals with it.
    pub(crate) fn turn(&mut self, until: Micros, seen: &mut impl FnMut(&Link, Seen, Micros)) -> Result<()> {
        let alarm = self.alarms.peek().map_or(until, |Reverse((at, _))| *at);
        let wait = self.clock.until(alarm.min(until));
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for index in ready {
            self.ready(index, seen);
        }
        self.ring(seen);
        self.dial(seen);
        Ok(())
    }

    fn ready(&mut self, index: usize, seen: &mut impl FnMut(&Link, Seen, Micros)) {
        let now = self.now();
        let Some(link) = self.links.get_mut(index) else { return };
        let key = &self.key;
        let token = |link: &Link| key.token(&link.names().user, &link.names().device, TOKEN_LIFE_S);
        let mut happened = Vec::new();
        link.ready(now, &mut self.scratch, token, &mut |what| happened.push(what));
        self.tell(index, &happened, now, seen);
        self.tend(index, seen);
    }

    /// Lets a link do what it can, and remembers what it waits for.
    fn tend(&mut self, index: usize, seen: &mut impl FnMut(&Link, Seen, Micros)) {
        let now = self.now();
        let Some(link) = self.links.get_mut(index) else { return };
        let mut happened = Vec::new();
        let wants_link = link.turn(now, &mut |what| happened.push(what));
        let due = link.deadline().map(|at| Micros(at.0.max(now.0).next_multiple_of(ALARM_US)));
        if let Some(due) = due.filter(|due| link.alarm.is_none_or(|alarm| *due < alarm)) {
            link.alarm = Some(due);
            self.alarms.push(Reverse((due, index)));
        }
        // Once: a device that begins to read again wants a link while the one before it may wait for one.
        if wants_link && !std::mem::replace(&mut link.waits, true) {
            self.waiting.push_back(index);
        }
        self.tell(index, &happened, now, seen);
    }

    fn tell(
        &mut self,
        index: usize,
        happened: &[Seen],
        now: Micros,
        seen: &mut impl FnMut(&Link, Seen, Micros),
    ) {
        for what in happened {
            if matches!(what, Seen::Live | Seen::Ended | Seen::Over) {
                self.signed_in(index);
            }
            if let Some(link) = self.links.get(index) {
                seen(link, *what, now);
            }
        }
    }

    /// A link no longer counts among those that sign in.
    fn signed_in(&mut self, index: usize) {
        if let Some(signing_in) = self.signing_in.get_mut(index).filter(|signing_in| **signing_in) {
            *signing_in = false;
            self.signing_in_count -= 1;
        }
    }

    /// Tends every link whose time has come.
    fn ring(&mut self, seen: &mut impl FnMut(&Link, Seen, Micros)) {
        let now = self.now();
        while let Some(Reverse((at, index))) =
            self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.alarms.pop();
            let Some(link) = self.links.get_mut(index) else { continue };
            if link.alarm == Some(at) {
                link.alarm = None;
                self.tend(index, seen);
            }
        }
    }

    /// Begins connections, as many as may be under way.
    fn dial(&mut self, seen: &mut impl FnMut(&Link, Seen, Micros)) {
        while self.signing_in_count < SIGNING_IN_MAX
            && let Some(index) = self.waiting.pop_front()
        {
            if let Some(signing_in) = self.signing_in.get_mut(index).filter(|signing_in| !**signing_in) {
                *signing_in = true;
                self.signing_in_count += 1;
            }
            let now = self.now();
            let number = self.first + index as u64;
            let attempt = self.links.get(index).map_or(0, |link| link.attempts);
            let connected = self.connect(number, attempt, index);
            let Some(link) = self.links.get_mut(index) else { continue };
            link.waits = false;
            link.attempts += 1;
            match connected {
                Ok(stream) => link.connecting(now, stream),
                Err(error) => link.connect_failed(now, format!("{error:#}")),
            }
            self.tend(index, seen);
        }
    }

    fn connect(&self, number: u64, attempt: usize, index: usize) -> Result<TcpStream> {
        let turn = usize::try_from(number)?.wrapping_add(attempt) % self.addresses.len().max(1);
        let address = *self.addresses.get(turn).context("no address")?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            socket.bind(&SocketAddr::from((source(number)?, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }
}

/// EINPROGRESS on Linux: the connection is being made.
const IN_PROGRESS: i32 = 115;

/// The address that a link comes from: 127.1.0.1 and up.
fn source(number: u64) -> Result<Ipv4Addr> {
    let block = u16::try_from(number / LINKS_PER_ADDRESS + 1).context("too many links")?;
    let [high, low] = block.to_be_bytes();
    Ok(Ipv4Addr::new(127, 1, high, low))
}
