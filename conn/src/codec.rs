//! From bytes to messages: the delimited form. The layer below sessions; TLS and WebSocket would be others.
//! It keeps nothing.

use proto::close::Close;
use proto::frame::{self, FrameError, Peek};
use proto::limits::CLIENT_FRAME_BYTES_MAX;

/// The first message in some bytes, and where the next one begins; none while it is not whole.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Close> {
    match frame::peek(bytes, CLIENT_FRAME_BYTES_MAX) {
        Ok(Peek::Whole { start, end }) => Ok(bytes.get(start..end).map(|message| (message, end))),
        Ok(Peek::Partial { .. }) => Ok(None),
        Err(FrameError::TooLarge { .. }) => Err(Close::FrameTooLarge),
        Err(FrameError::Prefix) => Err(Close::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_partial_and_impossible_frames() {
        assert_eq!(first(&[2, 7, 7, 9]), Ok(Some((&[7, 7][..], 3))));
        assert_eq!(first(&[2, 7]), Ok(None));
        assert_eq!(first(&[]), Ok(None));
        assert_eq!(first(&[0xff, 0xff, 0x7f]), Err(Close::FrameTooLarge));
        assert_eq!(first(&[0xff; 6]), Err(Close::Malformed));
    }
}
