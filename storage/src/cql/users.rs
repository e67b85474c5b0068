//! Users, their sessions by log partition, and checkpoints.

use bytes::Bytes;
use futures::FutureExt;
use proto::partition::Partition;
use proto::{Tick, UserId};

use super::Cql;
use super::columns::{big, count, id, int, number};
use super::schema::SESSION_SHARDS;
use super::trouble::failed;
use crate::log::Topic;
use crate::tables::{
    Answer, Checkpoint, Checkpoints, Fence, SessionRow, SessionWrite, StoreError, StoredUser, UserWrite,
    Users,
};

impl Users for Cql {
    fn load<'a>(&'a self, ids: &'a [UserId]) -> Answer<'a, Vec<Option<StoredUser>>> {
        async move { self.0.each(ids.to_vec(), |user| self.load_user(user)).await }.boxed()
    }

    fn save(
        &self,
        partition: Partition,
        sessions: Vec<SessionWrite>,
        users: Vec<UserWrite>,
    ) -> Answer<'_, ()> {
        async move {
            self.0.each(sessions, |write| self.save_session(partition, write)).await?;
            self.0.each(users, |write| self.save_user(write)).await.map(drop)
        }
        .boxed()
    }

    fn sessions(&self, partition: Partition) -> Answer<'_, Vec<SessionRow>> {
        async move {
            let shards = (0..SESSION_SHARDS).collect();
            let all = self.0.each(shards, |shard| self.shard(partition, shard)).await?;
            Ok(all.into_iter().flatten().collect())
        }
        .boxed()
    }
}

impl Cql {
    async fn load_user(&self, user: UserId) -> Result<Option<StoredUser>, StoreError> {
        let database = &self.0;
        let rows = database.read(&database.statements.read_user, (user.as_str(),)).await?;
        let row = rows.maybe_first_row::<(i64, Bytes)>().map_err(failed)?;
        row.map(|(at, row)| Ok(StoredUser { at: Tick(number("at", at)?), row })).transpose()
    }

    async fn save_user(&self, write: UserWrite) -> Result<(), StoreError> {
        let (database, at) = (&self.0, big("at", write.at.0)?);
        let (bytes, values) = (write.row.len(), (write.user.as_str(), at, write.row, at));
        database.write(&database.statements.write_user, values, bytes).await
    }

    async fn save_session(&self, partition: Partition, write: SessionWrite) -> Result<(), StoreError> {
        let (database, at) = (&self.0, big("at", write.at.0)?);
        let SessionRow { fence, user, device } = write.session;
        let shard = shard_of(&fence);
        let (partition, reactor) = (int("log_partition", partition)?, int("reactor", fence.reactor)?);
        let (incarnation, link) = (big("incarnation", fence.incarnation)?, big("link", fence.link)?);
        let statements = &database.statements;
        if write.live {
            let (node, user, device) = (fence.node.as_str(), user.as_str(), device.as_str());
            let values = (partition, shard, node, incarnation, reactor, link, user, device, at);
            database.write(&statements.write_session, values, 0).await
        } else {
            let values = (at, partition, shard, fence.node.as_str(), incarnation, reactor, link);
            database.write(&statements.drop_session, values, 0).await
        }
    }

    async fn shard(&self, partition: Partition, shard: i32) -> Result<Vec<SessionRow>, StoreError> {
        let database = &self.0;
        let rows = database
            .scan::<(String, i64, i32, i64, String, String)>(
                &database.statements.read_sessions,
                (int("log_partition", partition)?, shard),
            )
            .await?;
        let mut sessions = Vec::new();
        for (node, incarnation, reactor, link, user, device) in rows {
            let (incarnation, link) = (number("incarnation", incarnation)?, number("link", link)?);
            let fence = Fence { node, incarnation, reactor: count("reactor", reactor)?, link };
            sessions.push(SessionRow {
                fence,
                user: id("user_id", &user)?,
                device: id("device_id", &device)?,
            });
        }
        Ok(sessions)
    }
}

fn shard_of(fence: &Fence) -> i32 {
    // Link numbers carry a slot in their low bits; the counter above it spreads evenly. The low bits are taken
    // as they are: what is left of them is below the number of shards, a power of two.
    let mixed = fence.link ^ (fence.link >> 24);
    i32::from(mixed.to_le_bytes()[0]) % SESSION_SHARDS
}

const _: () = assert!(256 % SESSION_SHARDS == 0, "a byte must spread evenly over the shards");

impl Checkpoints for Cql {
    fn load(&self, topic: Topic, partition: Partition) -> Answer<'_, Option<Checkpoint>> {
        async move {
            let (database, values) = (&self.0, (topic.name(), int("log_partition", partition)?));
            let rows = database.read(&database.statements.read_checkpoint, values).await?;
            let row = rows.maybe_first_row::<(i64, i64, Bytes)>().map_err(failed)?;
            let checkpoint = |(offset, tick, state)| {
                let (offset, tick) = (number("next_offset", offset)?, Tick(number("tick", tick)?));
                Ok(Checkpoint { offset, tick, state })
            };
            row.map(checkpoint).transpose()
        }
        .boxed()
    }

    /// A write that was answered is with a quorum of the nodes, in memory and in their commit logs: everything
    /// stored before the checkpoint is there already, and a process of theirs that ends takes none of it along.
    /// When a commit log is on disk is what `commitlog_sync` says; with `periodic`, the default, a quorum whose
    /// machines all lose power within its period may lose what it answered, the checkpoint included.
    fn save(&self, topic: Topic, partition: Partition, checkpoint: Checkpoint) -> Answer<'_, ()> {
        async move {
            let (database, tick) = (&self.0, big("tick", checkpoint.tick.0)?);
            let (offset, state) = (big("next_offset", checkpoint.offset)?, checkpoint.state);
            let bytes = state.len();
            let values = (topic.name(), int("log_partition", partition)?, offset, tick, state, tick);
            database.write(&database.statements.write_checkpoint, values, bytes).await
        }
        .boxed()
    }
}
