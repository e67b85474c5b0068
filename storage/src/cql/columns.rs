//! Numbers and names as CQL columns hold them, and back. What does not fit is an error that names the column:
//! a number that was bent to fit would be another row's. Pure.

use std::fmt::Display;
use std::str::FromStr;

use crate::tables::StoreError;

/// A number as a bigint. Ticks, numbers and seqs stay below 2^63.
pub(super) fn big(column: &str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| wrong(column, number))
}

/// The same back.
pub(super) fn number(column: &str, big: i64) -> Result<u64, StoreError> {
    u64::try_from(big).map_err(|_| wrong(column, big))
}

/// A count, partition or reactor as an int.
pub(super) fn int(column: &str, number: u32) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|_| wrong(column, number))
}

/// The same back.
pub(super) fn count(column: &str, int: i32) -> Result<u32, StoreError> {
    u32::try_from(int).map_err(|_| wrong(column, int))
}

/// The end of a range that is read: no row lies above what a bigint holds, so the highest is as good as any.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The most rows to read, as `LIMIT` takes it; no answer has more than an int.
pub(super) fn limit(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

/// An id from its text.
pub(super) fn id<T: FromStr>(column: &str, text: &str) -> Result<T, StoreError>
where
    T::Err: Display,
{
    text.parse().map_err(|error| StoreError::Failed(format!("column {column}: {error}")))
}

fn wrong(column: &str, number: impl Display) -> StoreError {
    StoreError::Failed(format!("column {column}: {number} is out of its range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_comes_back() {
        for n in [0, 1, i64::MAX.unsigned_abs()] {
            assert_eq!(number("at", big("at", n).unwrap()).unwrap(), n);
        }
        for n in [0, 1, i32::MAX.unsigned_abs()] {
            assert_eq!(count("shard", int("shard", n).unwrap()).unwrap(), n);
        }
    }

    #[test]
    fn what_does_not_fit_is_a_failure_that_names_the_column() {
        let wrong = [
            big("at", 1 << 63).map(drop),
            number("at", -1).map(drop),
            int("at", 1 << 31).map(drop),
            count("at", -1).map(drop),
            id::<proto::UserId>("at", "").map(drop),
        ];
        for wrong in wrong {
            let Err(StoreError::Failed(text)) = wrong else { panic!("{wrong:?}") };
            assert!(text.starts_with("column at: "), "{text}");
        }
    }

    #[test]
    fn a_range_ends_at_the_highest_number() {
        assert_eq!((bound(7), bound(u64::MAX)), (7, i64::MAX));
        assert_eq!((limit(7), limit(usize::MAX)), (7, i32::MAX));
    }
}
