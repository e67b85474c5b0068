//! The seeded simulation: the real stages, sessions and client cores in one thread, with a log and tables in
//! memory that fail as real ones do, before oracles that read only what devices were shown and told.
//!
//! A seed replays: `cargo xtask sim --seeds 1 --seed N`. [`Mutation`] breaks one rule at a time; the oracles
//! must find every one of them.

mod app;
pub mod check;
pub mod conversation_run;
pub mod device;
mod downlink;
mod fault;
pub mod golden;
mod healing;
pub mod hunt;
pub mod log;
mod mutation;
pub mod node;
mod oracle;
pub mod owner;
mod plan;
mod population;
mod replay;
mod schedule;
pub mod shared;
mod shrink;
pub mod store;
mod streams;
mod tamper;
pub mod timeline_run;
mod trouble;
mod witness;
pub mod world;

pub use fault::{Fault, Faults};
pub use mutation::Mutation;
pub use oracle::{Oracle, Violation};
pub use plan::Plan;
pub use shrink::shrink;
