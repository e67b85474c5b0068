//! Accepting links: a budget for each turn, a cap for each address, and a pause where descriptors end.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::{Interest, Token};
use proto::close::Close;
use proto::frame;
use proto::v1::{self, server_frame};
use rustix::process::{Resource, getrlimit};

use super::Reactor;
use crate::session::Session;
use crate::table::{Guest, Link};

/// Links accepted in one turn.
const BUDGET: usize = 256;
/// Links that wait to be accepted, at the most: what comes while they are turned away is closed with the listener.
const WAITING_MAX: usize = 8_192;
/// Descriptors that links leave to everything else, or a quarter of all where there are few: the log and the tables
/// must be able to open files, whoever connects.
const RESERVED: u64 = 256;
/// How long no link is accepted after descriptors or memory ran out, in ms.
const PAUSE_MS: u64 = 100;
/// How long the log does not say so again, in ms.
const SAID_AGAIN_MS: u64 = 10_000;

impl Reactor {
    pub(super) fn accept(&mut self) {
        self.accept_up_to(BUDGET);
    }

    fn accept_up_to(&mut self, count: usize) {
        for _ in 0..count {
            if !self.acceptable || self.now.ms < self.accept_ms {
                return;
            }
            self.accept_one();
        }
    }

    /// Takes every waiting link, to turn it away, and closes the listener.
    pub(super) fn close_listener(&mut self) {
        self.acceptable = true;
        self.accept_up_to(WAITING_MAX);
        if let Some(mut listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(&mut listener);
        }
        self.acceptable = false;
    }

    fn accept_one(&mut self) {
        let Some(listener) = &self.listener else {
            self.acceptable = false;
            return;
        };
        match listener.accept() {
            Ok((stream, address)) => self.admit(stream, network(address.ip())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
            // Of the one link that was to be accepted.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                self.say(&error);
                self.parts.metrics.accept("paused");
                self.accept_ms = self.now.ms + PAUSE_MS;
            }
        }
    }

    /// Links are not accepted. Said once in a while: it may go on for long.
    fn say(&mut self, error: &dyn Display) {
        if self.now.ms >= self.accept_said_ms {
            tracing::warn!(%error, "a link is not accepted, and perhaps the next ones");
            self.accept_said_ms = self.now.ms + SAID_AGAIN_MS;
        }
    }

    fn admit(&mut self, mut stream: TcpStream, address: IpAddr) {
        let refusal = if self.drain.is_some() || self.rules.incarnation == 0 {
            Some((Close::GoingAway, "not_ready"))
        } else if self
            .guests
            .get(&address)
            .is_some_and(|n| *n >= self.parts.config.unauthenticated_per_address_max)
        {
            Some((Close::Overloaded, "too_many_of_address"))
        } else if self.table.is_full() {
            Some((Close::Overloaded, "full"))
        } else if is_reserved(&stream) {
            self.say(&"every descriptor is in use, but for those that are reserved");
            Some((Close::Overloaded, "no_descriptors"))
        } else {
            None
        };
        if let Some((close, outcome)) = refusal {
            self.parts.metrics.accept(outcome);
            return turn_away(&mut stream, close);
        }
        let _ = stream.set_nodelay(true);
        let guest = Some(Box::new(Guest { address, bytes: 0 }));
        let now = self.now;
        let slot = self.table.insert(|number| Link::new(stream, Session::new(number, now), guest));
        let Some(slot) = slot else { return };
        *self.guests.entry(address).or_default() += 1;
        self.parts.metrics.accept("accepted");
        self.register(slot);
    }

    fn register(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        let token = Token(usize::try_from(slot).unwrap_or(usize::MAX));
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut link.stream, token, interest) {
            Ok(()) => self.arm(slot),
            Err(error) => {
                tracing::warn!(%error, "a link cannot be polled");
                self.accept_ms = self.now.ms + PAUSE_MS;
                self.remove(slot);
            }
        }
    }

    /// A link is a guest no more: it signed in, or it went.
    pub(super) fn forget_guest(&mut self, address: IpAddr) {
        if let Some(count) = self.guests.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.guests.remove(&address);
            }
        }
    }
}

/// What counts as one address: of IPv6, the network that one subscriber has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

/// Whether a link has one of the last descriptors. The lowest free one is always given first.
fn is_reserved(stream: &TcpStream) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return false };
    u64::try_from(stream.as_raw_fd()).is_ok_and(|fd| fd >= limit - RESERVED.min(limit / 4))
}

/// Says why, as far as the socket takes it at once.
fn turn_away(stream: &mut TcpStream, close: Close) {
    let kick = v1::Kick { code: close.number(), reason: close.name().into(), after_ms: close.after_ms() };
    let frame = v1::ServerFrame { reply_to: 0, frame: Some(server_frame::Frame::Kick(kick)) };
    let _ = stream.write(&frame::to_bytes(&frame));
    let _ = stream.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_counts_as_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
