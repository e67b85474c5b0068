//! What runs the stages: one task per owned partition, which fetches, prefetches, judges, puts, appends or
//! pushes, flushes and checkpoints.
//!
//! Judging never waits for effects; caps on what is judged and not yet stored hold the fetching back. The
//! order per prefix is: history or entries, outputs reported durable (or shown), rows, checkpoint.
//!
//! | what | where |
//! |---|---|
//! | keeps a partition's run alive | `supervise` |
//! | the run, turn by turn | `turns`, with `fetch`, `prefetch`, `judge`, `puts`, `flush` and `chores` |
//! | what differs between the stages | `shell`; of conversations `conversation`, of timelines `timeline` |
//! | what leaves a messages partition | `emit`, counted by `window` |
//! | what leaves a timelines partition | `active`; what it hears in return, `talk` |
//! | who owns a partition | `owner` |
//! | a record that breaks a stage | `poison` |

mod active;
mod backoff;
mod chores;
mod conversation;
mod emit;
mod fetch;
mod flush;
mod judge;
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
pub use poison::{SkipRefused, is_guarded, may_skip};
pub(crate) use reports::Reports;
pub(crate) use retry::Retries;
pub(crate) use supervise::{Health, Supervised};
