//! What a message of the load says: which one it is, and bytes that follow from that, so that whoever
//! reads it can tell whether every byte arrived.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that name the message; a body has no fewer.
pub(crate) const NAME_BYTES: usize = 16;

/// The body of a device's message of this index.
pub(crate) fn encode(device: u64, index: u64, bytes: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes);
    body.put_u64(device);
    body.put_u64(index);
    let mut state = seed(device, index);
    while body.len() < bytes {
        body.put_u8(next(&mut state));
    }
    body.freeze()
}

/// The device and index that a body names; none where it is not exactly what `encode` made.
pub(crate) fn decode(body: &[u8]) -> Option<(u64, u64)> {
    let (name, filler) = body.split_at_checked(NAME_BYTES)?;
    let (device, index) = name.split_at_checked(8)?;
    let (device, index) =
        (u64::from_be_bytes(device.try_into().ok()?), u64::from_be_bytes(index.try_into().ok()?));
    let mut state = seed(device, index);
    filler.iter().all(|byte| *byte == next(&mut state)).then_some((device, index))
}

fn seed(device: u64, index: u64) -> u64 {
    (device ^ index.rotate_left(32)) | 1
}

/// Any cheap sequence will do (Marsaglia's xorshift).
fn next(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    let [.., byte] = state.to_be_bytes();
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back_only_whole() {
        let body = encode(3, 9, 100);
        assert_eq!((body.len(), decode(&body)), (100, Some((3, 9))));
        assert_eq!(decode(&encode(3, 9, NAME_BYTES)), Some((3, 9)));
        for at in NAME_BYTES..100 {
            let mut other = body.to_vec();
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "byte {at}");
        }
        assert_eq!(decode(&body[..15]), None);
    }
}
