//! What comes out of a session, and the names of what comes back.

use bytes::Bytes;
use proto::close::Close;
use proto::partition::Partition;
use proto::v1;
use storage::log::Topic;

/// Which record an append was, among those of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Appended {
    /// The SessionStart.
    Start,
    /// A Submission; the number counts up within the session.
    Send(u32),
    /// The SessionEnd. Its outcome is not for the session, which is gone by then: where it fails, the
    /// partition's stream is to be broken.
    End,
}

/// What a session wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this frame.
    Write(v1::ServerFrame),
    /// Write this ServerFrame, which is encoded, without a length.
    WriteEncoded(Bytes),
    /// Check this token, and report to [`super::Session::on_verified`].
    Verify(String),
    /// Append this record. Report the outcome to [`super::Session::on_report`], or to [`super::Session::on_refused`]
    /// before anything else if the log does not take it.
    Append {
        /// To which log.
        topic: Topic,
        /// To which of its partitions.
        partition: Partition,
        /// The record, encoded.
        record: Bytes,
        /// Its name for the report.
        what: Appended,
    },
    /// Ask the owner of the user's partition; the answer goes to [`super::Session::on_sync_answer`].
    Ask(Partition, v1::SyncAsk),
    /// Pass a call on; the answer goes to [`super::Session::on_call_result`].
    Call {
        /// To be given back with the answer.
        request_id: u64,
        /// The call, with who calls.
        call: v1::LinkCall,
    },
    /// The device acknowledged more: [`super::Session::take_cursor`] has something, sooner or later.
    Acked,
    /// Write what is queued, then close the socket. The last action of a session.
    Close(Close),
}

/// What a session waits for no longer than until a time. All but the last end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// The token was not verified in time.
    Unauthenticated,
    /// The session was not confirmed in time.
    SignIn,
    /// Nothing was heard.
    Idle,
    /// A sync was not answered in time: it is answered from here, and the link goes on.
    Sync,
}
