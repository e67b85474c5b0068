//! conn: where devices are connected. Links, sessions, the uplink to the log, the downlink from the owners
//! of timelines.
//!
//! A send's way through here: `reactor` reads, `codec` cuts frames, `session` decides, `uplink` appends; the
//! report comes back through `mailbox` and leaves as a SendAck through `outbox`. Pushes come through
//! `downlink` and `mailbox` to the same outbox. This crate never reads a table and never judges a message.

pub mod check;
pub mod session;

mod call;
mod clock;
mod codec;
mod config;
mod cursors;
mod downlink;
mod mailbox;
mod metrics;
mod node;
mod outbox;
mod reactor;
mod roster;
mod table;
mod uplink;
mod verify;
mod wheel;

pub use call::{CallRequest, Reply};
pub use clock::Now;
pub use config::Config;
pub use node::{Node, StartError, Unready};
pub use outbox::{Caps, Flushed, Outbox, Verdict};
pub use verify::Keys;
pub use wheel::Wheel;
