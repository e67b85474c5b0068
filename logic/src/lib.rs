//! The stages that own the logs' partitions: conversations and timelines as pure state machines, and the
//! shells that drive them.
//!
//! A message passes `run::conversation` (judged by [`conversation`]) and `run::timeline` (judged by
//! [`timeline`]), and leaves through [`push`]; what a device missed it gets through `sync`, what it asks
//! beyond that through [`api`]. [`nodes`] knows which nodes live. [`start`] runs all of it.

pub mod api;
pub mod check;
pub mod conversation;
pub mod nodes;
pub mod push;
pub mod settings;
pub mod timeline;

mod clock;
mod config;
mod logic;
mod metrics;
mod rows;
mod run;
mod sorted;
#[cfg(test)]
mod step_speed;
mod sync;

pub use config::Config;
pub use logic::{Logic, start};
pub use run::{SkipRefused, is_guarded, may_skip};
