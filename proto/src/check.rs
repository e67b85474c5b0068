//! What must hold of any bytes whatever: one function per decoder. Property tests call them with random
//! bytes, the fuzz targets under `fuzz/` with searched ones. None returns: a violation panics.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::frame::{self, Decoder, Peek};
use crate::ids::{ConversationId, DeviceId, UserId};
use crate::{limits, v1};

/// [`frame::peek`] never reaches outside of what it was given, and [`Decoder`] agrees with it however the
/// bytes are cut.
pub fn framing(bytes: &[u8]) {
    const MAX: usize = 128;
    if let Ok(Peek::Whole { start, end }) = frame::peek(bytes, MAX) {
        assert!(start <= end && end <= bytes.len() && end - start <= MAX);
    }
    let whole = frames(bytes, MAX, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, MAX, 1), "the cutting of the stream shows");
}

fn frames(bytes: &[u8], max: usize, cut: usize) -> (Vec<Bytes>, bool) {
    let (mut decoder, mut got) = (Decoder::new(max), Vec::new());
    for piece in bytes.chunks(cut) {
        decoder.extend(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => got.push(frame),
                Ok(None) => break,
                Err(_) => return (got, true),
            }
        }
    }
    (got, false)
}

/// A message that decodes encodes again, into something that decodes to the same.
fn reads_back<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let mut out = BytesMut::new();
    frame::encode(&message, &mut out);
    let Ok(Peek::Whole { start, end }) = frame::peek(&out, usize::MAX >> 1) else {
        unreachable!("what was just framed is a frame");
    };
    let again = M::decode(out.get(start..end).unwrap_or_default());
    assert_eq!(again.ok(), Some(message));
}

/// What a device may send.
pub fn client_frame(bytes: &[u8]) {
    reads_back::<v1::ClientFrame>(bytes);
}

/// What a server may send.
pub fn server_frame(bytes: &[u8]) {
    reads_back::<v1::ServerFrame>(bytes);
}

/// What the logs may hold.
pub fn records(bytes: &[u8]) {
    reads_back::<v1::MessageRecord>(bytes);
    reads_back::<v1::TimelineRecord>(bytes);
    reads_back::<v1::NodeRecord>(bytes);
}

/// What nodes may say to each other.
pub fn between_nodes(bytes: &[u8]) {
    reads_back::<v1::Down>(bytes);
    reads_back::<v1::Up>(bytes);
}

/// Ids: what is taken is within its limits and reads back from its text.
pub fn ids(bytes: &[u8]) {
    if let Ok(id) = ConversationId::from_slice(bytes) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(user) = UserId::new(text) {
        assert!(user.as_str() == text && (1..=limits::ID_BYTES_MAX).contains(&text.len()));
    }
    assert_eq!(UserId::new(text).is_ok(), DeviceId::new(text).is_ok());
    if let Ok(id) = text.parse::<ConversationId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_decoder_minds_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::framing(&bytes);
            super::client_frame(&bytes);
            super::server_frame(&bytes);
            super::records(&bytes);
            super::between_nodes(&bytes);
            super::ids(&bytes);
        }

        #[test]
        fn ids_mind_no_text(text in "\\PC{0,80}") {
            super::ids(text.as_bytes());
        }
    }

    #[test]
    fn a_nesting_bomb_is_an_error() {
        // Field 3 of Send inside field 4 of ClientFrame cannot nest; groups (wire type 3) could.
        let bomb = vec![0x0b; 10_000];
        super::client_frame(&bomb);
        assert!(<crate::v1::ClientFrame as prost::Message>::decode(bomb.as_slice()).is_err());
    }
}
