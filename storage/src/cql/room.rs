//! Room for requests under way: so many, and so many bytes of writes. Who finds none waits.

use proto::limits::ID_BYTES_MAX;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::trouble::unavailable;
use crate::tables::StoreError;

/// Requests of this process under way.
pub(super) const REQUESTS_MAX: usize = 128;
/// Bytes of the writes under way. A node of Cassandra takes a fortieth of its heap from one address and then
/// stops reading its connections (`native_transport_max_request_data_in_flight_per_ip`), answers to others
/// included: 12 MiB of a heap of 512 MiB. Below that every node keeps answering, even if all of it goes to one;
/// and at 5 ms a write it is still 1.6 GB/s.
const BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Bytes of one write. A mutation above half a segment of the commit log, 16 MiB by default, lands on no node.
/// Cassandra 5 says so, and that is a failure. Older ones and ScyllaDB find out on the replicas and answer as for
/// a node that is slow, which would be tried again for ever: such a write does not leave this process. What a
/// row takes beside its value is guessed, hence less than all of it.
const WRITE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// What a row takes beside its values: its key, its tick, and the frame around it.
pub(super) const ROW_BYTES: usize = 2 * ID_BYTES_MAX + 64;

/// Who may begin.
#[derive(Debug)]
pub(super) struct Room {
    requests: Semaphore,
    bytes: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        Self { requests: Semaphore::new(REQUESTS_MAX), bytes: Semaphore::new(BYTES_MAX as usize) }
    }
}

impl Room {
    /// Waits for room for a request that writes so many bytes; it is the request's until it is dropped. A write
    /// that alone is over the bound has all of it.
    ///
    /// # Errors
    /// `Failed` where no server takes so much in one write.
    pub(super) async fn take(
        &self,
        bytes: usize,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), StoreError> {
        if bytes > WRITE_BYTES_MAX {
            let text =
                format!("a write of {bytes} bytes is too large: at most {WRITE_BYTES_MAX} are sent in one");
            return Err(StoreError::Failed(text));
        }
        let share = u32::try_from(bytes).map_or(BYTES_MAX, |bytes| bytes.min(BYTES_MAX));
        // Bytes first: who waits for them takes no request's place from those that need none.
        let bytes = self.bytes.acquire_many(share).await.map_err(unavailable)?;
        Ok((self.requests.acquire().await.map_err(unavailable)?, bytes))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn writes_wait_for_bytes_and_everyone_for_a_place() {
        let (room, half) = (Room::default(), BYTES_MAX as usize / 2);
        let first = room.take(half).now_or_never().unwrap().unwrap();
        let _second = room.take(half).now_or_never().unwrap().unwrap();
        assert!(room.take(1).now_or_never().is_none(), "no bytes are left");
        let reads: Vec<_> =
            (2..REQUESTS_MAX).map(|_| room.take(0).now_or_never().unwrap().unwrap()).collect();
        assert!(room.take(0).now_or_never().is_none(), "no place is left");
        drop(first);
        assert!(room.take(half + 1).now_or_never().is_none());
        assert!(room.take(half).now_or_never().is_some());
        drop(reads);
    }

    #[test]
    fn a_large_write_goes_alone_and_a_larger_one_not_at_all() {
        let room = Room::default();
        let alone = room.take(WRITE_BYTES_MAX).now_or_never().unwrap().unwrap();
        assert!(room.take(1).now_or_never().is_none());
        drop(alone);
        let refused = room.take(WRITE_BYTES_MAX + 1).now_or_never().unwrap();
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
}
