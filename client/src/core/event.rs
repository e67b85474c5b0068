//! What the core tells the app, and why a link ended.

use proto::{ConversationId, v1};

use crate::outbox::{Number, Sent};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Signed in: what the app sends goes out, and entries come in.
    Connected {
        /// The epoch of this sign-in.
        epoch: u64,
        /// The highest seq in the user's timeline; what is missing up to it follows as entries.
        head: u64,
    },
    /// The link is gone, or could not be made.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When the next one is tried; none if only the app can try again.
        retry_in_ms: Option<u64>,
    },
    /// The next entry of the user's timeline; its seq is one above the last.
    Entry(Box<v1::Entry>),
    /// What stood between the last entry and seq `first` is no longer kept; entries go on from there.
    Truncated {
        /// The lowest seq that is still kept.
        first: u64,
    },
    /// The log has this send: it will reach everyone it is for, or come back as a rejection.
    Acked(Sent),
    /// A send of this device was judged and turned down. Its entry was given just before.
    Rejected {
        /// The conversation it went to.
        conversation: ConversationId,
        /// Its number.
        number: Number,
        /// Why, see [`proto::Code`].
        code: u32,
        /// The name of the code.
        name: String,
    },
    /// The server will never take this send. Its number goes on as nothing; the text was not delivered.
    Refused {
        /// Which one.
        sent: Sent,
        /// Why, see [`proto::Code`].
        code: u32,
        /// The name of the code.
        name: String,
        /// For the developer.
        detail: String,
    },
    /// The server closed the link for a reason that connecting again does not cure.
    Kicked {
        /// See [`proto::close::Close`].
        code: u32,
        /// The reason.
        reason: String,
    },
}

/// Why a link ended, or none came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Nobody answers at the address, or there is no token to sign in with.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The connection broke off.
    #[error("the connection broke off")]
    Lost,
    /// Nothing was heard for twice the heartbeat, or no answer to the sign-in.
    #[error("the server is silent")]
    Silent,
    /// The server said why.
    #[error("closed by the server: {reason} ({code})")]
    Closed {
        /// A close code.
        code: u32,
        /// The reason.
        reason: String,
    },
    /// The sign-in was refused.
    #[error("sign-in refused: {name} ({code}): {detail}")]
    SignIn {
        /// An error code.
        code: u32,
        /// Its name.
        name: String,
        /// For the developer.
        detail: String,
    },
    /// The node is going away; the link moves.
    #[error("the server is going away")]
    GoAway,
    /// What came is not the protocol.
    #[error("the server does not speak the protocol: {0}")]
    Protocol(&'static str),
    /// What has to be stored cannot be; the client has ended.
    #[error("the store failed: {0}")]
    Store(String),
    /// The app wanted it.
    #[error("closed")]
    App,
}

/// What the driver is to do with the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// Get a token, connect, and tell [`super::Device::handle_connected`] or
    /// [`super::Device::handle_connect_failed`].
    Connect {
        /// Where the server wants this device to go; empty: wherever the app is configured to.
        addresses: Vec<String>,
    },
    /// Close the link, what is not yet written included. Nothing is to be told.
    Disconnect,
}
