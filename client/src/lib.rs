//! The Rust client library of Godwit.
//!
//! [`Client`] is what an app uses: connect, send, a stream of events. Below it, [`core::Device`] is the
//! protocol, sans-I/O, for simulators, load harnesses and other runtimes; [`store`] keeps what has to outlive
//! the process. This crate never interprets what the app says: a message's body is the app's own.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Client, Config, Event, Target, core::Settings, fixed_token, store::Memory};
//! use proto::{DeviceId, UserId};
//!
//! let (client, mut events) = Client::connect(Config {
//!     addresses: vec!["127.0.0.1:7100".into()],
//!     settings: Settings::new(UserId::new("ann")?, DeviceId::new("phone")?),
//!     token: fixed_token("eyJ…".into()),
//!     store: Box::new(Memory::default()),
//! });
//! client.send_text(Target::User(UserId::new("bob")?), "hello").await?;
//! while let Some(event) = events.next().await {
//!     if let Event::Entry(entry) = event {
//!         println!("{} {}: {:?}", entry.seq, entry.sender, entry.event);
//!     }
//! }
//! # Ok(()) }
//! ```

mod backoff;
mod calls;
mod clock;
pub mod core;
mod cursor;
#[cfg(feature = "development")]
pub mod development;
mod driver;
mod outbox;
pub mod store;
mod transport;

/// What must hold of whatever a server says and of whatever stands in a journal; for tests and fuzz targets.
pub mod check {
    pub use crate::core::check::device;
    pub use crate::store::check::journal;
}

pub use calls::{CallError, CallId};
pub use core::{Cause, Event, SendError, Start};
pub use driver::{Client, Config, Error, EventStream, TokenError, TokenSource, fixed_token};
pub use outbox::{LocalId, Number, Sent, Target};
