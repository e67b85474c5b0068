//! Delimited framing: each protobuf message is preceded by its length as a varint.
//!
//! Sans-I/O. The caller owns the bytes; a [`Decoder`] only looks at them, so that a link without a
//! partial frame keeps nothing. A declared length allocates nothing.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Bytes of the longest length prefix that is taken: enough for any `u32`.
pub const PREFIX_BYTES_MAX: usize = 5;

/// Why bytes are not a frame. Every one of them ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix does not end, or is not a length.
    #[error("the length prefix is not a varint of at most {PREFIX_BYTES_MAX} bytes")]
    Prefix,
    /// The declared length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {max}")]
    TooLarge {
        /// The declared length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A whole frame: its message is at `start..end`; the next frame begins at `end`.
    Whole {
        /// Where the message begins, after the prefix.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// Not yet whole. `need` is the number of bytes at which it can be, as far as is known.
    Partial {
        /// At least this many bytes from the beginning; more than there are.
        need: usize,
    },
}

/// Looks for one frame at the beginning of `bytes`.
///
/// # Errors
/// The bytes cannot become a frame of at most `max` bytes, whatever follows.
pub fn peek(bytes: &[u8], max: usize) -> Result<Peek, FrameError> {
    let mut length: u64 = 0;
    for (i, byte) in bytes.iter().take(PREFIX_BYTES_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).map_err(|_| FrameError::Prefix)?;
            if length > max {
                return Err(FrameError::TooLarge { length, max });
            }
            let (start, end) = (i + 1, i + 1 + length);
            return Ok(if bytes.len() >= end {
                Peek::Whole { start, end }
            } else {
                Peek::Partial { need: end }
            });
        }
    }
    if bytes.len() >= PREFIX_BYTES_MAX {
        return Err(FrameError::Prefix);
    }
    Ok(Peek::Partial { need: bytes.len() + 1 })
}

/// Appends `message` with its length to `out`.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) {
    let length = message.encoded_len();
    out.reserve(length + encoded_len_varint(length as u64));
    encode_varint(length as u64, out);
    message.encode_raw(out);
}

/// `message` with its length, as bytes of its own.
#[must_use]
pub fn to_bytes<M: Message>(message: &M) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.freeze()
}

/// The length prefix of an encoded message, for sending the two without copying the second.
#[must_use]
pub fn prefix(length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES_MAX);
    encode_varint(length as u64, &mut out);
    out.freeze()
}

/// Collects the bytes of one direction for peers that read from a stream at their own pace, such as
/// clients; the reactor's links use [`peek`] on its scratch buffer instead.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
    max: usize,
}

impl Decoder {
    /// A decoder that takes messages of at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { bytes: BytesMut::new(), max }
    }

    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.put_slice(bytes);
    }

    /// The buffer to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// The next whole message, without its length; none where more bytes are needed.
    ///
    /// # Errors
    /// The stream is not in this protocol; nothing after it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        match peek(&self.bytes, self.max)? {
            Peek::Partial { .. } => Ok(None),
            Peek::Whole { start, end } => {
                let mut frame = self.bytes.split_to(end);
                Ok(Some(frame.split_off(start).freeze()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;
    use proptest::prelude::*;

    fn ping(id: u64) -> v1::ClientFrame {
        v1::ClientFrame { request_id: id, frame: Some(v1::client_frame::Frame::Ping(v1::Ping::default())) }
    }

    #[test]
    fn a_frame_takes_the_bytes_it_needs_and_no_more() {
        let bytes = to_bytes(&ping(7));
        for cut in 0..bytes.len() {
            assert!(matches!(peek(&bytes[..cut], 100), Ok(Peek::Partial { need }) if need > cut));
        }
        assert_eq!(peek(&bytes, 100), Ok(Peek::Whole { start: 1, end: bytes.len() }));
    }

    #[test]
    fn a_declared_length_over_the_limit_ends_it_at_once() {
        assert_eq!(peek(&[0xe9, 0x07], 1_000), Err(FrameError::TooLarge { length: 1_001, max: 1_000 }));
        assert_eq!(peek(&[0xe8, 0x07], 1_000), Ok(Peek::Partial { need: 1_002 }));
        assert_eq!(peek(&[0xff; 5], usize::MAX), Err(FrameError::Prefix));
    }

    proptest! {
        #[test]
        fn any_cutting_of_a_stream_yields_the_same_frames(ids in prop::collection::vec(any::<u64>(), 0..20), cut in 1usize..9) {
            let mut stream = BytesMut::new();
            ids.iter().for_each(|id| encode(&ping(*id), &mut stream));
            let (mut decoder, mut got) = (Decoder::new(100), Vec::new());
            for piece in stream.chunks(cut) {
                decoder.extend(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(v1::ClientFrame::decode(frame).unwrap().request_id);
                }
            }
            prop_assert_eq!(got, ids);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Peek::Whole { start, end }) = peek(&bytes, 32) {
                prop_assert!(start <= end && end <= bytes.len() && end - start <= 32);
            }
        }
    }
}
