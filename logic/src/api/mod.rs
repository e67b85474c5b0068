//! The queries: answered from the tables alone, authorised here, whoever passes them on.
//!
//! The tables follow the log by about a second. A caller that has seen more says so (`min_no`) and waits
//! for it; what it may read is decided by the same row as what there is, so a removed member never reads
//! past the removal. No body ever reaches a log or an error from here.

mod access;
mod history;
mod members;
mod waits;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::{Code, Fault, UserId, v1};
use storage::tables::{Store, StoreError};
use tokio::sync::Semaphore;
use tracing::warn;

use waits::Waits;

/// Answers calls.
pub struct Api {
    store: Arc<dyn Store>,
    /// For calls at work at the same time.
    room: Semaphore,
    /// For those among them that wait for the tables to be as new as their callers: half.
    waits: Waits,
}

impl Api {
    /// Answers from this store, so many calls at the same time; one more is refused.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, calls_max: usize) -> Self {
        Self { store, room: Semaphore::new(calls_max), waits: Waits::new(calls_max / 2) }
    }

    /// Answers a call of a user.
    ///
    /// # Errors
    /// What the caller did wrong or may not see; BUSY and UNAVAILABLE where the same again may succeed.
    pub async fn call(&self, user: &UserId, call: v1::Call) -> Result<v1::CallResult, Fault> {
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Fault::new(Code::Busy, "too many calls are at work"));
        };
        let response = match call.method.as_str() {
            "godwit.v1.Groups/Members" => {
                members::members(self, user, &decode(call.request)?).await?.encode_to_vec()
            }
            "godwit.v1.Conversations/History" => {
                history::history(self, user, &decode(call.request)?).await?.encode_to_vec()
            }
            _ => return Err(Fault::new(Code::UnknownMethod, "no such method")),
        };
        Ok(v1::CallResult { response: response.into() })
    }
}

fn decode<M: Message + Default>(request: Bytes) -> Result<M, Fault> {
    M::decode(request).map_err(|_| Fault::new(Code::InvalidArgument, "the request does not decode"))
}

/// What a device learns of a store that does not answer; the rest is for our own log.
fn unavailable(error: &StoreError) -> Fault {
    warn!(%error, "a query could not be answered");
    Fault::new(Code::Unavailable, "the store does not answer")
}

/// What a device learns of a row that cannot be what it is.
fn broken(what: &str) -> Fault {
    tracing::error!(what, "a row does not decode");
    Fault::new(Code::Internal, "a row does not decode")
}
