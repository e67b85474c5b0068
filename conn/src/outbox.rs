//! What waits to be written to a link: bounded, shared where it can be, and written many frames at a time.
//! It never closes a link; it says when there is no room.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::encode_varint;
use proto::{frame, v1};

/// Frames up to this size are copied together; larger ones are shared.
const COPY_BYTES_MAX: usize = 1024;
/// Pieces of one vectored write.
const SLICES_MAX: usize = 64;
/// Shared frames that wait, at the most: each is at least [`COPY_BYTES_MAX`] long.
const ITEMS_MAX: usize = 4096;

/// Empty outboxes that are kept.
const SPARE_MAX: usize = 256;

/// Whether a frame found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It waits to be written.
    Queued,
    /// It waits, and so much does by now that nothing droppable is to be added.
    HighWater,
    /// It was not taken: the link is to be closed.
    Overflow,
}

/// How much may wait, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Above this, droppable frames are to be kept back.
    pub high: usize,
    /// Never more than this.
    pub max: usize,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits.
    Empty,
    /// The socket takes no more; `progress` says whether it took some.
    Blocked {
        /// Whether any byte was written.
        progress: bool,
    },
}

/// The frames that wait for one link.
#[derive(Debug, Default)]
pub struct Outbox {
    items: VecDeque<Bytes>,
    /// Small frames behind the items, not yet an item themselves.
    tail: BytesMut,
    bytes: usize,
    /// Since when the socket has taken nothing, in ms; 0 when it is not blocked.
    pub(crate) stalled_ms: u64,
    /// Since when something has waited all the time, in ms, whatever the socket took meanwhile; 0 when nothing does.
    pub(crate) waiting_ms: u64,
}

impl Outbox {
    /// Adds a frame of this link's own.
    pub fn push(&mut self, frame: &v1::ServerFrame, caps: Caps) -> Verdict {
        let before = self.tail.len();
        if self.bytes + frame.encoded_len() > caps.max {
            return Verdict::Overflow;
        }
        frame::encode(frame, &mut self.tail);
        self.count(self.tail.len() - before, caps)
    }

    /// Adds a frame that is encoded already, without a length.
    pub fn push_encoded(&mut self, frame: &Bytes, caps: Caps) -> Verdict {
        if self.bytes + frame.len() > caps.max || self.items.len() >= ITEMS_MAX {
            return Verdict::Overflow;
        }
        let before = self.tail.len();
        encode_varint(u64::try_from(frame.len()).unwrap_or(u64::MAX), &mut self.tail);
        if frame.len() <= COPY_BYTES_MAX {
            self.tail.put_slice(frame);
            return self.count(self.tail.len() - before, caps);
        }
        let prefix = self.tail.len() - before;
        self.close_tail();
        self.items.push_back(frame.clone());
        self.count(prefix + frame.len(), caps)
    }

    /// Writes until nothing waits or the socket takes no more.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(&mut self, to: &mut impl Write) -> io::Result<Flushed> {
        let mut progress = false;
        self.close_tail();
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count =
                self.items.iter().zip(&mut slices).map(|(item, slice)| *slice = IoSlice::new(item)).count();
            match to.write_vectored(slices.get(..count).unwrap_or(&[])) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.drop_front(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked { progress });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            progress = true;
        }
        Ok(Flushed::Empty)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn count(&mut self, added: usize, caps: Caps) -> Verdict {
        self.bytes += added;
        if self.bytes > caps.high { Verdict::HighWater } else { Verdict::Queued }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.items.push_back(self.tail.split().freeze());
        }
    }

    fn drop_front(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = self.items.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.items.pop_front();
        }
    }
}

/// Empty outboxes for the next frames: most of them are needed for the time of one write only.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    #[allow(clippy::vec_box, reason = "the boxes are what is used again")]
    boxes: Vec<Box<Outbox>>,
}

impl Spare {
    pub(crate) fn take(&mut self) -> Box<Outbox> {
        self.boxes.pop().unwrap_or_default()
    }

    /// Keeps an outbox that is empty and small.
    pub(crate) fn put(&mut self, mut outbox: Box<Outbox>) {
        let small = outbox.items.capacity() <= SLICES_MAX && outbox.tail.capacity() <= COPY_BYTES_MAX;
        if self.boxes.len() < SPARE_MAX && outbox.bytes == 0 && small {
            (outbox.stalled_ms, outbox.waiting_ms) = (0, 0);
            self.boxes.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::v1::server_frame::Frame;

    const CAPS: Caps = Caps { high: 3_000, max: 10_000 };

    /// Takes a few bytes at a time, then blocks.
    struct Narrow {
        got: Vec<u8>,
        step: usize,
        open: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.open == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.open -= 1;
            let taken = bytes.len().min(self.step);
            self.got.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(data: usize) -> v1::ServerFrame {
        let response = vec![7; data].into();
        v1::ServerFrame { reply_to: 1, frame: Some(Frame::CallResult(v1::CallResult { response })) }
    }

    #[test]
    fn says_when_it_is_high_and_when_it_is_full() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&frame(1_000), CAPS), Verdict::Queued);
        assert_eq!(outbox.push(&frame(2_500), CAPS), Verdict::HighWater);
        assert_eq!(outbox.push_encoded(&Bytes::from(vec![0; 7_000]), CAPS), Verdict::Overflow);
        let before = outbox.bytes();
        assert_eq!(outbox.push(&frame(7_000), CAPS), Verdict::Overflow);
        assert_eq!(outbox.bytes(), before);
    }

    proptest! {
        #[test]
        fn a_narrow_socket_gets_the_same_bytes(sizes in prop::collection::vec((0usize..2_000, any::<bool>()), 0..20), step in 1usize..900) {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            let caps = Caps { high: usize::MAX, max: usize::MAX };
            for (size, shared) in sizes {
                let frame = frame(size);
                let _ = if shared { outbox.push_encoded(&frame.encode_to_vec().into(), caps) } else { outbox.push(&frame, caps) };
                expected.extend_from_slice(&frame::to_bytes(&frame));
            }
            let mut socket = Narrow { got: Vec::new(), step, open: 3 };
            while let Flushed::Blocked { progress } = outbox.flush(&mut socket).unwrap() {
                prop_assert!(progress);
                socket.open = 3;
            }
            prop_assert_eq!(outbox.bytes(), 0);
            prop_assert_eq!(socket.got, expected);
        }
    }
}
