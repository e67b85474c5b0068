//! Histories: the bodies of conversations, 4,096 to a CQL partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::FutureExt;
use proto::limits::BUCKET;
use proto::{ConversationId, Tick};

use super::Cql;
use super::columns::{big, bound, limit as rows_max, number};
use super::room::ROW_BYTES;
use super::stretch::{Stretch, stretches};
use super::trouble::failed;
use crate::tables::{Answer, Direction, Histories, HistoryRow, StoreError};

/// Bytes of one batch: below the 50 KiB that servers refuse where a batch counts in full, and short enough that
/// others do not wait behind it.
pub(super) const BATCH_BYTES_MAX: usize = 32 * 1024;
/// Rows of one batch.
pub(super) const BATCH_ROWS_MAX: usize = 64;

impl Histories for Cql {
    fn put(&self, rows: Vec<HistoryRow>) -> Answer<'_, ()> {
        async move {
            let mut buckets: BTreeMap<(ConversationId, u64), Vec<HistoryRow>> = BTreeMap::new();
            for row in rows {
                buckets.entry((row.conversation, row.no / BUCKET)).or_default().push(row);
            }
            let batches: Vec<Vec<HistoryRow>> =
                buckets.into_values().flat_map(|rows| cut(rows, |row| row.entry.len())).collect();
            self.0.each(batches, |rows| self.put_batch(rows)).await.map(drop)
        }
        .boxed()
    }

    fn get<'a>(&'a self, keys: &'a [(ConversationId, u64)]) -> Answer<'a, Vec<Option<HistoryRow>>> {
        async move {
            let read = self.0.each(stretches(keys), |stretch| self.get_stretch(stretch)).await?;
            let found: BTreeMap<(ConversationId, u64), HistoryRow> =
                read.into_iter().flatten().map(|row| ((row.conversation, row.no), row)).collect();
            Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
        }
        .boxed()
    }

    fn page<'a>(
        &'a self,
        id: &'a ConversationId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
    ) -> Answer<'a, Vec<HistoryRow>> {
        async move {
            let mut page = Vec::new();
            let (mut bucket, last) = match direction {
                Direction::Forward => (from / BUCKET, to / BUCKET),
                Direction::Backward => (to / BUCKET, from / BUCKET),
            };
            while from <= to && page.len() < limit {
                let rows = self.page_bucket(id, (bucket, from, to), direction, limit - page.len()).await?;
                // Numbers are dense: past the end there is nothing to look for.
                let is_over = rows.is_empty() && matches!(direction, Direction::Forward);
                page.extend(rows);
                if bucket == last || is_over {
                    break;
                }
                bucket = if last > bucket { bucket + 1 } else { bucket - 1 };
            }
            Ok(page)
        }
        .boxed()
    }
}

impl Cql {
    async fn put_batch(&self, rows: Vec<HistoryRow>) -> Result<(), StoreError> {
        let bytes = rows.iter().map(|row| row.entry.len()).sum();
        let value = |row: HistoryRow| {
            let (id, at) = (row.conversation.as_bytes().to_vec(), big("at", row.at.0)?);
            let (bucket, no) = (big("bucket", row.no / BUCKET)?, big("no", row.no)?);
            Ok((id, bucket, no, at, row.entry, at))
        };
        let rows = rows.into_iter().map(value).collect::<Result<Vec<_>, StoreError>>()?;
        self.0.write_all(&self.0.statements.write_history, rows, bytes).await
    }

    async fn get_stretch(&self, (id, from, to): Stretch) -> Result<Vec<HistoryRow>, StoreError> {
        let rows = usize::try_from(to - from).unwrap_or(usize::MAX).saturating_add(1);
        self.page_bucket(&id, (from / BUCKET, from, to), Direction::Forward, rows).await
    }

    async fn page_bucket(
        &self,
        id: &ConversationId,
        (bucket, from, to): (u64, u64, u64),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let database = &self.0;
        let statement = match direction {
            Direction::Forward => &database.statements.page_forward,
            Direction::Backward => &database.statements.page_backward,
        };
        let key = (id.as_bytes().as_slice(), big("bucket", bucket)?);
        let values = (key.0, key.1, bound(from), bound(to), rows_max(limit));
        let rows = database.read(statement, values).await?;
        let mut page = Vec::new();
        for row in rows.rows::<(i64, i64, Bytes)>().map_err(failed)? {
            let (no, at, entry) = row.map_err(failed)?;
            let (no, at) = (number("no", no)?, Tick(number("at", at)?));
            page.push(HistoryRow { conversation: *id, no, at, entry });
        }
        Ok(page)
    }
}

/// Cuts the rows of one CQL partition into batches; a row that is larger than a batch goes alone.
pub(super) fn cut<T>(rows: Vec<T>, value_bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let size = ROW_BYTES + value_bytes(&row);
        if !batch.is_empty() && (bytes + size > BATCH_BYTES_MAX || batch.len() >= BATCH_ROWS_MAX) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(row);
    }
    batches.push(batch);
    batches
}

#[cfg(test)]
mod tests {
    use super::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, ROW_BYTES, cut};

    #[test]
    fn batches_are_bounded_and_lose_nothing() {
        let sizes: Vec<usize> = (0..500).map(|i| i * 97 % 9_000).chain([100_000]).collect();
        let batches = cut(sizes.clone(), |size| *size);
        for batch in &batches {
            assert!(batch.len() <= BATCH_ROWS_MAX);
            assert!(
                batch.len() == 1
                    || batch.iter().map(|size| ROW_BYTES + size).sum::<usize>() <= BATCH_BYTES_MAX
            );
        }
        assert_eq!(batches.concat(), sizes);
    }
}
