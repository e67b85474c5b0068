//! What everyone reaches: the logs, the tables, the time, and who watches.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use prost::Message;
use proto::partition::Partition;
use proto::{ConversationId, UserId, v1};
use storage::log::{Partitions, Topic};

use crate::Mutation;
use crate::fault::Faults;
use crate::log::Partition as LogPartition;
use crate::store::Store;
use crate::witness::Witness;

/// What everyone reaches: the logs, the tables, the time.
pub struct Shared {
    /// The frozen counts.
    pub partitions: Partitions,
    logs: BTreeMap<(Topic, Partition), LogPartition>,
    /// The tables.
    pub store: Store,
    /// The clock of devices and nodes.
    pub now_us: u64,
    /// How far the log's clock is off.
    pub skew_us: i64,
    /// The tables answer nobody before this.
    pub slow_until_us: u64,
    /// What goes wrong.
    pub faults: Rc<Faults>,
    /// The rule that is broken, if any.
    pub mutation: Option<Mutation>,
    /// Syncs on their way to an owner: from which node, for which partition.
    pub asks: RefCell<Vec<(String, Partition, v1::SyncAsk)>>,
    /// What devices were told while it happened.
    pub witness: RefCell<Witness>,
    /// The tables in the middle of the schedule.
    pub snapshot: Option<Store>,
}

impl Shared {
    /// Empty logs and tables.
    #[must_use]
    pub fn new(partitions: Partitions, mutation: Option<Mutation>, faults: Rc<Faults>) -> Self {
        let mut logs = BTreeMap::new();
        for topic in [Topic::Messages, Topic::Timelines] {
            (0..partitions.of(topic)).for_each(|p| drop(logs.insert((topic, p), LogPartition::default())));
        }
        Self {
            partitions,
            logs,
            store: Store::default(),
            // So late that the log's clock may be an hour behind.
            now_us: 10_000_000_000,
            skew_us: 0,
            slow_until_us: 0,
            faults,
            mutation,
            asks: RefCell::default(),
            witness: RefCell::default(),
            snapshot: None,
        }
    }

    /// Whether this is the rule that is broken.
    #[must_use]
    pub fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The log's clock.
    #[must_use]
    pub fn log_us(&self) -> u64 {
        self.now_us.saturating_add_signed(self.skew_us)
    }

    /// Whether the tables answer.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.now_us < self.slow_until_us
    }

    /// Appends without a producer, so without its faults.
    pub fn append(&mut self, topic: Topic, partition: Partition, record: &impl Message) {
        let at = self.log_us();
        self.log_mut(topic, partition).records.push((at, record.encode_to_vec().into()));
    }

    /// One partition.
    #[must_use]
    pub fn log(&self, topic: Topic, partition: Partition) -> &LogPartition {
        self.logs.get(&(topic, partition)).expect("every partition is made at the beginning")
    }

    /// One partition, to append to.
    pub fn log_mut(&mut self, topic: Topic, partition: Partition) -> &mut LogPartition {
        self.logs.get_mut(&(topic, partition)).expect("every partition is made at the beginning")
    }

    /// Stored entries of a user after a seq, with their bodies, as far as they are contiguous.
    ///
    /// # Errors
    /// A row does not read.
    pub fn entries(&self, user: &UserId, after: u64, limit: usize) -> Result<Vec<v1::Entry>, String> {
        let mut entries = Vec::new();
        let range = (user.clone(), after + 1)..=(user.clone(), u64::MAX);
        for (row, seq) in self.store.entries.range(range).map(|(_, row)| row).zip(after + 1..).take(limit) {
            if row.seq != seq {
                break;
            }
            let row = v1::TimelineRow::decode(row.row.clone()).map_err(|e| e.to_string())?;
            let body = if row.no == 0 {
                row.inline
            } else {
                let id = ConversationId::from_slice(&row.conversation).map_err(|e| e.to_string())?;
                let off = u64::from(self.breaks(Mutation::PageBodyOff) && row.no > 1);
                let Some(history) = self.store.history.get(&(id, row.no - off)) else { break };
                history.entry.clone()
            };
            let entry = v1::Entry::decode(body).map_err(|e| e.to_string())?;
            entries.push(v1::Entry { seq, ..entry });
        }
        Ok(entries)
    }
}
