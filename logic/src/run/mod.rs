//! The shells of both stages: one task per owned partition, which fetches, prefetches, judges, stores,
//! appends or pushes, flushes and checkpoints.
//!
//! Judging never waits for effects; caps on what is judged and not yet stored hold the fetching back. The
//! order per prefix is: history, outputs reported durable, rows, checkpoint.

mod active;
mod backoff;
mod chores;
mod conversation;
mod emit;
mod fetch;
mod flush;
mod owner;
mod parts;
mod poison;
mod prefetch;
mod puts;
mod reports;
mod retry;
mod shell;
mod slot;
mod supervise;
mod talk;
mod timeline;
mod turns;
mod window;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use backoff::Backoff;
pub(crate) use parts::Parts;
pub use poison::{SkipRefused, may_skip};
pub(crate) use reports::Reports;
pub(crate) use supervise::{Health, Supervised};
