//! Shares the partitions out through consumer groups that never fetch: what a member is assigned is paused at
//! once. A group for each topic: in one for both, the assignor evens out the sum, and may well give one process
//! all of the messages and another all of the timelines.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::place::Place;
use super::{config, context, topics};
use crate::log::{Assignment, LogError, Membership, Partition, Topic};

/// How long the serving thread may take to notice that the member leaves.
const SERVE: Duration = Duration::from_millis(50);
/// How long leaving may take before it goes on without this.
const LEAVE: Duration = Duration::from_secs(2);

/// Which time of being owned this is, by partition.
type Owned = BTreeMap<(Topic, Partition), u64>;

pub(super) struct KafkaMembership {
    view: Arc<View>,
    /// What was told to be owned.
    told: Owned,
    stop: Arc<AtomicBool>,
    left: Receiver<()>,
}

/// What the groups say.
#[derive(Default)]
struct View {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    owned: Owned,
    times: u64,
    failed: Option<LogError>,
}

impl View {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KafkaMembership {
    pub(super) fn join(place: &Place) -> Result<Self, LogError> {
        let (leaving, left) = channel();
        let joined = Self { view: Arc::default(), told: Owned::new(), stop: Arc::default(), left };
        for topic in [Topic::Messages, Topic::Timelines] {
            joined.serve(place, topic, leaving.clone())?;
        }
        Ok(joined)
    }

    /// Joins the group of a topic, on a thread of its own; that drops `leaving` once it has left.
    fn serve(&self, place: &Place, topic: Topic, leaving: Sender<()>) -> Result<(), LogError> {
        let context = Group { view: self.view.clone(), place: place.clone() };
        let failed = |error: KafkaError| topics::failure(place, &error);
        let consumer =
            BaseConsumer::from_config_and_context(&config::member(place, topic), context).map_err(failed)?;
        consumer.subscribe(&[&place.topic(topic)]).map_err(failed)?;
        let stop = self.stop.clone();
        let serve = move || {
            while !stop.load(Ordering::Acquire) {
                if let Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) = consumer.poll(SERVE) {
                    consumer.context().failed(&error);
                }
            }
            drop(consumer);
            drop(leaving);
        };
        let thread = thread::Builder::new().name(format!("kafka-{}", topic.name())).spawn(serve);
        thread.map(drop).map_err(|error| LogError::Failed(error.to_string()))
    }

    async fn change(&mut self) -> Result<Assignment, LogError> {
        loop {
            let view = self.view.clone();
            {
                let state = view.lock();
                if let Some(change) = difference(&mut self.told, &state.owned) {
                    return Ok(change);
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
            }
            // A permit stays where the change came before this: nothing is missed.
            view.changed.notified().await;
        }
    }
}

impl Membership for KafkaMembership {
    fn next(&mut self) -> BoxFuture<'_, Result<Assignment, LogError>> {
        self.change().boxed()
    }
}

impl Drop for KafkaMembership {
    /// Leaves the group, so that the others need not wait for the session to time out.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.left.recv_timeout(LEAVE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("leaving the group takes long: it goes on by itself");
        }
    }
}

/// The next change that turns what was told into what is, noted as told. Losses come first.
fn difference(told: &mut Owned, owned: &Owned) -> Option<Assignment> {
    let gone = told.iter().find(|(spot, time)| owned.get(*spot) != Some(*time)).map(|(spot, _)| *spot);
    if let Some((topic, partition)) = gone {
        told.remove(&(topic, partition));
        return Some(Assignment::Revoked(topic, partition));
    }
    let (&(topic, partition), time) = owned.iter().find(|(spot, _)| !told.contains_key(*spot))?;
    told.insert((topic, partition), *time);
    Some(Assignment::Assigned(topic, partition))
}

/// Takes a group's assignments in.
struct Group {
    view: Arc<View>,
    place: Place,
}

impl Group {
    fn spots(&self, list: &TopicPartitionList) -> Vec<(Topic, Partition)> {
        let spot =
            |topic: &str, partition| Some((self.place.find(topic)?, Partition::try_from(partition).ok()?));
        list.elements().iter().filter_map(|element| spot(element.topic(), element.partition())).collect()
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // From the end, so that nothing is fetched before the pause and no offset need be committed.
        list.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(list)?;
        consumer.pause(list)?;
        let mut state = self.view.lock();
        state.times += 1;
        let time = state.times;
        state.owned.extend(self.spots(list).into_iter().map(|spot| (spot, time)));
        Ok(())
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let spots = self.spots(list);
        self.view.lock().owned.retain(|spot, _| !spots.contains(spot));
        consumer.incremental_unassign(list)
    }

    /// It is over: what was owned is not, any more.
    fn failed(&self, error: &KafkaError) {
        tracing::error!(%error, "the membership failed");
        let mut state = self.view.lock();
        state.owned.clear();
        state.failed = Some(topics::failure(&self.place, error));
        drop(state);
        self.view.changed.notify_one();
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        context::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka member");
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, list)
        } else {
            self.revoked(consumer, list)
        };
        match done {
            Ok(()) => self.view.changed.notify_one(),
            Err(error) => self.failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_once_losses_first() {
        let (a, b, c) = ((Topic::Messages, 0), (Topic::Messages, 1), (Topic::Timelines, 0));
        let mut told = Owned::from([(a, 1), (b, 1)]);
        // b was lost and won again, unseen; c is new.
        let owned = Owned::from([(a, 1), (b, 2), (c, 2)]);
        let mut changes = Vec::new();
        while let Some(change) = difference(&mut told, &owned) {
            changes.push(change);
        }
        let expected =
            [Assignment::Revoked(b.0, b.1), Assignment::Assigned(b.0, b.1), Assignment::Assigned(c.0, c.1)];
        assert_eq!((changes.as_slice(), told), (expected.as_slice(), owned));
    }
}
