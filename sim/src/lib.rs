//! The seeded simulation: the real stages, sessions and client cores in one thread, with a log and tables in
//! memory that fail as real ones do, before oracles that read only what devices were shown and told.
//!
//! A seed replays: `cargo test -p sim` names the first failing one, `cargo run -p sim -- --seed N` runs it
//! alone. [`Mutation`] breaks one rule of the shells at a time; the oracles must find every one of them.

pub mod log;
pub mod store;
