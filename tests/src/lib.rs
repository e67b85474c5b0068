//! The harness for tests of whole processes: starts `godwit` servers and chats, waits for what they say,
//! kills, stops and restarts them by their process ids. Never sleeps in place of an event: it waits for a
//! condition, and fails with what it saw when a deadline passes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a harness for tests: what it does not expect ends the test"
)]

mod backends;
mod binary;
mod book;
mod campaign;
mod chat;
mod clock;
mod device;
mod http;
mod left_out;
mod load;
mod net;
mod process;
mod program;
mod recovery;
mod server;
mod soak;
mod stage;
mod trace;
mod wait;

pub use backends::Backends;
pub use binary::{binary, loadtest};
pub use book::sentences;
pub use campaign::{Campaign, Report};
pub use chat::{Chat, texts};
pub use device::{Device, connect_from, connect_narrow, forged, frame_bytes, sign_in, text};
pub use http::get;
pub use left_out::can;
pub use load::{Load, Run};
pub use net::{Rules, may_drop_packets};
pub use process::{Process, run_until_it_ends};
pub use program::{emptied, reported};
pub use recovery::{Recovery, Report as RecoveryReport};
pub use server::{Ports, Server};
pub use soak::{Report as SoakReport, Soak};
pub use stage::{Backend, Storage};
pub use trace::{Injection, may_inject, threads};
pub use wait::{DEADLINE, within};
