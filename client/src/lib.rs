//! The Rust client library of Godwit.
//!
//! [`core::Device`] is the protocol, sans-I/O: for simulators, load harnesses and other runtimes.
//! [`store`] keeps what has to outlive the process.
//! This crate never interprets what the app says: a message's body is the app's own.

mod backoff;
mod calls;
#[cfg(feature = "development")]
mod clock;
pub mod core;
mod cursor;
#[cfg(feature = "development")]
pub mod development;
mod outbox;
pub mod store;

pub use calls::{CallError, CallId};
pub use outbox::{LocalId, Number, Sent, Target};
