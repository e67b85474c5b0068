//! Replays the whole log from nothing and compares: what is stored must be what a run without any fault
//! would have stored, to the byte.

use logic::conversation::{ConversationStage, Effect};
use logic::timeline::{Effect as TimelineEffect, TimelineStage};
use prost::Message;
use proto::partition::Partition;
use proto::v1;
use storage::log::Topic;
use storage::tables::Checkpoint;

use crate::oracle::{Oracle, Violation};
use crate::shared::Shared;
use crate::store::Store;

/// Replays both logs, from nothing and from the tables as they were in the middle, and compares every row.
///
/// # Errors
/// The first difference.
pub(crate) fn same_rows(shared: &Shared) -> Result<(), Violation> {
    compare(shared, Store::default()).map_err(|words| Oracle::Replay.says(words))?;
    match &shared.snapshot {
        Some(snapshot) => compare(shared, snapshot.clone()).map_err(|words| Oracle::Snapshot.says(words)),
        None => Ok(()),
    }
}

/// Compares tables that are brought up to the end of the logs with the real ones.
fn compare(shared: &Shared, store: Store) -> Result<(), String> {
    let (store, stored) = (replayed(shared, store, &mut Vec::new())?, &shared.store);
    same("history", &store.history, &stored.history)?;
    same("conversations", &store.conversations, &stored.conversations)?;
    same("entries", &store.entries, &stored.entries)?;
    same("users", &store.users, &stored.users)
}

/// Brings tables up to the end of the logs, from their checkpoints on; with checkpoints at the end. `outputs` are those
/// that go to a timelines partition on the way.
///
/// # Errors
/// A record or a row does not read.
pub(crate) fn replayed(
    shared: &Shared,
    mut store: Store,
    outputs: &mut Vec<(Partition, v1::Output)>,
) -> Result<Store, String> {
    for partition in 0..shared.partitions.messages {
        conversations(shared, partition, &mut store, outputs)?;
    }
    for partition in 0..shared.partitions.timelines {
        timelines(shared, partition, &mut store)?;
    }
    Ok(store)
}

fn same<K: std::fmt::Debug + Ord, V: PartialEq + std::fmt::Debug>(
    what: &str,
    replayed: &std::collections::BTreeMap<K, V>,
    stored: &std::collections::BTreeMap<K, V>,
) -> Result<(), String> {
    if let Some((key, value)) = replayed.iter().find(|(key, value)| stored.get(key) != Some(value)) {
        return Err(format!("{what}: {key:?} is {:?}, a replay says {value:?}", stored.get(key)));
    }
    match stored.keys().find(|key| !replayed.contains_key(key)) {
        Some(key) => Err(format!("{what}: {key:?} is stored, a replay does not make it")),
        None => Ok(()),
    }
}

/// Where a checkpoint says to go on.
fn offset(checkpoint: Option<&Checkpoint>) -> usize {
    checkpoint.map_or(0, |c| usize::try_from(c.offset).unwrap_or(usize::MAX))
}

fn conversations(
    shared: &Shared,
    partition: u32,
    store: &mut Store,
    outputs: &mut Vec<(Partition, v1::Output)>,
) -> Result<(), String> {
    let checkpoint = store.checkpoints.get(&(Topic::Messages, partition)).cloned();
    let stage = ConversationStage::new(partition, shared.partitions.timelines, checkpoint.as_ref());
    let mut stage = stage.map_err(|e| e.to_string())?;
    let records = &shared.log(Topic::Messages, partition).records;
    for (append_us, bytes) in records.iter().skip(offset(checkpoint.as_ref())) {
        let record = v1::MessageRecord::decode(bytes.clone()).map_err(|e| e.to_string())?;
        if let Some(id) = ConversationStage::key(&record).filter(|id| !stage.is_loaded(id)) {
            let row = store.conversations.get(&id).cloned();
            stage.load(id, row).map_err(|e| e.to_string())?;
        }
        let mut effects = Vec::new();
        stage.step(*append_us, &record, false, &mut effects);
        for effect in effects {
            match effect {
                Effect::History(row) => store.put_history(&row)?,
                Effect::Output { partition, output } => outputs.push((partition, output)),
                Effect::Owner(_) => {}
            }
        }
    }
    stage.clone_dirty().iter().for_each(|row| store.save_conversation(row, true));
    let (tick, state) = (stage.tick(), stage.state());
    let end = Checkpoint { offset: records.len() as u64, tick, state };
    store.save_checkpoint(Topic::Messages, partition, &end);
    Ok(())
}

fn timelines(shared: &Shared, partition: u32, store: &mut Store) -> Result<(), String> {
    let mut stage = replay(shared, partition, store)?;
    let (sessions, users) = stage.clone_dirty();
    sessions.iter().for_each(|session| store.save_session(partition, session));
    users.iter().for_each(|row| store.save_user(row, true));
    let offset = shared.log(Topic::Timelines, partition).records.len() as u64;
    let end = Checkpoint { offset, tick: stage.tick(), state: stage.state() };
    store.save_checkpoint(Topic::Timelines, partition, &end);
    Ok(())
}

/// The state of a timelines partition after its whole log.
///
/// # Errors
/// A record does not read.
pub(crate) fn sessions(shared: &Shared, partition: u32) -> Result<TimelineStage, String> {
    replay(shared, partition, &mut Store::default())
}

/// Takes a timelines partition's records from the checkpoint on, and stores their entries.
fn replay(shared: &Shared, partition: u32, store: &mut Store) -> Result<TimelineStage, String> {
    let checkpoint = store.checkpoints.get(&(Topic::Timelines, partition)).cloned();
    let index = store.live_sessions(partition);
    let stage = TimelineStage::new(partition, shared.partitions.messages, checkpoint.as_ref(), index);
    let mut stage = stage.map_err(|e| e.to_string())?;
    let records = &shared.log(Topic::Timelines, partition).records;
    for (append_us, bytes) in records.iter().skip(offset(checkpoint.as_ref())) {
        let record = v1::TimelineRecord::decode(bytes.clone()).map_err(|e| e.to_string())?;
        let mut keys = Vec::new();
        stage.keys(&record, &mut keys);
        for user in keys {
            if !stage.is_loaded(&user) {
                let row = store.users.get(&user).cloned();
                stage.load(user, row).map_err(|e| e.to_string())?;
            }
        }
        let mut effects = Vec::new();
        stage.step(*append_us, &record, false, &mut effects);
        for effect in effects {
            if let TimelineEffect::Entry(row) = effect {
                store.put_entry(&row)?;
            }
        }
    }
    Ok(stage)
}
