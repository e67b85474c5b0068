//! Users, their sessions by log partition, and checkpoints.

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use proto::partition::Partition;
use proto::{Tick, UserId};

use super::schema::SESSION_SHARDS;
use super::session::{Trouble, failed, unread};
use super::{Cql, big, int, number};
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
        Ok(row.map(|(at, row)| StoredUser { at: Tick(number(at)), row }))
    }

    async fn save_user(&self, write: UserWrite) -> Result<(), StoreError> {
        let (database, at) = (&self.0, big(write.at.0));
        let values = (write.user.as_str(), at, write.row, at);
        database.write(&database.statements.write_user, values).await
    }

    async fn save_session(&self, partition: Partition, write: SessionWrite) -> Result<(), StoreError> {
        let (database, at) = (&self.0, big(write.at.0));
        let SessionRow { fence, user, device } = write.session;
        let shard = shard_of(&fence);
        let (incarnation, reactor, link) = (big(fence.incarnation), int(fence.reactor), big(fence.link));
        let statements = &database.statements;
        if write.live {
            let place = (int(partition), shard, fence.node.as_str(), incarnation, reactor, link);
            let values =
                (place.0, place.1, place.2, place.3, place.4, place.5, user.as_str(), device.as_str(), at);
            database.write(&statements.write_session, values).await
        } else {
            let values = (at, int(partition), shard, fence.node.as_str(), incarnation, reactor, link);
            database.write(&statements.drop_session, values).await
        }
    }

    async fn shard(&self, partition: Partition, shard: u64) -> Result<Vec<SessionRow>, StoreError> {
        let database = &self.0;
        let shard = i32::try_from(shard).unwrap_or(0);
        let prepared = database.statements.read_sessions.clone();
        let request = async {
            let pager = database.session.execute_iter(prepared, (int(partition), shard)).await?;
            Ok::<_, Trouble>(pager)
        };
        let pager = database.request(request).await?;
        let mut rows = pager.rows_stream::<(String, i64, i32, i64, String, String)>().map_err(failed)?;
        let mut sessions = Vec::new();
        while let Some((node, incarnation, reactor, link, user, device)) =
            rows.try_next().await.map_err(unread)?
        {
            let reactor = u32::try_from(reactor).unwrap_or(0);
            let fence = Fence { node, incarnation: number(incarnation), reactor, link: number(link) };
            let (user, device) = (user.parse().map_err(failed)?, device.parse().map_err(failed)?);
            sessions.push(SessionRow { fence, user, device });
        }
        Ok(sessions)
    }
}

fn shard_of(fence: &Fence) -> i32 {
    // Link numbers carry a slot in their low bits; the counter above it spreads evenly.
    let mixed = fence.link ^ (fence.link >> 24);
    i32::try_from(mixed % SESSION_SHARDS).unwrap_or(0)
}

impl Checkpoints for Cql {
    fn load(&self, topic: Topic, partition: Partition) -> Answer<'_, Option<Checkpoint>> {
        async move {
            let (database, values) = (&self.0, (topic.name(), int(partition)));
            let rows = database.read(&database.statements.read_checkpoint, values).await?;
            let row = rows.maybe_first_row::<(i64, i64, Bytes)>().map_err(failed)?;
            Ok(row.map(|(offset, tick, state)| {
                let (offset, tick) = (number(offset), Tick(number(tick)));
                Checkpoint { offset, tick, state }
            }))
        }
        .boxed()
    }

    /// A quorum that has answered a row has it on its commit log: everything stored before is there already.
    fn save(&self, topic: Topic, partition: Partition, checkpoint: Checkpoint) -> Answer<'_, ()> {
        async move {
            let (database, tick) = (&self.0, big(checkpoint.tick.0));
            let (offset, state) = (big(checkpoint.offset), checkpoint.state);
            let values = (topic.name(), int(partition), offset, tick, state, tick);
            database.write(&database.statements.write_checkpoint, values).await
        }
        .boxed()
    }
}
