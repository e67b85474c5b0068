//! conn: where devices are connected. Links, sessions, the uplink to the log, the downlink from the owners
//! of timelines.
//!
//! A send's way through here: `reactor` reads, `codec` cuts frames, `session` decides, `uplink` appends; the
//! report comes back through `mailbox` and leaves as a SendAck through `outbox`. Pushes come through
//! `downlink` and `mailbox` to the same outbox. This crate never reads a table and never judges a message.

pub mod session;

mod clock;

pub use clock::Now;
