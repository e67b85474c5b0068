//! Timelines: the entries of users, 4,096 to a CQL partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::FutureExt;
use proto::limits::BUCKET;
use proto::{Tick, UserId};

use super::Cql;
use super::columns::{big, bound, limit as rows_max, number};
use super::histories::cut;
use super::trouble::failed;
use crate::tables::{Answer, EntryRow, StoreError, Timelines};

impl Timelines for Cql {
    fn put(&self, rows: Vec<EntryRow>) -> Answer<'_, ()> {
        async move {
            let mut buckets: BTreeMap<(UserId, u64), Vec<EntryRow>> = BTreeMap::new();
            for row in rows {
                buckets.entry((row.user.clone(), row.seq / BUCKET)).or_default().push(row);
            }
            let batches: Vec<Vec<EntryRow>> =
                buckets.into_values().flat_map(|rows| cut(rows, |row| row.row.len())).collect();
            self.0.each(batches, |rows| self.put_entries(rows)).await.map(drop)
        }
        .boxed()
    }

    fn after<'a>(&'a self, user: &'a UserId, after: u64, limit: usize) -> Answer<'a, Vec<EntryRow>> {
        async move {
            let mut page = Vec::new();
            let mut bucket = after.saturating_add(1) / BUCKET;
            while page.len() < limit {
                let rows = self.after_in(user, bucket, after, limit - page.len()).await?;
                // Seqs are dense: an empty bucket is the end.
                if rows.is_empty() {
                    break;
                }
                page.extend(rows);
                bucket += 1;
            }
            Ok(page)
        }
        .boxed()
    }
}

impl Cql {
    async fn put_entries(&self, rows: Vec<EntryRow>) -> Result<(), StoreError> {
        let bytes = rows.iter().map(|row| row.row.len()).sum();
        let value = |row: EntryRow| {
            let (user, at) = (row.user.to_string(), big("at", row.at.0)?);
            let (bucket, seq) = (big("bucket", row.seq / BUCKET)?, big("seq", row.seq)?);
            Ok((user, bucket, seq, at, row.row, at))
        };
        let rows = rows.into_iter().map(value).collect::<Result<Vec<_>, StoreError>>()?;
        self.0.write_all(&self.0.statements.write_entry, rows, bytes).await
    }

    async fn after_in(
        &self,
        user: &UserId,
        bucket: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let database = &self.0;
        let values = (user.as_str(), big("bucket", bucket)?, bound(after), rows_max(limit));
        let rows = database.read(&database.statements.read_timeline, values).await?;
        let mut page = Vec::new();
        for row in rows.rows::<(i64, i64, Bytes)>().map_err(failed)? {
            let (seq, at, row) = row.map_err(failed)?;
            let (seq, at) = (number("seq", seq)?, Tick(number("at", at)?));
            page.push(EntryRow { user: user.clone(), seq, at, row });
        }
        Ok(page)
    }
}
