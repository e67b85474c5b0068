//! The links of a reactor: a slab in pieces, so that it grows without moving anything.
//!
//! A link's number is `counter << 24 | slot`: never reused, rising within the reactor, and its slot is found
//! without looking. The number is the slot's generation.

use std::io;
use std::net::IpAddr;

use mio::net::TcpStream;

use crate::outbox::{Flushed, Outbox};
use crate::session::Session;

const SLOT_BITS: u32 = 24;
const PIECE: usize = 1024;

/// A link: its socket, its session, and what is under way in either direction.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) session: Session,
    /// Bytes of a frame that is not whole, or that waits until it may be read.
    pub(crate) partial: Option<Box<Partial>>,
    /// Kept only while something waits.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// Kept until the token is verified.
    pub(crate) guest: Option<Box<Guest>>,
    /// When a link that is closing is dropped, in ms; 0 while it is not closing.
    pub(crate) drop_ms: u64,
    /// It signed in, and counts among those that have.
    pub(crate) live: bool,
    /// An edge said so, and no read has said WouldBlock since.
    pub(crate) readable: bool,
    /// On the ready list.
    pub(crate) queued: bool,
    /// On the list of links to flush.
    pub(crate) dirty: bool,
    /// Not read until the log takes records again.
    pub(crate) held: bool,
    /// The last write said WouldBlock, and no edge has said otherwise since.
    pub(crate) blocked: bool,
    /// Nothing more is to be written: the other side is to notice.
    pub(crate) shut: bool,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, session: Session, guest: Option<Box<Guest>>) -> Self {
        Self {
            stream,
            session,
            partial: None,
            outbox: None,
            guest,
            drop_ms: 0,
            live: false,
            readable: false,
            queued: false,
            dirty: false,
            held: false,
            blocked: false,
            shut: false,
        }
    }

    /// Writes what waits, as far as the socket takes it at once, and takes it off `buffered`.
    pub(crate) fn write_out(&mut self, buffered: &mut usize) -> Option<io::Result<Flushed>> {
        let outbox = self.outbox.as_mut().filter(|_| !self.blocked)?;
        let before = outbox.bytes();
        let flushed = outbox.flush(&mut self.stream);
        *buffered = buffered.saturating_sub(before - outbox.bytes());
        Some(flushed)
    }

    /// The socket takes no more for now; `progress` says whether it took some.
    pub(crate) fn block(&mut self, now_ms: u64, progress: bool) {
        self.blocked = true;
        let Some(outbox) = &mut self.outbox else { return };
        if progress || outbox.stalled_ms == 0 {
            outbox.stalled_ms = now_ms;
        }
        if outbox.waiting_ms == 0 {
            outbox.waiting_ms = now_ms;
        }
    }

    /// Bytes that wait to be written to it.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.drop_ms != 0
    }
}

/// Bytes that were read and not yet acted on.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    pub(crate) bytes: Vec<u8>,
}

/// What is known of a link that is not signed in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) address: IpAddr,
    /// Bytes that were read from it.
    pub(crate) bytes: usize,
}

/// The links of one reactor.
#[derive(Debug)]
pub(crate) struct Table {
    pieces: Vec<Box<[Option<Link>]>>,
    free: Vec<u32>,
    len: usize,
    max: usize,
    counter: u64,
}

impl Table {
    pub(crate) fn new(max: usize) -> Self {
        Self { pieces: Vec::new(), free: Vec::new(), len: 0, max, counter: 1 }
    }

    /// Adds the link that `make` makes for a number; none where there is no room.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u64) -> Link) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        if self.free.is_empty() {
            let base = u32::try_from(self.slots()).ok()?;
            self.pieces.push((0..PIECE).map(|_| None).collect());
            self.free.extend((base..base + u32::try_from(PIECE).ok()?).rev());
        }
        let slot = self.free.pop()?;
        let number = self.number(slot);
        *self.cell(slot)? = Some(make(number));
        self.len += 1;
        Some(slot)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Link> {
        let link = self.cell(slot)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        Some(link)
    }

    /// The next number, for the link in this slot.
    pub(crate) fn number(&mut self, slot: u32) -> u64 {
        let number = self.bound() | u64::from(slot);
        self.counter += 1;
        number
    }

    /// Every number from now on is at least this; every lower one was given.
    pub(crate) fn bound(&self) -> u64 {
        self.counter << SLOT_BITS
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Link> {
        let slot = usize::try_from(slot).ok()?;
        self.pieces.get(slot / PIECE)?.get(slot % PIECE)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.cell(slot)?.as_mut()
    }

    /// The slot of the link with this number, if it is still there.
    pub(crate) fn find(&self, number: u64) -> Option<u32> {
        let slot = u32::try_from(number & ((1 << SLOT_BITS) - 1)).ok()?;
        self.get(slot).filter(|link| link.session.link() == number).map(|_| slot)
    }

    /// Every link, with its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Link)> {
        (0..).zip(self.pieces.iter().flatten()).filter_map(|(slot, link)| Some((slot, link.as_ref()?)))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.max
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Links, and the most that may be.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.len, self.max)
    }

    /// Slots that there are, taken or not.
    pub(crate) fn slots(&self) -> usize {
        self.pieces.len() * PIECE
    }

    fn cell(&mut self, slot: u32) -> Option<&mut Option<Link>> {
        let slot = usize::try_from(slot).ok()?;
        self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use std::os::fd::{FromRawFd, IntoRawFd};

    fn link(number: u64) -> Link {
        let file = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the descriptor is open and owned by nobody else.
        let stream = unsafe { TcpStream::from_raw_fd(file.into_raw_fd()) };
        Link::new(stream, Session::new(number, Now::default()), None)
    }

    #[test]
    fn a_slot_is_used_again_and_its_number_is_not() {
        let mut table = Table::new(2);
        let first = table.insert(link).unwrap();
        let old = table.get(first).unwrap().session.link();
        assert_eq!(table.find(old), Some(first));
        table.remove(first);
        let bound = table.bound();
        let second = table.insert(link).unwrap();
        let new = table.get(second).unwrap().session.link();
        assert_eq!((second, table.find(old)), (first, None));
        assert!(old < bound && bound <= new);
        assert!(table.insert(link).is_some());
        assert!(table.insert(link).is_none(), "over its maximum");
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn an_idle_link_is_small() {
        assert!(size_of::<Option<Link>>() <= 232, "{}", size_of::<Option<Link>>());
    }
}
