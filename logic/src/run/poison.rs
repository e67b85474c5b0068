//! A record that breaks a stage: the panic is caught, the partition stops, and only an operator's Skip
//! lets it go on.
//!
//! Runs read the skips of their partition once, when they begin, and obey them: so that every run judges
//! alike, a Skip must never be recorded for a record that some run has judged. [`may_skip`] finds out: the
//! operator's command asks it before it appends one, and a stopped partition before it obeys one.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use prost::Message;
use proto::partition::Partition;
use proto::{Tick, v1};
use storage::log::{Log, LogError, Topic};
use storage::tables::{Store, StoreError};
use v1::timeline_record::Record;

/// Records read at once while looking for outputs.
const READ_MAX: usize = 1024;
/// And within this time.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Why a record cannot be skipped, or is not known to be one that can.
#[derive(Debug, thiserror::Error)]
pub enum SkipRefused {
    /// The partition's checkpoint is past it.
    #[error("the record at tick {0} has been judged: the checkpoint is past it")]
    Judged(u64),
    /// A timelines partition has an output of it, or of a later one.
    #[error("the record at tick {0} has been judged: timelines/{1} has outputs up to it")]
    Output(u64, Partition),
    /// There is nothing to skip in this log.
    #[error("records of the {0} log cannot be skipped")]
    Topic(Topic),
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the record at `tick` of a partition may still be skipped: no run has judged it, as far as the
/// checkpoints and the outputs in the timelines log tell. To be asked while the partition is stopped.
///
/// # Errors
/// It has been judged, or that cannot be found out.
pub async fn may_skip(
    log: &dyn Log,
    store: &dyn Store,
    topic: Topic,
    partition: Partition,
    tick: Tick,
) -> Result<(), SkipRefused> {
    if topic == Topic::Nodes {
        return Err(SkipRefused::Topic(topic));
    }
    let checkpoint = store.checkpoints().load(topic, partition).await?;
    if checkpoint.is_some_and(|checkpoint| checkpoint.tick >= tick) {
        return Err(SkipRefused::Judged(tick.0));
    }
    if topic == Topic::Messages {
        for timelines in 0..log.partitions().timelines {
            if last_source(log, store, timelines, partition).await? >= tick.0 {
                return Err(SkipRefused::Output(tick.0, timelines));
            }
        }
    }
    Ok(())
}

/// The highest source from a messages partition that a timelines partition holds: applied before its
/// checkpoint, or standing in the log after it.
async fn last_source(
    log: &dyn Log,
    store: &dyn Store,
    timelines: Partition,
    messages: Partition,
) -> Result<u64, SkipRefused> {
    let checkpoint = store.checkpoints().load(Topic::Timelines, timelines).await?;
    let (mut offset, mut last) = (0, 0);
    if let Some(checkpoint) = checkpoint {
        offset = checkpoint.offset;
        let state = v1::TimelinePartition::decode(checkpoint.state).unwrap_or_default();
        last = usize::try_from(messages).ok().and_then(|p| state.seen.get(p).copied()).unwrap_or(0);
    }
    let (begin, end) = log.bounds(Topic::Timelines, timelines).await?;
    offset = offset.max(begin);
    if offset >= end {
        return Ok(last);
    }
    let mut reader = log.reader(Topic::Timelines, timelines, offset).await?;
    while offset < end {
        let records = tokio::time::timeout(READ_WITHIN, reader.next(READ_MAX)).await;
        let records =
            records.map_err(|_| LogError::Failed("the end of the log was not read in time".into()))?;
        for record in records? {
            offset = record.offset + 1;
            if let Ok(v1::TimelineRecord { record: Some(Record::Output(output)) }) =
                v1::TimelineRecord::decode(record.bytes)
                && output.source_partition == messages
            {
                last = last.max(output.source);
            }
        }
    }
    Ok(last)
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread judges a record: a panic then stops a partition, and nothing else. For panic hooks.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs a step; what it panicked with, where it did. The state it worked on is not to be used any more.
pub(super) fn guarded(step: impl FnOnce()) -> Result<(), Box<dyn Any + Send>> {
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(false);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_guarded_and_nothing_behind_it_is() {
        assert!(guarded(|| assert!(is_guarded())).is_ok());
        assert!(!is_guarded());
        assert!(guarded(|| panic!("as a bug would")).is_err());
        assert!(!is_guarded());
    }
}
