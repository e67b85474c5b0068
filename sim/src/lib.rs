//! The seeded simulation: the real stages, sessions and client cores in one thread, with a log and tables in
//! memory that fail as real ones do, before oracles that read only what devices were shown and told.
//!
//! A seed replays: `cargo test -p sim` names the first failing one, and
//! `SIM_FIRST=N SIM_SEEDS=1 cargo test -p sim no_seed` runs it alone. [`Mutation`] breaks one rule of the
//! shells at a time; the oracles must find every one of them.

pub mod check;
pub mod conversation_run;
pub mod device;
pub mod log;
mod mutation;
pub mod node;
mod replay;
pub mod store;
pub mod timeline_run;
pub mod world;

pub use mutation::Mutation;
