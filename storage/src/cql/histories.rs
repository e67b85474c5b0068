//! Histories: the bodies of conversations, 4,096 to a CQL partition.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::FutureExt;
use proto::limits::BUCKET;
use proto::{ConversationId, Tick};

use super::session::failed;
use super::{Cql, big, number};
use crate::tables::{Answer, Direction, Histories, HistoryRow, StoreError};

/// Bytes of bodies in one batch; larger ones are what servers warn about.
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
            let stretches = self.0.each(stretches(keys), |stretch| self.get_stretch(stretch)).await?;
            let found: BTreeMap<(ConversationId, u64), HistoryRow> =
                stretches.into_iter().flatten().map(|row| ((row.conversation, row.no), row)).collect();
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
        let value = |row: HistoryRow| {
            let at = big(row.at.0);
            (row.conversation.as_bytes().to_vec(), big(row.no / BUCKET), big(row.no), at, row.entry, at)
        };
        let rows: Vec<_> = rows.into_iter().map(value).collect();
        self.0.write_all(&self.0.statements.write_history, rows).await
    }

    async fn get_stretch(&self, (id, from, to): Stretch) -> Result<Vec<HistoryRow>, StoreError> {
        let limit = usize::try_from(to - from).unwrap_or(usize::MAX).saturating_add(1);
        self.page_bucket(&id, (from / BUCKET, from, to), Direction::Forward, limit).await
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
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let values = (id.as_bytes().as_slice(), big(bucket), big(from), big(to), limit);
        let rows = database.read(statement, values).await?;
        let mut page = Vec::new();
        for row in rows.rows::<(i64, i64, Bytes)>().map_err(failed)? {
            let (no, at, entry) = row.map_err(failed)?;
            page.push(HistoryRow { conversation: *id, no: number(no), at: Tick(number(at)), entry });
        }
        Ok(page)
    }
}

/// Numbers of a conversation from one to another, both included, in one bucket.
type Stretch = (ConversationId, u64, u64);

/// What one request reads: a page of a timeline names many numbers of a few conversations, nearly one after
/// the other. Never more than twice what was asked for.
fn stretches(keys: &[(ConversationId, u64)]) -> Vec<Stretch> {
    let keys: BTreeSet<_> = keys.iter().copied().collect();
    let mut all: Vec<Stretch> = Vec::new();
    let mut count = 0;
    for (id, no) in keys {
        match all.last_mut() {
            Some((last, from, to))
                if *last == id && *from / BUCKET == no / BUCKET && no - *from < 2 * (count + 1) =>
            {
                *to = no;
                count += 1;
            }
            _ => {
                all.push((id, no, no));
                count = 1;
            }
        }
    }
    all
}

/// Cuts the rows of one CQL partition into batches.
pub(super) fn cut<T>(rows: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let size = bytes_of(&row);
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
    use proto::ConversationId;
    use proto::limits::BUCKET;

    use super::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, cut, stretches};

    #[test]
    fn numbers_nearly_in_a_row_are_read_at_once() {
        let id = |byte| ConversationId::from_slice(&[byte; 16]).unwrap();
        let (a, b) = (id(1), id(2));
        let of = |id, numbers: &[u64]| numbers.iter().map(move |no| (id, *no)).collect::<Vec<_>>();
        assert_eq!(stretches(&of(a, &[3, 1, 2, 2])), [(a, 1, 3)]);
        assert_eq!(stretches(&of(a, &[1, 3, 5, 50])), [(a, 1, 5), (a, 50, 50)]);
        assert_eq!(
            stretches(&of(a, &[BUCKET - 1, BUCKET])),
            [(a, BUCKET - 1, BUCKET - 1), (a, BUCKET, BUCKET)]
        );
        let both = [of(a, &[1]), of(b, &[2])].concat();
        assert_eq!(stretches(&both), [(a, 1, 1), (b, 2, 2)]);
        assert_eq!(stretches(&[]), []);
    }

    #[test]
    fn batches_are_bounded_and_lose_nothing() {
        let sizes: Vec<usize> = (0..500).map(|i| i * 97 % 9_000).chain([100_000]).collect();
        let batches = cut(sizes.clone(), |size| *size);
        for batch in &batches {
            assert!(batch.len() <= BATCH_ROWS_MAX);
            assert!(batch.len() == 1 || batch.iter().sum::<usize>() <= BATCH_BYTES_MAX);
        }
        assert_eq!(batches.concat(), sizes);
    }
}
