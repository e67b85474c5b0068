//! Replays the whole log from nothing and compares: what is stored must be what a run without any fault
//! would have stored, to the byte.

use logic::conversation::{ConversationStage, Effect};
use logic::timeline::{Effect as TimelineEffect, TimelineStage};
use prost::Message;
use proto::v1;
use storage::log::Topic;

use crate::store::Store;
use crate::world::Shared;

/// Replays both logs and compares every row.
///
/// # Errors
/// The first difference.
pub(crate) fn same_rows(shared: &Shared) -> Result<(), String> {
    let mut store = Store::default();
    for partition in 0..shared.partitions.messages {
        conversations(shared, partition, &mut store)?;
    }
    for partition in 0..shared.partitions.timelines {
        timelines(shared, partition, &mut store)?;
    }
    let stored = &shared.store;
    same("history", &store.history, &stored.history)?;
    same("conversations", &store.conversations, &stored.conversations)?;
    same("entries", &store.entries, &stored.entries)?;
    same("users", &store.users, &stored.users)
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

fn conversations(shared: &Shared, partition: u32, store: &mut Store) -> Result<(), String> {
    let stage = ConversationStage::new(partition, shared.partitions.timelines, None);
    let mut stage = stage.map_err(|e| e.to_string())?;
    for (append_us, bytes) in &shared.log(Topic::Messages, partition).records {
        let record = v1::MessageRecord::decode(bytes.clone()).map_err(|e| e.to_string())?;
        if let Some(id) = ConversationStage::key(&record).filter(|id| !stage.is_loaded(id)) {
            stage.load(id, None).map_err(|e| e.to_string())?;
        }
        let mut effects = Vec::new();
        stage.step(*append_us, &record, false, &mut effects);
        for effect in effects {
            if let Effect::History(row) = effect {
                store.put_history(&row)?;
            }
        }
    }
    stage.clone_dirty().iter().for_each(|row| store.save_conversation(row, true));
    Ok(())
}

fn timelines(shared: &Shared, partition: u32, store: &mut Store) -> Result<(), String> {
    let mut stage = replay(shared, partition, |effect| match effect {
        TimelineEffect::Entry(row) => store.put_entry(&row),
        _ => Ok(()),
    })?;
    stage.clone_dirty().1.iter().for_each(|row| store.save_user(row));
    Ok(())
}

/// The state of a timelines partition after its whole log.
///
/// # Errors
/// A record does not read.
pub(crate) fn sessions(shared: &Shared, partition: u32) -> Result<TimelineStage, String> {
    replay(shared, partition, |_| Ok(()))
}

fn replay(
    shared: &Shared,
    partition: u32,
    mut each: impl FnMut(TimelineEffect) -> Result<(), String>,
) -> Result<TimelineStage, String> {
    let stage = TimelineStage::new(partition, shared.partitions.messages, None, Vec::new());
    let mut stage = stage.map_err(|e| e.to_string())?;
    for (append_us, bytes) in &shared.log(Topic::Timelines, partition).records {
        let record = v1::TimelineRecord::decode(bytes.clone()).map_err(|e| e.to_string())?;
        let mut keys = Vec::new();
        stage.keys(&record, &mut keys);
        for user in keys {
            if !stage.is_loaded(&user) {
                stage.load(user, None).map_err(|e| e.to_string())?;
            }
        }
        let mut effects = Vec::new();
        stage.step(*append_us, &record, false, &mut effects);
        effects.into_iter().try_for_each(&mut each)?;
    }
    Ok(stage)
}
